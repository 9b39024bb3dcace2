"""Columns of any plain type to text that stays the same, however the source chose to type the column."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl
from polars.exceptions import PolarsError

from exporter.errors import BadAnswer

_TICKS = {"ms": 10**3, "us": 10**6, "ns": 10**9}
_EXACT = 2.0**53  # floats below are whole numbers where they say so


def plain_text(column: pl.Series) -> pl.Series:
    """Text of each value, null for null; BadAnswer for a column of lists, objects or the like.

    A whole number is written without point, though a null beside it made the column one of floats; a decimal without
    trailing zeros; a date and a time as ISO 8601, one with a time zone in UTC; a length of time in seconds. Bytes that
    are no UTF-8 are replaced.
    """
    kind = column.dtype
    if kind == pl.String:
        return column
    write = _WRITERS.get(kind.base_type())
    if write is not None:
        return write(column)
    if kind.is_float():
        return _floats(column)
    if kind.is_nested() or kind == pl.Object:
        raise BadAnswer(f"field {column.name!r} holds {kind}, not plain values")
    return column.cast(pl.String)


def seconds(column: pl.Series) -> pl.Series:
    """Seconds of a Duration column."""
    assert isinstance(column.dtype, pl.Duration)
    return column.to_physical() / _TICKS[column.dtype.time_unit]


def _floats(column: pl.Series) -> pl.Series:
    text = column.cast(pl.String).replace({"inf": "+Inf", "-inf": "-Inf"})
    whole = (column == column.floor()) & (column.abs() < _EXACT)
    if not whole.any():
        return text
    return whole.to_frame("whole").select(
        pl.when("whole").then(column.fill_nan(None).cast(pl.Int64, strict=False).cast(pl.String)).otherwise(text)
    ).to_series().rename(column.name)  # fmt: skip


def _decimals(column: pl.Series) -> pl.Series:
    text = column.cast(pl.String)
    return text.str.replace(r"\.0*$|(\.\d*?)0+$", "$1")


def _bytes(column: pl.Series) -> pl.Series:
    try:
        return column.cast(pl.String)
    except PolarsError:  # some are no UTF-8, and Polars does not say which
        values = [None if value is None else bytes(value).decode("utf-8", "replace") for value in column]
        return pl.Series(column.name, values, dtype=pl.String)


def _times(column: pl.Series) -> pl.Series:
    assert isinstance(column.dtype, pl.Datetime)
    if column.dtype.time_zone is None:
        return column.dt.to_string("%Y-%m-%dT%H:%M:%S%.f")
    return column.dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%S%.fZ")


_WRITERS: Mapping[object, Callable[[pl.Series], pl.Series]] = {
    pl.Decimal: _decimals,
    pl.Binary: _bytes,
    pl.Datetime: _times,
    pl.Duration: lambda column: _floats(seconds(column)),
}
