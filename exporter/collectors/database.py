"""`type: database`: one query over SQLite, MySQL, MariaDB or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

import polars as pl
from pydantic import Field, model_validator

from exporter.collectors.base import Collection, Collector, SourceConfig, within_max_rows
from exporter.collectors.columns import frame_of_rows
from exporter.collectors.sql_session import Session, Target
from exporter.environment import references
from exporter.errors import BadAnswer
from exporter.model import OptionalTemplate, SecretTemplate, StrictModel, Template

Driver = Literal["sqlite", "mysql", "mariadb", "postgresql"]
_SCHEMES: dict[str, Driver] = {
    "sqlite": "sqlite",
    "mysql": "mysql",
    "mariadb": "mariadb",
    "postgresql": "postgresql",
    "postgres": "postgresql",
}


class ConnectionConfig(StrictModel):
    """Where the database is. For SQLite, `database` is the file's path and nothing else is needed."""

    driver: Driver
    host: OptionalTemplate = None
    host_env: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    database: Template
    username: OptionalTemplate = None
    username_env: str | None = None
    password: SecretTemplate = None
    password_env: str | None = None
    password_file: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> ConnectionConfig:
        for keys in (("host", "host_env"), ("username", "username_env"), ("password", "password_env", "password_file")):
            given = [key for key in keys if getattr(self, key) is not None]
            if len(given) > 1:
                raise ValueError(f"{' and '.join(given)} say the same thing: keep one")
            if given and self.driver == "sqlite":
                raise ValueError(f"{given[0]} has no meaning for sqlite: remove it")
        if self.driver != "sqlite" and self.host is None and self.host_env is None:
            raise ValueError("host is missing: add host or host_env")
        if self.driver != "sqlite" and self.username is None and self.username_env is None:
            raise ValueError("username is missing: add username or username_env")
        return self

    def target(self, collection: Collection) -> Target:
        secrets = collection.secrets
        return Target(
            driver=self.driver,
            database=secrets.expand(self.database),
            host=self._value(collection, self.host, self.host_env),
            port=self.port,
            username=self._value(collection, self.username, self.username_env),
            password=secrets.secret(env=self.password_env, file=self.password_file, template=self.password),
        )

    @staticmethod
    def _value(collection: Collection, template: str | None, env: str | None) -> str | None:
        if env is not None:
            return collection.secrets.variable(env)
        return None if template is None else collection.secrets.expand(template)


class DatabaseConfig(SourceConfig):
    """A query whose rows become samples. It runs in a read-only session and is cancelled at the timeout."""

    type: Literal["database"]
    connection: ConnectionConfig | None = None
    url_env: str | None = None
    query: Annotated[Template, Field(min_length=1)]

    @model_validator(mode="after")
    def _one_connection(self) -> DatabaseConfig:
        if (self.connection is None) == (self.url_env is None):
            raise ValueError("needs either connection or url_env (the name of a variable that holds a database URL)")
        return self

    def needs(self) -> tuple[str, ...]:
        names = [self.url_env, *references(self.query)]
        if at := self.connection:
            names += [at.host_env, at.username_env, at.password_env]
            for template in (at.host, at.database, at.username, at.password):
                names += references(template or "")
        return tuple(name for name in names if name)


def target_of_url(url: str) -> Target:
    """Where a URL such as `sqlite:////path` or `postgresql://user:password@host/name` points.

    What follows a `?` goes to the driver of PostgreSQL as it is; the others take nothing there. Never shows the URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadAnswer("the database URL cannot be read: write driver://user:password@host:port/database") from None
    driver = _SCHEMES.get(parts.scheme.partition("+")[0])
    if driver is None:
        raise BadAnswer(f"the database URL starts with no known driver: use one of {', '.join(_SCHEMES)}")
    if parts.query and driver != "postgresql":
        raise BadAnswer(f"the database URL has options after '?', which {driver} sources do not take: remove them")
    return Target(
        driver=driver,
        database=unquote(parts.path[1:]),
        host=unquote(parts.hostname) if parts.hostname else None,
        port=port,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        options=parts.query,
    )


class DatabaseCollector(Collector):
    """Connects anew for every collection, so that rotated credentials and a moved database are picked up."""

    def __init__(self, config: DatabaseConfig) -> None:
        self._config = config
        self._session: Session | None = None

    def collect(self, collection: Collection) -> pl.DataFrame:
        config = self._config
        target = self._target(collection)
        query = collection.secrets.expand(config.query)
        with closing(_session_of(target.driver)(target, collection)) as session:
            self._session = session
            try:
                names, rows = session.fetch(query, limit=config.max_rows + 1)
            finally:
                self._session = None
        rows = rows[: within_max_rows(config, len(rows), collection)]
        collection.fields = names
        return frame_of_rows(names, rows, config.columns)

    def cancel(self) -> None:
        session = self._session
        if session is not None:
            session.cancel()

    def _target(self, collection: Collection) -> Target:
        if self._config.connection is not None:
            return self._config.connection.target(collection)
        url = collection.secrets.secret(env=self._config.url_env) or ""
        target = target_of_url(url)
        collection.secrets.hide(target.password or "")
        return target


def _session_of(driver: str) -> Callable[[Target, Collection], Session]:
    """The session class of a driver, whose client library is imported only here."""
    if driver == "sqlite":
        from exporter.collectors.sqlite_session import SqliteSession  # noqa: PLC0415 - see above

        return SqliteSession
    if driver == "postgresql":
        from exporter.collectors.postgresql_session import PostgresqlSession  # noqa: PLC0415 - see above

        return PostgresqlSession
    from exporter.collectors.mysql_session import MysqlSession  # noqa: PLC0415 - see above

    return MysqlSession
