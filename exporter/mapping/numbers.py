"""Columns of any plain type to numbers, and numbers to text in full precision."""

from __future__ import annotations

import polars as pl

from exporter.mapping.spec import DataWarning

_EXAMPLE_LENGTH = 40


def to_numbers(column: pl.Series) -> tuple[pl.Series, pl.Series | None, list[DataWarning]]:
    """Numbers of a column (integers stay integers), a mask of values that are none, and a warning about those.

    Text that says a number is one, and so are `true` and `false`. The mask is None when every value was understood;
    nulls are not in it, since the null policy decides about them.
    """
    kind = column.dtype
    if kind.is_integer() or kind.is_float():
        return column, None, []
    if kind == pl.Boolean:
        return column.cast(pl.Int8), None, []
    if kind == pl.Null:
        return column.cast(pl.Float64), None, []
    if kind.is_decimal():
        return _from_text(column.cast(pl.String))
    if kind == pl.String:
        return _from_text(column)
    return _refused(pl.repeat(None, len(column), dtype=pl.Float64, eager=True), column, column.is_not_null())


def _from_text(column: pl.Series) -> tuple[pl.Series, pl.Series | None, list[DataWarning]]:
    text = column.str.strip_chars()
    nulls = text.null_count()
    integers = text.cast(pl.Int64, strict=False)
    if integers.null_count() == nulls:
        return integers, None, []
    floats = text.cast(pl.Float64, strict=False)
    if floats.null_count() == nulls:
        return floats, None, []
    words = text.str.to_lowercase().replace_strict({"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64)
    numbers = pl.select(pl.coalesce(pl.lit(floats), pl.lit(words))).to_series().head(len(column))
    if numbers.null_count() == nulls:
        return numbers, None, []
    return _refused(numbers, column, column.is_not_null() & numbers.is_null())


def _refused(
    numbers: pl.Series, column: pl.Series, mask: pl.Series
) -> tuple[pl.Series, pl.Series | None, list[DataWarning]]:
    count = int(mask.sum())
    if not count:
        return numbers, None, []
    example = str(column.filter(mask)[0])[:_EXAMPLE_LENGTH]
    detail = f"field {column.name}: {example!r} is no number"
    return numbers, mask, [DataWarning("not_a_number", count, detail)]


def to_text(numbers: pl.Series) -> pl.Series:
    """The shortest text that reads back as the same number; integers digit by digit, infinities as `+Inf`, `-Inf`."""
    text = numbers.cast(pl.String)
    if numbers.dtype.is_float() and numbers.is_infinite().any():
        return text.replace({"inf": "+Inf", "-inf": "-Inf"})
    return text
