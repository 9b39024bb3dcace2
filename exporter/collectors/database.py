"""`type: database`: one query over PostgreSQL, MySQL, MariaDB, SQLite or DuckDB."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from exporter.collectors.base import Collection, Collector, SourceConfig, within_max_rows
from exporter.collectors.session_pool import PoolKey, SessionPool, SessionPools
from exporter.collectors.sql_parameters import placeholders, time_value
from exporter.collectors.sql_session import Driver, Session, Statement, Target, Value
from exporter.collectors.sql_target import FILES, ConnectionConfig, PoolConfig, TlsConfig, target_of_url
from exporter.environment import references
from exporter.errors import TimedOut, Unsupported
from exporter.model import LATE, Duration, Template

if TYPE_CHECKING:  # a start that serves warm data does without Polars
    import polars as pl

_SESSIONS: Mapping[Driver, tuple[str, str]] = {
    "sqlite": ("exporter.collectors.sqlite_session", "SqliteSession"),
    "duckdb": ("exporter.collectors.duckdb_session", "DuckdbSession"),
    "mysql": ("exporter.collectors.mysql_session", "MysqlSession"),
    "mariadb": ("exporter.collectors.mysql_session", "MysqlSession"),
    "postgresql": ("exporter.collectors.postgresql_session", "PostgresqlSession"),
}
_pools = SessionPools()


def _plain_values(value: object) -> object:
    if isinstance(value, dict):
        for name, item in value.items():
            if item is not None and not isinstance(item, str | int | float):
                raise ValueError(f"{name} must be text, a number, true, false or null")
    return value


Parameters = Annotated[dict[str, str | int | float | bool | None], LATE, BeforeValidator(_plain_values)]


class DatabaseConfig(SourceConfig):
    """A query whose rows become samples. It runs in a read-only session and is cancelled at the timeout."""

    type: Literal["database"] = Field(description="`database`.")
    connection: ConnectionConfig | None = Field(None, description="Where the database is; or `url_env`.")
    url_env: str | None = Field(None, description="Variable that holds the URL, instead of `connection`.")
    tls: TlsConfig | None = Field(
        None, description="How the connection is encrypted and checked: PostgreSQL and MySQL."
    )
    pool: PoolConfig | None = Field(None, description="Connections that are kept.")
    query: Annotated[Template, Field(min_length=1)] = Field(
        description="One statement that gives rows; its columns are what metrics and labels name."
    )
    params: Parameters = Field(
        default_factory=dict, description="Values of `:name` in the query; `{time_from}` and `{time_to}` are times."
    )
    time_window: Duration | None = Field(None, description="How long before the collection `{time_from}` is.")

    @model_validator(mode="after")
    def _one_connection(self) -> DatabaseConfig:
        if (self.connection is None) == (self.url_env is None):
            raise ValueError("needs either connection or url_env (the name of a variable that holds a database URL)")
        if self.connection is not None and self.connection.driver in FILES:
            for key in ("tls", "pool"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} has no meaning for {self.connection.driver}: remove it")
        return self

    @model_validator(mode="after")
    def _params_are_used(self) -> DatabaseConfig:
        drivers = [self.connection.driver] if self.connection else _SESSIONS  # a URL's driver is not known yet
        used = set[str]().union(*(placeholders(self.query, driver) for driver in drivers))
        unused = sorted(self.params.keys() - used)
        if unused and not list(references(self.query)):
            raise ValueError(f"params has {', '.join(unused)}, but query has no :{unused[0]}: use it, or remove it")
        windowed = "{time_from}" in self.params.values()
        if windowed and self.time_window is None:
            raise ValueError("params use {time_from}: add time_window, such as 2m")
        if self.time_window is not None and not windowed:
            raise ValueError("time_window has no effect: use {time_from} in params, or remove it")
        return self

    def needs(self) -> tuple[str, ...]:
        names = [*([self.url_env] if self.url_env else []), *references(self.query)]
        names += self.connection.needs() if self.connection else []
        names += [name for value in self.params.values() if isinstance(value, str) for name in references(value)]
        return tuple(names)


class DatabaseCollector(Collector):
    """Asks a server over a pool of sessions, and a file by opening it anew, for it may have been replaced.

    References are resolved at every collection: other credentials or another host mean another pool.
    """

    def __init__(self, config: DatabaseConfig) -> None:
        self._config = config
        if config.connection is not None:
            _session_of(config.connection.driver)
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._key: PoolKey | None = None
        self._closed = False
        self._timed_out = False

    def collect(self, collection: Collection) -> pl.DataFrame:
        config = self._config
        target = self._target(collection)
        statement = self._statement(target.driver, collection)
        with self._open(target, collection) as session, self._cancellable(session, collection):
            try:
                answer = session.fetch(statement, config.columns, limit=config.max_rows + 1)
            except TimedOut:
                self._timed_out = True
                raise
        self._timed_out = False
        collection.fields = answer.names
        return answer.frame.head(within_max_rows(config, answer.rows, collection))

    def cancel(self) -> None:
        with self._lock:
            if self._session is not None:
                self._session.cancel()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._let_go()

    def _open(self, target: Target, collection: Collection) -> AbstractContextManager[Session]:
        connect = _session_of(target.driver)
        if target.driver in FILES:
            return closing(connect(target, collection))
        return self._pool(target, connect).session(collection, doubtful=self._timed_out)

    @contextmanager
    def _cancellable(self, session: Session, collection: Collection) -> Iterator[None]:
        """Let `cancel` reach the session only while it is this source's: it may be another's next."""
        with self._lock:
            self._session = session
        try:
            collection.remaining()
            yield
        finally:
            with self._lock:
                self._session = None

    def _pool(self, target: Target, connect: Callable[[Target, Collection], Session]) -> SessionPool:
        settings = self._config.pool or PoolConfig()
        key = PoolKey(target, settings.size, settings.max_lifetime)
        if self._key != key:
            self._let_go()
        with self._lock:
            self._key = key
            pool = _pools.hold(key, connect, self)
            closed = self._closed
        if closed:  # while this collection was under way
            self._let_go()
        return pool

    def _let_go(self) -> None:
        with self._lock:
            key, self._key = self._key, None
        if key is not None:
            _pools.let_go(key, self)

    def _target(self, collection: Collection) -> Target:
        config = self._config
        tls = config.tls.resolved() if config.tls else None
        if config.connection is not None:
            return config.connection.target(collection, tls)
        url = collection.secrets.secret(env=config.url_env) or ""
        target = target_of_url(url, tls)
        collection.secrets.hide(target.password or "")
        return target

    def _statement(self, driver: Driver, collection: Collection) -> Statement:
        config = self._config
        values: dict[str, Value] = {}
        for name, template in config.params.items():
            value = time_value(template, driver, collection.now, config.time_window)
            values[name] = collection.secrets.expand(value) if isinstance(value, str) else value
        return Statement(collection.secrets.expand(config.query), values)


def _session_of(driver: Driver) -> Callable[[Target, Collection], Session]:
    """The session class of a driver, whose client library is imported only here. DuckDB's is an extra."""
    module, name = _SESSIONS[driver]
    try:
        opened: Callable[[Target, Collection], Session] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if driver != "duckdb":
            raise
        raise Unsupported(
            f"DuckDB needs {error.name}, which is not installed: pip install 'sentinel[duckdb]'"
        ) from None
    return opened
