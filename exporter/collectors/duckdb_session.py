"""DuckDB: the file is opened read-only and shut off from everything beside it; rows come as Arrow."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped] # it ships no types

from exporter.collectors.base import Collection
from exporter.collectors.columns import joined
from exporter.collectors.sql_parameters import dollar_named
from exporter.collectors.sql_session import Answer, Statement, Target, no_rows, one_line
from exporter.errors import BadAnswer, CollectError, QueryRefused, TimedOut, Unreachable

_ROWS_AT_ONCE = 100_000
_IN_MEMORY = ":memory:"
_INTERRUPT_EVERY = 0.05  # seconds


class DuckdbSession:
    """One connection to a file that another program writes, for one collection.

    It is closed soon, for as long as it is open nobody can write.
    """

    def __init__(self, target: Target, collection: Collection) -> None:
        self._path = target.database
        self.spent = False
        self.opened = collection.clock()
        settings: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": target.external_access,
            "autoinstall_known_extensions": False,
            "lock_configuration": True,
        }
        with self._failures():
            self._connection = duckdb.connect(self._path, read_only=self._path != _IN_MEMORY, config=settings)
        self._collection = collection
        self._ended = threading.Event()
        self._ended.set()

    def begin(self, collection: Collection) -> None:
        self._collection = collection

    def fetch(self, statement: Statement, wanted: Sequence[str], *, limit: int) -> Answer:
        query, values = dollar_named(statement)
        alarm = threading.Timer(self._collection.remaining(), self._interrupt)
        alarm.daemon = True
        self._ended.clear()
        alarm.start()
        try:
            self._collection.remaining()  # for one that was cancelled before, nobody interrupts any more
            with self._failures():
                self._accept(query)
                result = self._connection.execute(query, values or None)
                names = [column[0] for column in result.description]
                return self._read(result.to_arrow_reader(_ROWS_AT_ONCE), names, wanted, limit)
        finally:
            self._ended.set()
            alarm.cancel()

    def end(self) -> None:
        """The file is closed after each collection."""

    def cancel(self) -> None:
        self.spent = True
        self._interrupt()

    def close(self) -> None:
        self._connection.close()

    def _accept(self, query: str) -> None:
        """A single query and nothing else, for a file may well be written by a COPY."""
        statements = self._connection.extract_statements(query)
        if len(statements) != 1:
            raise QueryRefused(f"DuckDB: the query has {len(statements)} statements: write one SELECT statement")
        if statements[0].type != duckdb.StatementType.SELECT:
            kind = statements[0].type.name
            raise QueryRefused(f"DuckDB: the session is read-only, and {kind} is no SELECT: write one SELECT statement")

    def _read(self, batches: pa.RecordBatchReader, names: list[str], wanted: Sequence[str], limit: int) -> Answer:
        if not names:
            raise no_rows()
        found = [name for name in wanted if names.count(name) == 1]
        positions = [names.index(name) for name in found]
        empty = pa.schema([batches.schema.field(position) for position in positions]).empty_table()
        frames, count = [_plain(pl.from_arrow(empty))], 0
        for batch in batches:
            taken = batch.slice(0, limit - count)
            count += len(taken)
            frames.append(_plain(pl.from_arrow(taken.select(positions))) if found else pl.DataFrame())
            if count >= limit:
                break
        return Answer(names, joined(frames), count)

    def _interrupt(self) -> None:
        """Until the query has ended: DuckDB forgets an interrupt that comes before it runs anything."""
        while not self._ended.is_set():
            with contextlib.suppress(duckdb.Error):  # closed meanwhile
                self._connection.interrupt()
            self._ended.wait(_INTERRUPT_EVERY)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, pa.ArrowException) as error:
            raise self._failure(error) from None
        except pl.exceptions.PolarsError as error:
            raise BadAnswer(f"DuckDB: a column's type cannot be read: {one_line(error)}; CAST it to VARCHAR") from None

    def _failure(self, error: Exception) -> CollectError:
        message = one_line(error)
        if isinstance(error, duckdb.InterruptException) or "INTERRUPT" in message:
            return TimedOut("the query was cancelled at the source's timeout")
        if isinstance(error, duckdb.IOException | duckdb.ConnectionException):  # the latter while this process writes
            if self._path != _IN_MEMORY and not Path(self._path).is_file():
                return Unreachable(f"there is no database file {self._path}")
            return Unreachable(f"DuckDB: {message}")
        return QueryRefused(f"DuckDB: {message}")


def _plain(frame: pl.DataFrame | pl.Series) -> pl.DataFrame:
    """Words of an enumeration as text."""
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
