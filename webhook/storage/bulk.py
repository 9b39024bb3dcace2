"""Many rows of many tables at once: one statement on PostgreSQL, one `executemany` per table elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


@dataclass(frozen=True, slots=True)
class Write:
    """What happens to the rows of one table. Rows that exist are found by `key`."""

    kind: Literal["insert", "update", "upsert"]
    table: sa.Table
    key: tuple[str, ...] = ()


Columns = tuple[str, ...]
Rows = Sequence[Mapping[str, Any]]


def execute_writes(connection: sa.Connection, writes: Sequence[tuple[Write, Rows]]) -> None:
    """Write all of it, in this order. All rows of one write have the same columns; none is written twice."""
    present = [(write, tuple(rows[0]), rows) for write, rows in writes if rows]
    if connection.dialect.name != "postgresql":
        for write, columns, rows in present:
            connection.execute(_each(write, columns), [_bound(write, row) for row in rows])
    elif present:
        statement = _combined(tuple((write, columns) for write, columns, _ in present))
        connection.execute(statement, {f"rows_{number}": _json(rows) for number, (_, _, rows) in enumerate(present)})


_encoder = json.JSONEncoder(default=datetime.isoformat, check_circular=False, separators=(",", ":"))


def _json(rows: Rows) -> str:
    return _encoder.encode(rows)


@lru_cache(maxsize=256)
def _combined(writes: tuple[tuple[Write, Columns], ...]) -> sa.TextClause:
    """One statement for all tables: one round trip, and a text that PostgreSQL keeps prepared.

    Foreign keys are checked at its end, so the order of its parts does not matter.
    """
    parts = [_from_json(write, columns, f"rows_{number}") for number, (write, columns) in enumerate(writes)]
    named = ", ".join(f"write_{number} AS ({part})" for number, part in enumerate(parts[:-1]))
    return sa.text(f"WITH {named} {parts[-1]}" if named else parts[-1])


def _from_json(write: Write, columns: Columns, parameter: str) -> str:
    dialect: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    types = {name: write.table.c[name].type.compile(dialect) for name in columns}
    shape = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    rows = f"jsonb_to_recordset(CAST(:{parameter} AS jsonb)) AS r ({shape})"
    changing = [name for name in columns if name not in write.key]
    if write.kind == "update":
        changes = ", ".join(f"{name} = r.{name}" for name in changing)
        found = " AND ".join(f"t.{name} = r.{name}" for name in write.key)
        return f"UPDATE {write.table.name} AS t SET {changes} FROM {rows} WHERE {found}"  # noqa: S608 - our own names
    names = ", ".join(columns)
    statement = f"INSERT INTO {write.table.name} ({names}) SELECT {names} FROM {rows}"  # noqa: S608 - our own names
    if write.kind == "upsert":
        changes = ", ".join(f"{name} = excluded.{name}" for name in changing)
        statement += f" ON CONFLICT ({', '.join(write.key)}) DO UPDATE SET {changes}"
    return statement


@lru_cache(maxsize=256)
def _each(write: Write, columns: Columns) -> sa.Executable:
    """For `executemany`. An update takes its keys as `key_<column>`."""
    changing = [name for name in columns if name not in write.key]
    if write.kind == "insert":
        return sa.insert(write.table)
    if write.kind == "upsert":
        insert = sqlite.insert(write.table)
        return insert.on_conflict_do_update(
            index_elements=list(write.key), set_={name: insert.excluded[name] for name in changing}
        )
    found = [write.table.c[name] == sa.bindparam(f"key_{name}") for name in write.key]
    return sa.update(write.table).where(*found).values({name: sa.bindparam(name) for name in changing})


def _bound(write: Write, row: Mapping[str, Any]) -> dict[str, Any]:
    if write.kind != "update":
        return dict(row)
    return {(f"key_{name}" if name in write.key else name): value for name, value in row.items()}
