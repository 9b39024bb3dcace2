"""One engine, two kinds of transaction: readers never block, writers are serialised where the database wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import psycopg
import sqlalchemy as sa

LONGEST_WAIT_S = 5
"""For a lock or a free connection: whoever delivers comes back, rather than waiting in a queue that grows."""

_REST_S = 1


class Database:
    """SQLite (WAL) or PostgreSQL behind one URL, e.g. `sqlite:///sentinel.db`, `postgresql+psycopg://user@host/db`."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = sa.make_url(url)
        sqlite = self.url.get_backend_name() == "sqlite"
        options = {} if sqlite else _postgresql_options(pool_size)
        # Values stay out of error messages: they are merchants' data.
        self.engine = sa.create_engine(self.url, hide_parameters=True, **options)
        if not sqlite:
            sa.event.listen(self.engine, "checkin", _note_time)
            sa.event.listen(self.engine, "checkout", _check_rested)
        if sqlite:
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        self._writer = self.engine.execution_options(sentinel_write=True)

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Commit on leaving, roll back on an exception. On SQLite the write lock is taken at the start."""
        with self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()


def _note_time(_connection: Any, record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's signature
    record.info["rested_since"] = monotonic()


def _check_rested(connection: Any, record: Any, _proxy: Any) -> None:  # noqa: ANN401 - SQLAlchemy's signature
    """Ask the server whether it is still there, but only after a pause: a round trip less under load."""
    if monotonic() - record.info.get("rested_since", monotonic()) < _REST_S:
        return
    try:
        connection.execute("SELECT 1")
        connection.rollback()
    except psycopg.Error as error:
        raise sa.exc.DisconnectionError("the server went away") from error


def _postgresql_options(pool_size: int) -> dict[str, Any]:
    return {
        "pool_size": pool_size,
        "pool_timeout": LONGEST_WAIT_S,
        "connect_args": {
            "options": f"-c lock_timeout={LONGEST_WAIT_S}s -c timezone=UTC",
            "connect_timeout": LONGEST_WAIT_S,
        },
    }


def _configure_sqlite(connection: Any, _record: Any) -> None:  # noqa: ANN401 - a DBAPI connection has no type
    connection.isolation_level = None  # pysqlite would begin by itself
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",  # what was answered with 200 outlives a power loss
        "foreign_keys=ON",
        f"busy_timeout={LONGEST_WAIT_S * 1000}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("sentinel_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
