"""PostgreSQL: a read-only transaction with `statement_timeout`, read through a cursor on the server."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.types.string import TextLoader

from exporter.collectors.base import Collection
from exporter.collectors.sockets import shut_down
from exporter.collectors.sql_session import Rows, Target, no_rows, one_line
from exporter.errors import CollectError, Denied, QueryRefused, TimedOut, Unreachable

_SHORTEST_CONNECT_TIMEOUT = 2  # libpq takes whole seconds, and no fewer
_DENIED = ("authentication failed", "no pg_hba.conf entry", "permission denied", "no password supplied")


class PostgresqlSession:
    """One connection, in one transaction."""

    def __init__(self, target: Target, collection: Collection) -> None:
        self._place = target.place
        self._collection = collection
        seconds = max(_SHORTEST_CONNECT_TIMEOUT, int(collection.remaining()))
        options: dict[str, Any] = {"application_name": "sentinel-exporter", "connect_timeout": seconds}
        given = {"port": target.port, "user": target.username, "password": target.password}
        options |= {key: value for key, value in given.items() if value is not None}
        if target.host:
            options["host"] = target.host
        if target.options:  # a whole URL, because libpq reads options only from there
            conninfo = f"postgresql:///{quote(target.database)}?{target.options}"
        else:
            conninfo, options["dbname"] = "", target.database
        try:
            self._connection = psycopg.connect(conninfo, **options)
        except psycopg.Error as error:
            raise self._failure(error) from None
        self._connection.read_only = True
        self._connection.adapters.register_loader("numeric", TextLoader)  # exact, and no Decimal for each value

    def fetch(self, query: str, *, limit: int) -> Rows:
        milliseconds = max(1, int(self._collection.remaining() * 1000))
        try:
            self._connection.execute(f"SET LOCAL statement_timeout = {milliseconds}")
            self._connection.execute("SET LOCAL cursor_tuple_fraction = 1")
            with self._connection.cursor(name="collection") as cursor:
                cursor.execute(query.encode())
                if cursor.description is None:
                    raise no_rows()
                return [column.name for column in cursor.description], cursor.fetchmany(limit)
        except psycopg.Error as error:
            raise self._failure(error) from None

    def cancel(self) -> None:
        with contextlib.suppress(psycopg.Error, OSError):
            self._connection.cancel_safe(timeout=1)
        with contextlib.suppress(psycopg.Error):
            shut_down(self._connection.fileno())

    def close(self) -> None:
        self._connection.close()

    def _failure(self, error: psycopg.Error) -> CollectError:
        message = f"PostgreSQL at {self._place}: {one_line(error)}"
        if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.ConnectionTimeout):
            return TimedOut(message)
        if isinstance(error, psycopg.errors.InsufficientPrivilege) or any(text in message for text in _DENIED):
            return Denied(message)
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return Unreachable(message)
        return QueryRefused(message)
