"""Columns of a table with objects in it, by their name or by a path such as `metadata.region`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl


def at_path(schema: Mapping[str, pl.DataType], name: str) -> pl.Expr | None:
    """The column of that name, or else the field at the path, called `name`; None where there is neither."""
    if name in schema:
        return pl.col(name)
    first, *rest = name.split(".")
    if first not in schema:
        return None
    found, kind = pl.col(first), schema[first]
    for part in rest:
        fields = _fields(kind)
        if part not in fields:
            return None
        found, kind = found.struct.field(part), fields[part]
    return found.alias(name)


def field_names(schema: Mapping[str, pl.DataType], prefix: str = "") -> Iterator[str]:
    """Names of all fields, those within objects as paths."""
    for name, kind in schema.items():
        if fields := _fields(kind):
            yield from field_names(fields, f"{prefix}{name}.")
        else:
            yield prefix + name


def _fields(kind: pl.DataType) -> Mapping[str, Any]:
    """Name and type of what an object has; nothing where it is none."""
    return kind.to_schema() if isinstance(kind, pl.Struct) else {}
