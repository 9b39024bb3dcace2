"""PostgreSQL: read-only transactions with `statement_timeout`, whose rows come as CSV straight into columns.

`COPY (query) TO STDOUT` costs half the CPU time of rows as Python objects, and a fraction of their memory. It takes
neither parameters nor statements other than queries: those are sent by the extended protocol, read in chunks.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from itertools import islice
from typing import Any
from urllib.parse import quote

import polars as pl
import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.types.string import TextLoader
from psycopg.waiting import Wait

from exporter.collectors.base import Collection
from exporter.collectors.columns import frame_of_chunks, joined
from exporter.collectors.sockets import another, shut_down
from exporter.collectors.sql_parameters import numbered
from exporter.collectors.sql_session import Answer, Statement, Target, no_rows, one_line
from exporter.errors import CollectError, Denied, QueryRefused, TimedOut, Unauthorized, Unreachable
from exporter.mapping.plain_text import plain_text

_SHORTEST_CONNECT_TIMEOUT = 2  # libpq takes whole seconds, and no fewer
_CONNECTION = {
    "application_name": "sentinel-exporter",
    # A peer that vanished without a word is noticed after ten seconds of unanswered data, half a minute of silence.
    "tcp_user_timeout": "10000",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "2",
}
_UNAUTHORIZED = ("password authentication failed", "no password supplied", "certificate authentication failed")
_DENIED = (
    "authentication failed",
    "no pg_hba.conf entry",
    "permission denied",
    "is not permitted to log in",
    "requires a valid client certificate",
)
_QUERY = re.compile(r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*(?:SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE | re.DOTALL)
_BOOL, _BYTEA, _TEXT = 16, 17, 25
_TYPES: dict[int, type[pl.DataType]] = {
    20: pl.Int64, 21: pl.Int64, 23: pl.Int64, 26: pl.Int64, 700: pl.Float64, 701: pl.Float64,
}  # fmt: skip
_BYTES_AT_ONCE = 1 << 20
_ROWS_AT_ONCE = 20_000


class PostgresqlSession:
    """One connection. Every collection is one transaction."""

    def __init__(self, target: Target, collection: Collection) -> None:
        self._place = target.place
        self._collection = collection
        self.spent = False
        self.opened = collection.clock()
        try:
            self._connection = psycopg.connect(
                autocommit=True, context=_as_text(), **_connection_options(target, collection.remaining())
            )
        except psycopg.Error as error:
            raise self._failure(error, connecting=True) from None
        self._socket = another(self._connection.fileno())

    def begin(self, collection: Collection) -> None:
        self._collection = collection
        milliseconds = max(1, int(collection.remaining() * 1000))
        settings = {
            "statement_timeout": milliseconds,
            "cursor_tuple_fraction": 1,
            "extra_float_digits": 3,  # up to version 11, what a number needs to be read back as the same
            "bytea_output": "hex",
            "datestyle": "ISO",
        }
        words = "; ".join(f"SET LOCAL {name} = {value}" for name, value in settings.items())
        with self._failures():
            self._connection.execute(f"BEGIN READ ONLY; {words}".encode())

    def fetch(self, statement: Statement, wanted: Sequence[str], *, limit: int) -> Answer:
        query = statement.query.strip().rstrip(";")
        with self._failures():
            # What holds a semicolon might end the parentheses of COPY, so that one that is a value goes the other way.
            if not statement.parameters and ";" not in query and _QUERY.match(query):
                return self._copied(query, wanted, limit)
            return self._streamed(statement, wanted, limit)

    def end(self) -> None:
        with self._failures():
            self._connection.execute("ROLLBACK")

    def cancel(self) -> None:
        self.spent = True
        threading.Thread(target=self._break_off, name="cancel-postgresql", daemon=True).start()

    def close(self) -> None:
        self._connection.close()
        self._socket.close()

    def _break_off(self) -> None:
        """Have the server end the query, and end the wait for it in any case."""
        with contextlib.suppress(psycopg.Error, OSError):
            self._connection.cancel_safe(timeout=2)
        shut_down(self._socket)

    def _copied(self, query: str, wanted: Sequence[str], limit: int) -> Answer:
        described = self._described(query)
        if not described.nfields:
            raise no_rows()
        names = [(described.fname(i) or b"").decode("utf-8", "replace") for i in range(described.nfields)]
        types = [described.ftype(i) for i in range(described.nfields)]
        columns = {names.index(name): name for name in wanted if names.count(name) == 1}
        schema = {str(i): _TYPES.get(kind, pl.String) for i, kind in enumerate(types)}
        self._connection.pgconn.send_query(f"COPY ({query}\n) TO STDOUT (FORMAT csv)".encode())
        self._result()
        frames, count = [_parsed(b"", schema, list(columns))], 0
        for lines, rows in self._line_chunks(limit):
            count += rows
            frames.append(_parsed(lines, schema, list(columns)))
        self.spent = self.spent or count >= limit
        frame = joined(frames).rename({str(i): name for i, name in columns.items()})
        return Answer(names, _typed(frame, {name: types[i] for i, name in columns.items()}), count)

    def _described(self, query: str) -> PGresult:
        """Names and types of the columns; parsed on its own, the query cannot reach out of what COPY puts around it."""
        self._connection.pgconn.send_prepare(b"", query.encode())
        self._result()
        self._connection.pgconn.send_describe_prepared(b"")
        return self._result()

    def _line_chunks(self, limit: int) -> Iterator[tuple[bytes, int]]:
        """At most `limit` rows of a COPY, each a line of CSV: texts that are not empty, and how many are in each."""
        receive = self._connection.pgconn.get_copy_data
        lines, rows, count = BytesIO(), 0, 0
        while count < limit:
            size, line = receive(1)  # never waits, for it would keep all other threads waiting
            if size > 0:
                lines.write(line)
                rows += 1
                count += 1
            elif size == 0:
                self._collection.remaining()
                self._connection.wait(_more(self._connection.pgconn))
            else:
                self._result()
                break
            if lines.tell() >= _BYTES_AT_ONCE:
                yield lines.getvalue(), rows
                lines, rows = BytesIO(), 0
        if rows:
            yield lines.getvalue(), rows

    def _result(self) -> PGresult:
        """What the server answers to what was sent, when it has; its error is raised."""
        results: list[PGresult] = self._connection.wait(generators.execute(self._connection.pgconn))
        for result in results:
            if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.COPY_OUT):
                raise psycopg.errors.error_from_result(result)
        return results[-1]

    def _streamed(self, statement: Statement, wanted: Sequence[str], limit: int) -> Answer:
        query, values = numbered(statement)
        with contextlib.closing(psycopg.RawCursor(self._connection)) as cursor:
            rows = cursor.stream(query.encode(), values, size=_ROWS_AT_ONCE)
            first = list(islice(rows, 1))
            if cursor.description is None:
                raise no_rows()
            names = [column.name for column in cursor.description]

            def fetch(count: int) -> list[tuple[Any, ...]]:
                found = [*first, *islice(rows, count - len(first))]
                first.clear()
                return found

            frame, count = frame_of_chunks(names, fetch, wanted, limit)
            self.spent = self.spent or count >= limit
            rows.close()  # type: ignore[attr-defined] # a generator, though declared an iterator
            return Answer(names, frame, count)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._failure(error) from None

    def _failure(self, error: psycopg.Error, *, connecting: bool = False) -> CollectError:
        message = f"PostgreSQL at {self._place}: {one_line(error)}"
        if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.ConnectionTimeout):
            return TimedOut(message)
        if connecting and any(text in message for text in _UNAUTHORIZED):
            return Unauthorized(message)
        if isinstance(error, psycopg.errors.InsufficientPrivilege) or any(text in message for text in _DENIED):
            return Denied(message)
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return Unreachable(message)
        return QueryRefused(message)


def _more(link: PGconn) -> PQGen[None]:
    """Wait for the server to send more, and take it."""
    yield Wait.R
    link.consume_input()


def _connection_options(target: Target, seconds: float) -> dict[str, Any]:
    """What libpq is told: our own settings, those of the URL, and above all those of the configuration."""
    if target.options:  # read from a whole URL, because libpq takes options only there
        options = dict(conninfo_to_dict(f"postgresql:///{quote(target.database, safe='')}?{target.options}"))
    else:
        options = {"dbname": target.database}
    given = {"host": target.host, "port": target.port, "user": target.username, "password": target.password}
    if target.tls is not None:
        given["sslmode"] = target.tls.mode
        given |= {"sslcert": target.tls.cert_file, "sslkey": target.tls.key_file}
        if target.tls.mode.startswith("verify"):
            given["sslrootcert"] = target.tls.authorities  # psycopg's own library knows none
    limit = {"connect_timeout": max(_SHORTEST_CONNECT_TIMEOUT, int(seconds))}
    given["client_encoding"] = "utf8"
    return _CONNECTION | limit | options | {key: value for key, value in given.items() if value is not None}


@cache
def _as_text() -> AdaptersMap:
    """Adapters that leave what is neither a small number nor true or false in the server's own exact text."""
    adapters = AdaptersMap(psycopg.adapters)
    for kind in psycopg.adapters.types:
        if kind.oid not in _TYPES and kind.oid != _BOOL:
            adapters.register_loader(kind.oid, TextLoader)
        if kind.array_oid:
            adapters.register_loader(kind.array_oid, TextLoader)
    return adapters


def _parsed(lines: bytes, schema: dict[str, type[pl.DataType]], columns: list[int]) -> pl.DataFrame:
    """Lines of CSV; unquoted nothing is NULL, a quoted one is empty text."""
    if not lines or not columns:
        return pl.DataFrame(schema={str(i): schema[str(i)] for i in columns})
    return pl.read_csv(lines, has_header=False, schema=schema, columns=columns)


def _typed(frame: pl.DataFrame, types: dict[str, int]) -> pl.DataFrame:
    """Columns of what COPY writes in words: `t` and `f`, and bytes in hexadecimal."""
    words = [pl.col(name) == "t" for name, kind in types.items() if kind == _BOOL]
    data = [name for name, kind in types.items() if kind == _BYTEA]
    frame = frame.with_columns(words)
    return frame.with_columns(plain_text(frame[name].str.slice(2).str.decode("hex")) for name in data)
