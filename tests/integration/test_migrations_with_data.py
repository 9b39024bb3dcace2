"""The way up, down and up again with rows in every table: what both schemas know is kept to the last digit."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from webhook.storage.database import Database
from webhook.storage.migrations import downgrade, upgrade

Contents = Mapping[str, list[dict[str, Any]]]

# What the schema's conditions allow; all other columns get a value of their type, of their own for each row.
CHOSEN: Mapping[str, object] = {
    "original_severity": "P2",
    "current_severity": "P1",
    "min_severity": "P1",
    "severity": "P3",
    "session_status": "RESOLVED",
    "comment_type": "USER_NOTE",
    "logic": "any",
    "operator": "not_in",
    "role": "merchant",
    "alert_dynamic.status": "RESOLVED",
    "alert_instance.status": "RESOLVED",
    "notification.status": "FAILED",
    "sms_message.status": "SENT",
    "notification.lease_until": None,
}


def reflected(database: Database) -> sa.MetaData:
    metadata = sa.MetaData()
    metadata.reflect(database.engine)
    metadata.remove(metadata.tables["alembic_version"])
    return metadata


def value_of(column: sa.Column[Any], number: int) -> object:
    """Something of the column's type that tells the rows apart."""
    match column.type:
        case sa.Boolean():
            return number % 2 == 0
        case sa.Integer():
            return number + 1
        case sa.JSON():
            return {"rate": 0.35038363171355497 + number, "name": "Café $1 \u202e \\ 東京", "none": None}
        case sa.DateTime() | sa.Date() as kind:
            at = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC) + timedelta(days=number)
            return at.date() if isinstance(kind, sa.Date) else at
        case sa.Uuid() | sa.CHAR(length=32):
            return uuid.uuid5(uuid.NAMESPACE_OID, f"{column} {number}").hex
        case sa.String() as text:
            return f"{number} {column.name}: 東京"[: text.length]
    raise AssertionError(f"{column}: a type that the test does not know: {column.type!r}")


def chosen(column: sa.Column[Any], number: int) -> object:
    for name in (f"{column.table.name}.{column.name}", column.name):
        if name in CHOSEN:
            return CHOSEN[name]
    return value_of(column, number)


def fill(database: Database, number: int) -> None:
    """One row in every table, with a value in every column that may have one."""
    tables, rows = reflected(database), dict[str, dict[str, Any]]()
    with database.write() as connection:
        for table in tables.sorted_tables:
            row = {column.name: chosen(column, number) for column in table.columns}
            for key in table.foreign_keys:
                row[key.parent.name] = rows[key.column.table.name][key.column.name]
            connection.execute(sa.insert(table).values(row))
            rows[table.name] = row


def contents(database: Database) -> Contents:
    with database.read() as connection:
        return {
            table.name: sorted((dict(row) for row in connection.execute(sa.select(table)).mappings()), key=repr)
            for table in reflected(database).sorted_tables
        }


def as_known_to(known: Contents, stored: Contents) -> Contents:
    """The part of `stored` whose tables and columns `known` has too."""
    columns = {name: rows[0].keys() for name, rows in known.items()}
    return {
        name: sorted(({column: row[column] for column in columns[name]} for row in stored[name]), key=repr)
        for name in known
    }


def test_what_is_stored_is_kept_on_the_way_up_down_and_up_again(store_url: str) -> None:
    upgrade(store_url, "0001")
    database = Database(store_url)
    fill(database, 1)
    before = contents(database)
    assert {len(rows) for rows in before.values()} == {1}

    upgrade(store_url, "0002")
    assert as_known_to(before, contents(database)) == before
    fill(database, 2)
    newest = contents(database)
    assert newest.keys() > before.keys()
    assert {len(rows) for name, rows in newest.items() if name in before} == {2}

    downgrade(store_url, "0001")
    kept = contents(database)
    assert kept == as_known_to(before, newest), "what 0001 knows; what is new with 0002 is gone"

    upgrade(store_url, "0002")
    again = contents(database)
    assert as_known_to(before, again) == kept
    assert [len(again[name]) for name in newest.keys() - before.keys()] == [0] * len(newest.keys() - before.keys())
    fill(database, 3)  # all constraints are there again and can be met
    database.close()
