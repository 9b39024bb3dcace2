"""Columns of any plain type to numbers, and numbers to text in full precision."""

from __future__ import annotations

import polars as pl


def read_numbers(column: pl.Series) -> pl.Series:
    """Numbers of a column, integers staying integers; null where a value is none.

    Text that says a number is one, and so are `true` and `false`.
    """
    kind = column.dtype
    if kind.is_integer() or kind.is_float():
        return column
    if kind == pl.Boolean:
        return column.cast(pl.Int8)
    if kind.is_decimal():
        return _from_text(column.cast(pl.String))
    if kind == pl.String:
        return _from_text(column)
    return pl.repeat(None, len(column), dtype=pl.Float64, eager=True)


def _from_text(column: pl.Series) -> pl.Series:
    text = column.str.strip_chars()
    nulls = text.null_count()
    integers = text.cast(pl.Int64, strict=False)
    if integers.null_count() == nulls:
        return integers
    floats = floats_of(text)
    if floats.null_count() == nulls:
        return floats
    words = text.str.to_lowercase().replace_strict({"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64)
    return floats.zip_with(floats.is_not_null(), words)


def floats_of(text: pl.Series) -> pl.Series:
    """Null where a text is no number, or one too large for a float; infinity is what a word says."""
    floats = text.cast(pl.Float64, strict=False)
    endless = floats.is_infinite()
    if not endless.any():
        return floats
    too_large = endless & text.str.contains(r"\d")
    return pl.select(pl.when(~too_large.fill_null(value=False)).then(floats)).to_series().rename(floats.name)


def to_text(numbers: pl.Series) -> pl.Series:
    """The shortest text that reads back as the same number; integers digit by digit, infinities as `+Inf`, `-Inf`."""
    text = numbers.cast(pl.String)
    if numbers.dtype.is_float() and numbers.is_infinite().any():
        return text.replace({"inf": "+Inf", "-inf": "-Inf"})
    return text
