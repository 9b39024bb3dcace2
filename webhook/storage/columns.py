"""What the tables are made of, once for SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Aware UTC datetimes on both databases; SQLite itself keeps no zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: give it a time zone")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Any:  # noqa: ANN401 - SQLAlchemy's signature
        """None where nothing is to be done: sessions on PostgreSQL are in UTC, see `Database`."""
        return None if dialect.name == "postgresql" else super().result_processor(dialect, coltype)


Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def id_column() -> sa.Column[Any]:
    return sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True)


def alert_id_column(*, unique: bool = False, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(
        "alert_id",
        sa.Uuid(as_uuid=False),
        sa.ForeignKey("alert.id", ondelete="CASCADE"),
        nullable=nullable,
        unique=unique,
    )


def common_columns() -> list[sa.Column[Any]]:
    """The owner's columns for tenancy and data sync."""
    return [
        sa.Column("namespace", sa.String(64), nullable=False, server_default="default"),
        sa.Column("checkpoint", sa.String(64), nullable=False, server_default=""),
    ]


def time_column(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, UtcDateTime, nullable=nullable)


def one_of(column: str, enum: type[StrEnum]) -> sa.CheckConstraint:
    names = ", ".join(f"'{member.value}'" for member in enum)
    return sa.CheckConstraint(f"{column} IN ({names})", name=column)


def among(column: sa.ColumnElement[Any], name: str, dialect: str) -> sa.ColumnElement[bool]:
    """Whether `column` is one of the values that are bound to `name`.

    On PostgreSQL they are one array: the text is the same for any number of them, so that it stays prepared.
    """
    if dialect == "postgresql":
        values: sa.BindParameter[Any] = sa.bindparam(name, type_=postgresql.ARRAY(column.type))
        return column == sa.any_(values)
    return column.in_(sa.bindparam(name, expanding=True, type_=column.type))
