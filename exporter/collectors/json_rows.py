"""A decoded JSON answer to rows, and rows to the columns that the metrics read."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import jmespath
import polars as pl
from pydantic import AfterValidator

from exporter.collectors.base import Collection
from exporter.collectors.columns import column

Row = dict[str, Any]
Expression = jmespath.parser.ParsedResult
_DEEPEST_FIELD = 6
_ABSENT: Final = object()


def _is_expression(text: str) -> str:
    try:
        jmespath.compile(text)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"{text!r} is no JMESPath expression: {str(error).splitlines()[0]}") from None
    return text


PathText = Annotated[str, AfterValidator(_is_expression)]


@dataclass(frozen=True, slots=True)
class Pivot:
    """Where each row keeps its list of pairs, and which keys of a pair hold the name and the value."""

    path: Expression
    name: str
    value: str


def columns_of(
    rows: Sequence[Row], wanted: Iterable[str], values: Container[str], pivot: Pivot | None, collection: Collection
) -> pl.DataFrame:
    """The wanted columns that are there; a column is a key, a pivoted name, or a dotted path into nested objects.

    Of `values`, a name that no row's pairs have is a column of nulls, for a row may well be without any pair; unless
    no row has pairs as they should be. Without rows the frame has no columns, for nothing says which there would be.
    """
    if not rows:
        return pl.DataFrame()
    pairs, paired = ([], False) if pivot is None else _pairs_of(rows, pivot, collection)
    collection.fields = tuple(dict.fromkeys((*_fields(rows[0]), *(pairs[0] if pairs else ()))))
    series = []
    for name in wanted:
        found = _paired_values(rows, pairs, name) if pairs else values_at(rows, name)
        if found is None and pivot is not None and paired and name in values and not _starts_path(rows, name):
            collection.warn("pivot_absent", 1, f"pivot `{pivot.path.expression}`: no row has {name}")
            found = [None] * len(rows)
        if found is not None:
            series.append(column(name, _plain(found, name, collection)))
    return pl.DataFrame(series)


def _pairs_of(rows: Iterable[Row], pivot: Pivot, collection: Collection) -> tuple[list[Row], bool]:
    """The pairs of each row by their name, and whether any row has pairs, or a list ready for them.

    Pairs without a usable name are left out and counted.
    """
    key, value = pivot.name, pivot.value
    found: list[Row] = []
    odd, repeated, paired = 0, 0, False
    for pairs in _lists(rows, pivot):
        named: Row = {}
        found.append(named)
        if not isinstance(pairs, list):
            odd += 1
            continue
        usable = 0
        for pair in pairs:
            if isinstance(pair, dict) and value in pair and isinstance(pair.get(key), str):
                named[pair[key]] = pair[value]
                usable += 1
        odd += len(pairs) - usable
        repeated += usable - len(named)
        paired = paired or usable > 0 or not pairs
    where = f"pivot `{pivot.path.expression}`"
    collection.warn("pivot_skipped", odd, f"{where}: no list of objects with {key} and {value}")
    collection.warn("pivot_repeated", repeated, f"{where}: a name stands twice in one row, the last one counts")
    return found, paired


def _lists(rows: Iterable[Row], pivot: Pivot) -> Iterable[object]:
    """What is at the pivot's path in each row. A plain key needs no JMESPath, which is slow for many rows."""
    path: str = pivot.path.expression
    if path.isidentifier():
        return (row.get(path) for row in rows)
    return (pivot.path.search(row) for row in rows)


def _paired_values(rows: Sequence[Row], pairs: Sequence[Row], name: str) -> list[Any] | None:
    """The values of a pivoted name, and of the key of that name where a row has no such pair."""
    if not any(name in named for named in pairs):
        return values_at(rows, name)
    return [named[name] if name in named else row.get(name) for named, row in zip(pairs, rows, strict=True)]


def values_at(records: Sequence[Row], name: str) -> list[Any] | None:
    """The values at a key, or else at a dotted path of keys and list positions; None if no record has either."""
    if any(name in record for record in records):
        return [record.get(name) for record in records]
    keys = name.split(".")
    values = [_at(record, keys) for record in records]
    return [None if value is _ABSENT else value for value in values] if values.count(_ABSENT) < len(values) else None


def _at(value: Any, keys: Sequence[str]) -> Any:  # noqa: ANN401 - JSON
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, _ABSENT)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return _ABSENT
    return value


def _starts_path(records: Sequence[Row], name: str) -> bool:
    """Whether a name leads into nested objects, and so is none of a pair."""
    return any(name.partition(".")[0] in record for record in records)


def _plain(values: list[Any], name: str, collection: Collection) -> list[Any]:
    """Values without lists and objects, which are neither numbers nor labels."""
    if not {dict, list} & set(map(type, values)):
        return values
    nested = sum(isinstance(value, dict | list) for value in values)
    collection.warn("not_plain", nested, f"field {name}: a list or an object, taken as missing")
    return [None if isinstance(value, dict | list) else value for value in values]


def _fields(record: Mapping[str, Any], prefix: str = "", depth: int = 1) -> Iterable[str]:
    """Keys of one row, those of nested objects as dotted paths, down to a depth that people still read."""
    for key, value in record.items():
        if isinstance(value, Mapping) and depth < _DEEPEST_FIELD:
            yield from _fields(value, f"{prefix}{key}.", depth + 1)
        else:
            yield prefix + key


def shape(value: object) -> str:
    """What a JSON value is, in words for a message."""
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
