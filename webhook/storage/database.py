"""One engine, two kinds of transaction: readers never block, writers are serialised where the database wants it.

Nothing waits for ever: not for a connection, a lock or a statement, and not for a server that is gone without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic, perf_counter
from typing import Any

import psycopg
import sqlalchemy as sa

LONGEST_WAIT_S = 5
"""For a lock or a free connection: whoever delivers comes back, rather than waiting in a queue that grows."""

LONGEST_STATEMENT_S = 30
"""For one statement of PostgreSQL; what needs longer says so with `allow`."""

LONG = timedelta(minutes=10)
"""For what nobody waits for: a purge."""

_REST_S = 1

Meter = Callable[[str, float], None]
"""Gets the kind of a transaction (`read`, `write`) and its seconds, from asking for a connection to giving it back."""


class _Connection(psycopg.Connection[Any]):
    """Gives up on a server that does not answer: its own time-outs help nobody whom it cannot reach."""

    longest: timedelta | None = timedelta(0)  # of a statement; 0: as usual, None: whatever it takes

    def wait(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - psycopg's signature
        if self.longest is not None and options.get("timeout") is None:
            options["timeout"] = (self.longest.total_seconds() or LONGEST_STATEMENT_S) + LONGEST_WAIT_S
        try:
            return super().wait(*args, **options)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 - there is no other name for it
            self.close()
            raise psycopg.OperationalError("the server does not answer") from error


class Database:
    """SQLite (WAL) or PostgreSQL behind one URL, e.g. `sqlite:///sentinel.db`, `postgresql+psycopg://user@host/db`."""

    def __init__(self, url: str, *, pool_size: int = 10, meter: Meter | None = None) -> None:
        self._meter = meter
        self._closed = False
        self.url = sa.make_url(url)
        sqlite = self.url.get_backend_name() == "sqlite"
        options = {} if sqlite else _postgresql_options(pool_size)
        # Values stay out of error messages: they are merchants' data.
        self.engine = sa.create_engine(self.url, hide_parameters=True, **options)
        if not sqlite:
            sa.event.listen(self.engine, "do_connect", _connect)
            sa.event.listen(self.engine, "checkin", _rest)
            sa.event.listen(self.engine, "checkout", _check_rested)
        if sqlite:
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        sa.event.listen(self.engine, "checkin", self._leave)
        self._writer = self.engine.execution_options(sentinel_write=True)

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with self._timed("read"), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Commit on leaving, roll back on an exception. On SQLite the write lock is taken at the start."""
        with self._timed("write"), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            if self._meter is not None:
                self._meter(kind, perf_counter() - began)

    def close(self) -> None:
        """What is in use, or is used hereafter by a thread that ends late, is closed as it comes back."""
        self._closed = True
        self.engine.dispose()

    def _leave(self, _connection: Any, record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's signature
        if self._closed:
            record.invalidate()


def allow(connection: sa.Connection, longest: timedelta | None) -> None:
    """Let the statements of this transaction take so long, each; None: whatever they take."""
    if connection.dialect.name == "sqlite":
        return
    connection.execute(sa.text(f"SET LOCAL statement_timeout = {int((longest or timedelta(0)) / _MILLISECOND)}"))
    driver = connection.connection.driver_connection
    if isinstance(driver, _Connection):
        driver.longest = longest


_MILLISECOND = timedelta(milliseconds=1)


def _connect(_dialect: Any, _record: Any, args: Any, options: Any) -> _Connection:  # noqa: ANN401 - as above
    return _Connection.connect(*args, **{**options, "connect_timeout": LONGEST_WAIT_S})


def _rest(connection: Any, record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's signature
    record.info["rested_since"] = monotonic()
    if connection is not None:  # else it was broken
        connection.longest = _Connection.longest


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
            "options": f"-c lock_timeout={LONGEST_WAIT_S}s -c statement_timeout={LONGEST_STATEMENT_S}s -c timezone=UTC",
            # A host that is gone: what was sent stays unacknowledged, or nothing comes while we wait.
            "tcp_user_timeout": LONGEST_STATEMENT_S * 1000,
            "keepalives": 1,
            "keepalives_idle": LONGEST_WAIT_S,
            "keepalives_interval": LONGEST_WAIT_S,
            "keepalives_count": 3,
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
    # SQLite's own knows no letters but ASCII's: a search would not find Müller as MÜLLER.
    connection.create_function("lower", 1, _lower, deterministic=True)


def _lower(value: object) -> str | None:
    return None if value is None else str(value).lower()


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("sentinel_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
