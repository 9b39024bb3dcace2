"""MySQL and MariaDB: read-only transactions with the server's own limit on time, read row by row."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pymysql
from pymysql.constants import CR, ER, FIELD_TYPE
from pymysql.converters import conversions
from pymysql.cursors import SSCursor

from exporter.collectors.base import Collection
from exporter.collectors.columns import frame_of_chunks
from exporter.collectors.sockets import shut_down
from exporter.collectors.sql_parameters import percent_named
from exporter.collectors.sql_session import Answer, Statement, Target, Tls, no_rows, one_line
from exporter.errors import CollectError, Denied, QueryRefused, TimedOut, Unauthorized, Unreachable

_DENIED = {ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR}
_UNAUTHORIZED = {ER.ACCESS_DENIED_ERROR, 1698, 1862, 3118, 4151}  # also: no password, expired, locked twice
_TIMED_OUT = {1317, 1969, 3024}  # interrupted; max_statement_time (MariaDB); max_execution_time (MySQL)
_UNREACHABLE = {
    CR.CR_CONNECTION_ERROR,
    CR.CR_CONN_HOST_ERROR,
    CR.CR_SERVER_GONE_ERROR,
    CR.CR_SERVER_LOST,
    CR.CR_UNKNOWN_HOST,
    0,
    1040,  # too many connections
    1053,  # server shutdown in progress
    1205,  # lock wait timeout
    1927,  # connection was killed
}
_GRACE = 0.5  # seconds by which the socket waits longer than the server's limit
_LONGEST_CHECK = 5.0  # seconds in which a kept connection must answer
_AS_TEXT = (
    FIELD_TYPE.DECIMAL,
    FIELD_TYPE.NEWDECIMAL,
    FIELD_TYPE.DATE,
    FIELD_TYPE.NEWDATE,
    FIELD_TYPE.TIME,
    FIELD_TYPE.DATETIME,
    FIELD_TYPE.TIMESTAMP,
)  # exact, and no object for each value


class _Rows(SSCursor):
    """A cursor that can stop before the last row; closing one reads all of them."""

    def abandon(self) -> None:
        """Read no more. The connection must be closed."""
        result = getattr(self, "_result", None)
        if result is not None:
            result.unbuffered_active = False
        self.connection: Any = None


class MysqlSession:
    """One connection. Every collection is one transaction."""

    def __init__(self, target: Target, collection: Collection) -> None:
        self._place = target.place
        self._collection = collection
        self.spent = False
        self.opened = collection.clock()
        self._options: dict[str, Any] = {
            "host": target.host,
            "port": target.port or 3306,
            "user": target.username,
            "password": (target.password or "").encode(),
            "database": target.database,
            "charset": "utf8mb4",
            "program_name": "sentinel-exporter",
            "init_command": "SET SESSION TRANSACTION READ ONLY",  # what ends a transaction, as a CREATE, is held too
            "conv": {kind: convert for kind, convert in conversions.items() if kind not in _AS_TEXT},
        }
        with self._failures(connecting=True):
            self._options |= _tls_options(target.tls)
            self._connection = self._connected(collection.remaining())
        self._answers_within(_LONGEST_CHECK)
        self._is_mariadb = "mariadb" in str(self._connection.get_server_info()).lower()  # type: ignore[no-untyped-call] # pymysql's stubs

    def begin(self, collection: Collection) -> None:
        self._collection = collection
        left = collection.remaining()
        self._answers_within(min(left, _LONGEST_CHECK))
        with self._failures(), contextlib.closing(self._connection.cursor()) as cursor:
            if self._is_mariadb:
                cursor.execute(f"SET SESSION max_statement_time = {left:.3f}")
            else:
                cursor.execute(f"SET SESSION max_execution_time = {max(1, int(left * 1000))}")
            cursor.execute("START TRANSACTION READ ONLY")
        self._answers_within(left + _GRACE)

    def fetch(self, statement: Statement, wanted: Sequence[str], *, limit: int) -> Answer:
        cursor = self._connection.cursor(_Rows)
        try:
            with self._failures():
                self._limit_rows(limit)
                cursor.execute(*percent_named(statement))
                if cursor.description is None:
                    raise no_rows()
                names = [column[0] for column in cursor.description]
                frame, count = frame_of_chunks(names, cursor.fetchmany, wanted, limit)
                if count < limit:
                    cursor.close()
                else:
                    self.spent = True
                return Answer(names, frame, count)
        finally:
            cursor.abandon()

    def end(self) -> None:
        self._answers_within(_LONGEST_CHECK)
        with self._failures():
            self._connection.rollback()

    def cancel(self) -> None:
        self.spent = True
        threading.Thread(target=self._break_off, name="cancel-mysql", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(pymysql.Error, OSError):  # already closed, by `cancel` or by the server
            self._connection.close()

    def _connected(self, seconds: float) -> pymysql.Connection[Any]:
        return pymysql.connect(
            connect_timeout=max(1, int(seconds)), read_timeout=seconds, write_timeout=seconds, **self._options
        )

    def _break_off(self) -> None:
        """Have the server end the query, over another connection, and end the wait for it in any case."""
        with contextlib.suppress(pymysql.Error, OSError), contextlib.closing(self._connected(2.0)) as other:
            other.cursor().execute(f"KILL QUERY {self._connection.thread_id()}")  # type: ignore[no-untyped-call] # pymysql's stubs
        sock = getattr(self._connection, "_sock", None)
        if sock is not None:
            shut_down(sock)

    def _limit_rows(self, limit: int) -> None:
        """Have the server stop early; a query with a LIMIT of its own takes no notice."""
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute(f"SET SESSION sql_select_limit = {limit}")

    def _answers_within(self, seconds: float) -> None:
        """Wait that long for each answer from now on; PyMySQL has a public name for it only when connecting."""
        self._connection._read_timeout = self._connection._write_timeout = seconds  # type: ignore[attr-defined] # noqa: SLF001 - see above

    @contextlib.contextmanager
    def _failures(self, *, connecting: bool = False) -> Iterator[None]:
        try:
            yield
        except (pymysql.Error, OSError) as error:
            raise self._failure(error, connecting=connecting) from None

    def _failure(self, error: Exception, *, connecting: bool) -> CollectError:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else None
        text = str(error.args[1]) if code is not None and len(error.args) > 1 else one_line(error)
        message = f"MySQL at {self._place}: {text}" + (f" (error {code})" if code else "")
        late = self._collection.clock() >= self._collection.deadline
        if code in _TIMED_OUT or (late and ("timed out" in text or code in _UNREACHABLE)):
            return TimedOut(message)
        if connecting and code in _UNAUTHORIZED:
            return Unauthorized(message)
        if code in _DENIED:
            return Denied(message)
        if code in _UNREACHABLE or isinstance(error, OSError | pymysql.InterfaceError):
            return Unreachable(message)
        return QueryRefused(message)


def _tls_options(tls: Tls | None) -> dict[str, Any]:
    """PyMySQL's own names. Without any, it encrypts where the server can."""
    if tls is None:
        return {}
    if tls.mode == "disable":
        return {"ssl_disabled": True}
    given: dict[str, Any] = {"ssl_verify_cert": tls.mode != "require", "ssl_verify_identity": tls.mode == "verify-full"}
    if tls.mode == "require":  # only a dictionary says so without checking anything
        given = {"ssl": {"verify_mode": False, "check_hostname": False}}
        return given | ({"ssl": given["ssl"] | {"cert": tls.cert_file, "key": tls.key_file}} if tls.cert_file else {})
    given["ssl_ca"] = tls.authorities
    return given | ({"ssl_cert": tls.cert_file, "ssl_key": tls.key_file} if tls.cert_file else {})
