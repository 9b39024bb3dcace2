"""The rows that a source's `filters` keep."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import reduce
from typing import Any

import polars as pl

from exporter.errors import BadAnswer, FieldMissing
from exporter.mapping.conversion import PLAIN, Conversion
from exporter.mapping.convert import convert
from exporter.mapping.plain_text import plain_text
from exporter.mapping.spec import DataWarning, FilterConfig, kind_of
from exporter.mapping.table import Table

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_READ_AS: Mapping[str, Conversion] = {
    "truth": Conversion("bool"),
    "number": PLAIN,
    "time": Conversion("timestamp"),
}


def filtered(table: Table, filters: Iterable[FilterConfig]) -> tuple[Table, list[DataWarning]]:
    """The rows for which all filters hold. FieldMissing and BadAnswer name the filter.

    A null holds in no comparison, not even `!=`, and neither does a value that cannot be compared, which is a warning.
    """
    warnings: list[DataWarning] = []
    masks = []
    for position, condition in enumerate(filters):
        try:
            mask, found = _holds(table.column(condition.field), condition)
        except (FieldMissing, BadAnswer) as error:
            error.args = (f"filters[{position}]: {error}",)
            raise
        masks.append(mask.fill_null(value=False))
        warnings += found
    if not masks:
        return table, warnings
    keep = reduce(operator.and_, masks)
    return (table if keep.all() else Table(table.frame.filter(keep), table.fields)), warnings


def _holds(column: pl.Series, condition: FilterConfig) -> tuple[pl.Series, tuple[DataWarning, ...]]:
    match condition.operator:
        case "is_null":
            return column.is_null(), ()
        case "not_null":
            return column.is_not_null(), ()
        case "contains":
            return plain_text(column).str.contains(str(condition.value), literal=True), ()
        case "regex":
            return plain_text(column).str.contains(str(condition.value)), ()
    kind = kind_of(condition.operands[0])
    if kind == "text":
        return _compared(plain_text(column), condition.operator, [str(value) for value in condition.operands]), ()
    numbers = convert(column, _READ_AS[kind])
    operands = [_seconds(value) if isinstance(value, date) else value for value in condition.operands]
    return _compared(numbers.values, condition.operator, operands), numbers.warnings


def _compared(column: pl.Series, name: str, operands: Sequence[float | str]) -> pl.Series:
    if column.dtype == pl.Null:
        return pl.repeat(None, len(column), dtype=pl.Boolean, eager=True)
    if column.dtype.is_integer() and all(isinstance(value, int) for value in operands):
        column = column.cast(pl.Int128)  # narrower types do not take every number to compare with
    elif column.dtype.is_numeric():
        column, operands = column.cast(pl.Float64), [float(value) for value in operands]
    if name in _COMPARE:
        compared: pl.Series = _COMPARE[name](column, operands[0])
        return compared
    among = column.is_in(pl.Series(operands, dtype=column.dtype).implode())
    return ~among if name == "not_in" else among


def _seconds(value: date) -> float:
    at = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
