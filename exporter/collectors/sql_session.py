"""What a database session offers the collector, whatever the driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from exporter.collectors.base import Collection
from exporter.errors import QueryRefused

if TYPE_CHECKING:  # a start that serves warm data does without Polars
    import polars as pl

Driver = Literal["sqlite", "duckdb", "mysql", "mariadb", "postgresql"]
TlsMode = Literal["disable", "require", "verify-ca", "verify-full"]
Value = str | int | float | bool | datetime | None


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection is encrypted and the server is checked. Files are PEM; without `ca_file`, public authorities."""

    mode: TlsMode
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @property
    def authorities(self) -> str:
        """The file of those that are trusted."""
        if self.ca_file is not None:
            return self.ca_file
        from requests.utils import DEFAULT_CA_BUNDLE_PATH  # noqa: PLC0415 - five megabytes of modules, seldom needed

        return DEFAULT_CA_BUNDLE_PATH


@dataclass(frozen=True, slots=True)
class Target:
    """A database, with every reference already resolved. `options` are a PostgreSQL URL's, still encoded."""

    driver: Driver
    database: str
    host: str | None = None
    port: int | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: str = ""
    tls: Tls | None = None
    external_access: bool = False

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        return f"{self.host or 'localhost'}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True, slots=True)
class Statement:
    """A query whose `:name` stand for the values of `parameters`."""

    query: str
    parameters: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """Names of all columns, those of them that were wanted and are there once, and how many rows there are."""

    names: Sequence[str]
    frame: pl.DataFrame
    rows: int


class Session(Protocol):
    """An open read-only session. `cancel` is called from another thread than the rest, and returns at once.

    `opened` is on the monotonic clock. A session that is `spent` cannot be used again.
    """

    opened: float
    spent: bool

    def begin(self, collection: Collection) -> None:
        """Start over for a collection; Unreachable when the connection is broken."""

    def fetch(self, statement: Statement, wanted: Sequence[str], *, limit: int) -> Answer:
        """At most `limit` rows; a session that has that many does not read on, and is spent."""

    def end(self) -> None:
        """Leave nothing of the collection behind."""

    def cancel(self) -> None: ...

    def close(self) -> None: ...


def no_rows() -> QueryRefused:
    return QueryRefused("the query gives no table of rows: write one SELECT statement")


def one_line(error: BaseException) -> str:
    """A driver's message without line ends."""
    return " ".join(str(error).split()) or type(error).__name__
