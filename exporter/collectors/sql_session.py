"""What a database session offers the collector, whatever the driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from exporter.errors import QueryRefused

Rows = tuple[Sequence[str], Sequence[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Target:
    """A database, with every reference already resolved. `options` are a PostgreSQL URL's, still encoded."""

    driver: str
    database: str
    host: str | None = None
    port: int | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: str = ""

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        return f"{self.host or 'localhost'}" + (f":{self.port}" if self.port else "")


class Session(Protocol):
    """An open read-only session. `cancel` is called from another thread than `fetch`."""

    def fetch(self, query: str, *, limit: int) -> Rows:
        """Column names and at most `limit` rows."""

    def cancel(self) -> None: ...

    def close(self) -> None: ...


def no_rows() -> QueryRefused:
    return QueryRefused("the query gives no table of rows: write one SELECT statement")


def one_line(error: BaseException) -> str:
    """A driver's message without line ends."""
    return " ".join(str(error).split()) or type(error).__name__
