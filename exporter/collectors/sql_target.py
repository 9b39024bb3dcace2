"""Where a database source connects to: its configuration, and what that resolves to at a collection."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator

from exporter.collectors.base import Collection
from exporter.collectors.client_tls import ClientTlsConfig
from exporter.collectors.sql_session import Driver, Target, Tls, TlsMode
from exporter.environment import references
from exporter.errors import BadAnswer, SecretMissing
from exporter.model import Duration, OptionalTemplate, SecretTemplate, StrictModel, Template, at_most_one

FILES: frozenset[Driver] = frozenset({"sqlite", "duckdb"})
_SCHEMES: Mapping[str, Driver] = {
    "sqlite": "sqlite",
    "duckdb": "duckdb",
    "mysql": "mysql",
    "mariadb": "mariadb",
    "postgresql": "postgresql",
    "postgres": "postgresql",
}


class ConnectionConfig(StrictModel):
    """Where the database is. For SQLite and DuckDB, `database` is the file's path and nothing else is needed."""

    driver: Driver = Field(description="Which database it is.")
    host: OptionalTemplate = Field(None, description="Where it is.")
    host_env: str | None = Field(None, description="Variable that holds the host.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(None, description="The database's usual one by default.")
    database: Template = Field(description="Its name; a path for SQLite and DuckDB.")
    username: OptionalTemplate = Field(None, description="The user's name.")
    username_env: str | None = Field(None, description="Variable that holds the user's name.")
    password: SecretTemplate = Field(
        None, description="The password, as `${VARIABLE}`: a secret does not stand in the file."
    )
    password_env: str | None = Field(None, description="Variable that holds the password.")
    password_file: str | None = Field(None, description="File that holds the password.")
    external_access: bool = Field(False, description="DuckDB: whether a query may read other files and addresses.")

    @model_validator(mode="after")
    def _complete(self) -> ConnectionConfig:
        is_file = self.driver in FILES
        for keys in (("host", "host_env"), ("username", "username_env"), ("password", "password_env", "password_file")):
            if at_most_one(self, *keys) and is_file:
                given = next(key for key in keys if getattr(self, key) is not None)
                raise ValueError(f"{given} has no meaning for {self.driver}: remove it")
        if not is_file and self.host is None and self.host_env is None:
            raise ValueError("host is missing: add host or host_env")
        if not is_file and self.username is None and self.username_env is None:
            raise ValueError("username is missing: add username or username_env")
        if self.external_access and self.driver != "duckdb":
            raise ValueError(f"external_access has no meaning for {self.driver}: remove it")
        return self

    def needs(self) -> list[str]:
        """Names of the variables that `target` reads."""
        names = [self.host_env, self.username_env, self.password_env]
        for template in (self.host, self.database, self.username, self.password):
            names += references(template or "")
        return [name for name in names if name]

    def target(self, collection: Collection, tls: Tls | None) -> Target:
        secrets = collection.secrets
        return Target(
            driver=self.driver,
            database=secrets.expand(self.database),
            host=self._value(collection, self.host, self.host_env),
            port=self.port,
            username=self._value(collection, self.username, self.username_env),
            password=secrets.secret(env=self.password_env, file=self.password_file, template=self.password),
            tls=tls,
            external_access=self.external_access,
        )

    @staticmethod
    def _value(collection: Collection, template: str | None, env: str | None) -> str | None:
        if env is not None:
            return collection.secrets.variable(env)
        return None if template is None else collection.secrets.expand(template)


class TlsConfig(ClientTlsConfig):
    """`tls:` of PostgreSQL, MySQL and MariaDB."""

    mode: TlsMode = Field("verify-full", description="`verify-ca` does not check the name, `require` checks nothing.")

    @model_validator(mode="after")
    def _agree(self) -> TlsConfig:
        if self.ca_file is not None and self.mode in ("disable", "require"):
            raise ValueError(f"mode {self.mode} does not look at ca_file: use verify-ca or verify-full")
        if self.cert_file is not None and self.mode == "disable":
            raise ValueError("mode disable sends no certificate: remove cert_file and key_file")
        return self

    def resolved(self) -> Tls:
        """SecretMissing when a file is not there; the drivers' own messages do not name it."""
        for key in ("ca_file", "cert_file", "key_file"):
            file = getattr(self, key)
            if file is not None and not os.access(file, os.R_OK):
                raise SecretMissing(f"tls.{key} {file} cannot be read: there is no such file, or no right to read it")
        return Tls(self.mode, self.ca_file, self.cert_file, self.key_file)


class PoolConfig(StrictModel):
    """`pool:` of a database server. Sources with the same connection and the same `pool` share one."""

    size: Annotated[int, Field(ge=1, le=1000)] = Field(8, description="Most connections to one server.")
    max_lifetime: Duration = Field(1800.0, description="How long one is used.")


def target_of_url(url: str, tls: Tls | None = None) -> Target:
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
        hint = "" if driver in FILES else ", and write TLS options as `tls:`"
        raise BadAnswer(
            f"the database URL has options after '?', which {driver} sources do not take: remove them{hint}"
        )
    if parts.fragment:
        raise BadAnswer("the database URL has a '#': write it as %23")
    if tls is not None and driver in FILES:
        raise BadAnswer(f"the database URL is one of {driver}, for which `tls` has no meaning: remove it")
    return Target(
        driver=driver,
        database=unquote(parts.path[1:]),
        host=unquote(parts.hostname) if parts.hostname else None,
        port=port,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        options=parts.query,
        tls=tls,
    )
