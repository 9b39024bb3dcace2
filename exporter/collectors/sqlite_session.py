"""SQLite: the file is opened read-only, and a query is interrupted at the deadline."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from exporter.collectors.base import Collection
from exporter.collectors.columns import frame_of_chunks
from exporter.collectors.sql_session import Answer, Statement, Target, no_rows, one_line
from exporter.errors import CollectError, QueryRefused, TimedOut, Unreachable

_STEPS_BETWEEN_CHECKS = 10_000  # of SQLite's virtual machine: some hundred microseconds
_LONGEST_WAIT_FOR_LOCK = 5.0
_PASSING = ("locked", "busy", "unable to open", "disk i/o")


class SqliteSession:
    """One connection to a file that another program writes, for one collection."""

    def __init__(self, target: Target, collection: Collection) -> None:
        self._path = target.database
        self.spent = False
        self.opened = collection.clock()
        wait = min(collection.remaining(), _LONGEST_WAIT_FOR_LOCK)
        try:
            self._connection = sqlite3.connect(
                f"file:{quote(target.database)}?mode=ro", uri=True, timeout=wait, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._failure(error) from None
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        self.begin(collection)

    def begin(self, collection: Collection) -> None:
        self._connection.set_progress_handler(
            lambda: collection.cancelled.is_set() or collection.clock() > collection.deadline, _STEPS_BETWEEN_CHECKS
        )

    def fetch(self, statement: Statement, wanted: Sequence[str], *, limit: int) -> Answer:
        try:
            self._connection.execute("PRAGMA query_only = ON")
            try:
                return self._read(statement, wanted, limit)
            except sqlite3.OperationalError as error:
                if "decode to UTF-8" not in str(error):
                    raise
            self._connection.text_factory = partial(str, encoding="utf-8", errors="replace")  # three times as slow
            return self._read(statement, wanted, limit)
        except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
            raise self._failure(error) from None

    def end(self) -> None:
        """The file is closed after each collection."""

    def cancel(self) -> None:
        self.spent = True
        with contextlib.suppress(sqlite3.ProgrammingError):  # closed meanwhile
            self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()

    def _read(self, statement: Statement, wanted: Sequence[str], limit: int) -> Answer:
        cursor = self._connection.execute(statement.query, dict(statement.parameters))
        if cursor.description is None:
            raise no_rows()
        names = [column[0] for column in cursor.description]
        frame, count = frame_of_chunks(names, cursor.fetchmany, wanted, limit)
        return Answer(names, frame, count)

    def _failure(self, error: Exception) -> CollectError:
        message = one_line(error)
        if "interrupted" in message:
            return TimedOut("the query was cancelled at the source's timeout")
        if "unable to open" in message and not Path(self._path).is_file():
            return Unreachable(f"there is no database file {self._path}")
        if any(text in message.lower() for text in _PASSING):
            return Unreachable(f"SQLite: {message} ({self._path})")
        return QueryRefused(f"SQLite: {message}")
