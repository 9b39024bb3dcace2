"""The payments store: merchants, their card transactions and chargebacks, in SQLite or PostgreSQL.

Times are epoch seconds of the wall clock unless a name says otherwise. One process writes transactions and gives
them their ids; any number read, and start or stop attacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa

from demo.errors import DemoError
from demo.metrics import VIEW, view_ddl

DEFAULT_URL = "sqlite:///.run/payments.sqlite"
DEFAULT_WINDOW = 120.0

metadata = sa.MetaData()

merchants = sa.Table(
    "merchants",
    metadata,
    sa.Column("account_id", sa.String(255), primary_key=True),
    sa.Column("merchant_name", sa.Text, nullable=False),
    sa.Column("region", sa.String(32), nullable=False),
    sa.Column("tx_per_minute", sa.Double, nullable=False),
)

# No CHECK and no foreign key here: with them, SQLite takes twice as long to write a day of history.
transactions = sa.Table(
    "transactions",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("account_id", sa.String(255), nullable=False),
    sa.Column("card_id", sa.Text),
    sa.Column("amount", sa.Double),
    sa.Column("status", sa.String(8)),  # approved, blocked, declined; NULL: the source does not say
    sa.Column("new_device", sa.Boolean),
    sa.Column("amount_ratio", sa.Double),  # amount / the card's own earlier average; NULL while that is no habit
    sa.Column("is_fraud", sa.Boolean),  # a label for scoring; no metric reads it
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("source_time", sa.Double),  # epoch seconds in a replayed file
    sa.Index("ix_transactions_created_at", "created_at"),
    sa.Index("ix_transactions_account_id_created_at", "account_id", "created_at"),
)

chargebacks = sa.Table(
    "chargebacks",
    metadata,
    # May outlive a transaction that left the history.
    sa.Column("transaction_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("account_id", sa.String(255), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Index("ix_chargebacks_created_at", "created_at"),
)

attacks = sa.Table(
    "attacks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("account_id", sa.ForeignKey("merchants.account_id"), nullable=False),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("ends_at", sa.Double),  # NULL: until somebody stops it
    sa.Column("intensity", sa.Double, nullable=False),  # transactions (chargebacks) per second
)

settings = sa.Table(
    "settings",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

TRANSACTION_COLUMNS = tuple(column.name for column in transactions.columns)
CHARGEBACK_SCHEMA = {"transaction_id": pl.Int64(), "account_id": pl.String(), "created_at": pl.Float64()}
MERCHANT_COLUMNS = tuple(column.name for column in merchants.columns)


class PaymentsStore:
    """SQLite (WAL) or PostgreSQL behind one SQLAlchemy URL, e.g. `sqlite:////srv/payments.sqlite`."""

    def __init__(self, url: str) -> None:
        try:
            self.url = sa.make_url(url)
        except sa.exc.ArgumentError as error:
            raise DemoError(f"not a database URL: {error}") from error
        backend = self.url.get_backend_name()
        if backend not in {"sqlite", "postgresql"}:
            raise DemoError(f"the payments store is sqlite or postgresql, not {backend}")
        self.engine = sa.create_engine(self.url)
        if backend == "sqlite":
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        self._writer = self.engine.execution_options(payments_write=True)

    def create(self, *, window: float | None = None) -> None:
        """Make what is missing: tables, view, settings. `window`: rate window in wall seconds, kept when None."""
        if self.url.get_backend_name() == "sqlite" and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        with self.write() as connection:
            metadata.create_all(connection)
            known = load_settings(connection)
            defaults = {"rate_window": DEFAULT_WINDOW, "speed": 1.0, "chargebacks_known": 1, "mode": "simulated"}
            save_settings(connection, {k: v for k, v in defaults.items() if k not in known})
            if window is not None:
                save_settings(connection, {"rate_window": window})
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {VIEW}")
            connection.exec_driver_sql(view_ddl(self.engine.dialect.name))

    def require(self) -> None:
        """Raises DemoError when nobody has made the store yet."""
        file = self.url.database if self.url.get_backend_name() == "sqlite" else None
        if (file and not Path(file).exists()) or not sa.inspect(self.engine).has_table("settings"):
            where = self.url.render_as_string(hide_password=True)
            raise DemoError(f"no payments store at {where}: start the demo first, or set PAYMENTS_DATABASE_URL")

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


def load_settings(connection: sa.Connection) -> dict[str, str]:
    return {row.name: row.value for row in connection.execute(sa.select(settings))}


def save_settings(connection: sa.Connection, values: Mapping[str, object]) -> None:
    if values:
        connection.execute(sa.delete(settings).where(settings.c.name.in_(list(values))))
        connection.execute(sa.insert(settings), [{"name": k, "value": str(v)} for k, v in values.items()])


def insert_transactions(connection: sa.Connection, frame: pl.DataFrame) -> None:
    """Append rows; `frame` holds every column of the table, ids included."""
    _bulk_insert(connection, transactions, frame.select(TRANSACTION_COLUMNS))


def insert_chargebacks(connection: sa.Connection, frame: pl.DataFrame) -> None:
    _bulk_insert(connection, chargebacks, frame.select(list(CHARGEBACK_SCHEMA)))


def insert_merchants(connection: sa.Connection, frame: pl.DataFrame) -> None:
    _bulk_insert(connection, merchants, frame.select(MERCHANT_COLUMNS))


def next_transaction_id(connection: sa.Connection) -> int:
    last = connection.execute(sa.select(sa.func.max(transactions.c.id))).scalar_one()
    return 1 if last is None else int(last) + 1


def load_merchants(connection: sa.Connection) -> list[dict[str, Any]]:
    rows = connection.execute(sa.select(merchants).order_by(merchants.c.account_id))
    return [dict(row) for row in rows.mappings()]


def purge(connection: sa.Connection, before: float) -> int:
    """Delete what is older than the history; returns the number of transactions gone."""
    connection.execute(sa.delete(chargebacks).where(chargebacks.c.created_at < before))
    return connection.execute(sa.delete(transactions).where(transactions.c.created_at < before)).rowcount


def clear(connection: sa.Connection) -> None:
    """Empty everything but the settings."""
    for table in (attacks, chargebacks, transactions, merchants):
        connection.execute(sa.delete(table))


def _bulk_insert(connection: sa.Connection, table: sa.Table, frame: pl.DataFrame) -> None:
    if frame.is_empty():
        return
    columns = ", ".join(frame.columns)
    if connection.dialect.name == "postgresql":
        copy = f"COPY {table.name} ({columns}) FROM STDIN"
        with connection.connection.cursor() as cursor, cursor.copy(copy) as target:  # type: ignore[attr-defined]  # psycopg's cursor
            for row in frame.iter_rows():
                target.write_row(row)
        return
    marks = ", ".join("?" for _ in frame.columns)
    statement = f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"  # noqa: S608 - names of our own columns
    connection.exec_driver_sql(statement, frame.rows())


def _configure_sqlite(connection: Any, _record: Any) -> None:  # noqa: ANN401 - a DBAPI connection has no type
    connection.isolation_level = None  # pysqlite would begin by itself
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("payments_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
