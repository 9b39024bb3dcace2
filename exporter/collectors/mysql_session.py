"""MySQL and MariaDB: a read-only transaction with the server's own limits on time and rows."""

from __future__ import annotations

import contextlib

import pymysql
from pymysql.constants import CR, ER

from exporter.collectors.base import Collection
from exporter.collectors.sockets import shut_down
from exporter.collectors.sql_session import Rows, Target, no_rows, one_line
from exporter.errors import CollectError, Denied, QueryRefused, TimedOut, Unreachable

_DENIED = {ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR}
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
}
_GRACE = 0.5  # seconds by which the socket waits longer than the server's limit


class MysqlSession:
    """One connection, in one transaction."""

    def __init__(self, target: Target, collection: Collection) -> None:
        self._place = target.place
        self._collection = collection
        seconds = collection.remaining()
        try:
            self._connection = pymysql.connect(
                host=target.host,
                port=target.port or 3306,
                user=target.username,
                password=target.password or "",
                database=target.database,
                charset="utf8mb4",
                connect_timeout=max(1, int(seconds)),
                read_timeout=seconds + _GRACE,
                write_timeout=seconds + _GRACE,
                program_name="sentinel-exporter",
            )
        except (pymysql.Error, OSError) as error:
            raise self._failure(error) from None

    def fetch(self, query: str, *, limit: int) -> Rows:
        try:
            with contextlib.closing(self._connection.cursor()) as cursor:
                cursor.execute(self._time_limit())
                cursor.execute(f"SET SESSION sql_select_limit = {limit}")
                cursor.execute("START TRANSACTION READ ONLY")
                cursor.execute(query)
                if cursor.description is None:
                    raise no_rows()
                return [column[0] for column in cursor.description], cursor.fetchmany(limit)
        except (pymysql.Error, OSError) as error:
            raise self._failure(error) from None

    def cancel(self) -> None:
        sock = getattr(self._connection, "_sock", None)
        if sock is not None:
            shut_down(sock.fileno())

    def close(self) -> None:
        with contextlib.suppress(pymysql.Error):  # already closed, by `cancel` or by the server
            self._connection.close()

    def _time_limit(self) -> str:
        left = self._collection.remaining()
        server = str(self._connection.get_server_info())  # type: ignore[no-untyped-call] # pymysql's stubs
        if "mariadb" in server.lower():
            return f"SET SESSION max_statement_time = {left:.3f}"
        return f"SET SESSION max_execution_time = {max(1, int(left * 1000))}"

    def _failure(self, error: Exception) -> CollectError:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else None
        text = str(error.args[1]) if code is not None and len(error.args) > 1 else one_line(error)
        message = f"MySQL at {self._place}: {text}" + (f" (error {code})" if code else "")
        late = self._collection.clock() >= self._collection.deadline
        if code in _TIMED_OUT or "timed out" in text or (late and code in _UNREACHABLE):
            return TimedOut(message)
        if code in _DENIED:
            return Denied(message)
        if code in _UNREACHABLE or isinstance(error, OSError | pymysql.InterfaceError):
            return Unreachable(message)
        return QueryRefused(message)
