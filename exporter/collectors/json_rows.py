"""A decoded JSON answer to rows, and rows to the columns that the metrics read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jmespath
import polars as pl

from exporter.collectors.base import Collection
from exporter.collectors.columns import column
from exporter.errors import BadAnswer, FieldMissing

Row = dict[str, Any]
Expression = jmespath.parser.ParsedResult


@dataclass(frozen=True, slots=True)
class Pivot:
    """Where each row keeps its list of pairs, and which keys of a pair hold the name and the value."""

    path: Expression
    name: str
    value: str


def rows_of(answer: object, path: Expression) -> list[Row]:
    """The objects that the expression finds; BadAnswer where it finds something else."""
    expression = path.expression
    try:
        found = path.search(answer)
    except jmespath.exceptions.JMESPathError as error:
        raise BadAnswer(f"rows `{expression}` cannot be read from the answer: {error}") from None
    if found is None:
        raise BadAnswer(f"the answer has nothing at rows `{expression}`; it is {_shape(answer)}")
    if not isinstance(found, list):
        raise BadAnswer(f"rows `{expression}` is {_shape(found)}, not a list")
    for position, row in enumerate(found):
        if not isinstance(row, dict):
            raise BadAnswer(f"rows `{expression}`[{position}] is {_shape(row)}, not an object")
    return found


def truth_at(answer: object, expression: str) -> bool:
    """A required true or false in the answer."""
    found = jmespath.search(expression, answer)
    if not isinstance(found, bool):
        raise BadAnswer(f"the answer has no true or false at `{expression}`; it is {_shape(answer)}")
    return found


def columns_of(rows: Sequence[Row], wanted: Iterable[str], pivot: Pivot | None, collection: Collection) -> pl.DataFrame:
    """The wanted columns; a column is a key, a pivoted name, or a dotted path into nested objects.

    Without rows the frame has no columns, for then nothing says which fields there would be.
    """
    if not rows:
        return pl.DataFrame()
    records = rows if pivot is None else _pivoted(rows, pivot, collection)
    series = []
    for name in wanted:
        values = [record.get(name) for record in records]
        if all(value is None for value in values) and not any(name in record for record in records):
            values = _nested(records, name)
        series.append(column(name, _plain(values, name, collection)))
    return pl.DataFrame(series)


def _pivoted(rows: Sequence[Row], pivot: Pivot, collection: Collection) -> list[Row]:
    """Rows with their pairs as keys of their own. Pairs without a usable name are left out and counted."""
    records, odd, repeated = [], 0, 0
    for row in rows:
        record = dict(row)
        pairs = pivot.path.search(row)
        if not isinstance(pairs, list):
            odd += 1
            pairs = []
        seen: set[str] = set()
        for pair in pairs:
            name = pair.get(pivot.name) if isinstance(pair, dict) else None
            if not isinstance(name, str) or pivot.value not in pair:
                odd += 1
                continue
            repeated += name in seen
            seen.add(name)
            record[name] = pair[pivot.value]
        records.append(record)
    where = f"pivot `{pivot.path.expression}`"
    collection.warn("pivot_skipped", odd, f"{where}: no list of objects with {pivot.name} and {pivot.value}")
    collection.warn("pivot_repeated", repeated, f"{where}: a name stands twice in one row, the last one counts")
    return records


def _nested(records: Sequence[Row], path: str) -> list[Any]:
    keys = path.split(".")
    found, values = False, []
    for record in records:
        value: Any = record
        for key in keys:
            if not isinstance(value, Mapping) or key not in value:
                value = None
                break
            value = value[key]
        else:
            found = True
        values.append(value)
    if not found:
        raise FieldMissing(path, dict.fromkeys(_fields(records[0])))
    return values


def _plain(values: list[Any], name: str, collection: Collection) -> list[Any]:
    """Values without lists and objects, which are neither numbers nor labels."""
    nested = sum(isinstance(value, dict | list) for value in values)
    if not nested:
        return values
    collection.warn("not_plain", nested, f"field {name}: a list or an object, taken as missing")
    return [None if isinstance(value, dict | list) else value for value in values]


def _fields(record: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """Keys of one row, those of nested objects as dotted paths."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _fields(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _shape(value: object) -> str:
    match value:
        case dict():
            return f"an object with {', '.join(map(str, list(value)[:10])) or 'no keys'}"
        case list():
            return f"a list of {len(value)}"
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case _:
            return "text"
