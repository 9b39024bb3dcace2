"""Columns to numbers, as a metric's `parse`, `unit`, `format`, `time_zone` and `map` say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from exporter.mapping import timestamps
from exporter.mapping.conversion import PLAIN, Conversion, ParseKind
from exporter.mapping.numbers import floats_of, read_numbers
from exporter.mapping.plain_text import plain_text, seconds
from exporter.mapping.spec import DataWarning
from exporter.mapping.units import BYTES, DURATIONS, QUANTITIES, Unit, unit_of

_EXAMPLE_LENGTH = 40
_WORDS = {
    1: ("true", "t", "yes", "y", "on", "enabled", "1"),
    0: ("false", "f", "no", "n", "off", "disabled", "0"),
}
_TRUTH = {word: number for number, words in _WORDS.items() for word in words}
_WITH_UNIT = r"^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\p{L}*)$"
_CLOCK = r"^(?:(-?\d+) days?,? )?([+-]?)(\d+):(\d\d)(?::(\d\d(?:\.\d+)?))?$"
_PART = r"\d+(?:\.\d+)?\s*\p{L}+"


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column as numbers, and a mask of the values that are none; None when each was understood.

    Nulls are not in the mask, since the null policy decides about them.
    """

    values: pl.Series
    refused: pl.Series | None = None
    warnings: tuple[DataWarning, ...] = ()


def convert(column: pl.Series, how: Conversion = PLAIN) -> Numbers:
    """Numbers of a column, integers staying integers, with a warning about values that were not understood."""
    numbers = _READERS[how.kind](column, how)
    if how.words:
        numbers = _with_words(column, numbers, how.words)
    if numbers.null_count() == column.null_count():
        return Numbers(numbers)
    refused = column.is_not_null() & numbers.is_null()
    example = str(column.filter(refused)[0])[:_EXAMPLE_LENGTH]
    detail = f"field {column.name}: {example!r} is no {how.kind}"
    return Numbers(numbers, refused, (DataWarning("not_a_number", int(refused.sum()), detail),))


def _with_words(column: pl.Series, numbers: pl.Series, words: Mapping[str, float]) -> pl.Series:
    if column.dtype.is_nested() or column.dtype == pl.Object:
        return numbers
    named = plain_text(column).str.strip_chars().replace_strict(dict(words), default=None, return_dtype=pl.Float64)
    if named.null_count() == len(named):
        return numbers
    return named.zip_with(named.is_not_null(), numbers.cast(pl.Float64))


def _numbers(column: pl.Series, _: Conversion) -> pl.Series:
    return read_numbers(column)


def _truth(column: pl.Series, _: Conversion) -> pl.Series:
    if column.dtype == pl.Boolean:
        return column.cast(pl.Int8)
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).replace_strict({0.0: 0, 1.0: 1}, default=None, return_dtype=pl.Int8)
    if column.dtype != pl.String:
        return _nulls(column)
    words = column.str.strip_chars().str.to_lowercase()
    return words.replace_strict(_TRUTH, default=None, return_dtype=pl.Int8)


def _percent(column: pl.Series, _: Conversion) -> pl.Series:
    text = _number_text(column)
    return _nulls(column) if text is None else _shifted(text.str.strip_suffix("%").str.strip_chars(), -2)


def _duration(column: pl.Series, how: Conversion) -> pl.Series:
    if column.dtype == pl.Duration:
        return seconds(column)
    numbers = _measured(column, DURATIONS, unit_of("duration", how.unit))
    odd = column.is_not_null() & numbers.is_null()
    if column.dtype != pl.String or not odd.any():
        return numbers
    return numbers.scatter(odd.arg_true(), _long_durations(column.filter(odd).str.strip_chars()))


def _long_durations(text: pl.Series) -> pl.Series:
    """Seconds of durations such as `1h30m`, `01:30:00` and `1 day, 01:30:00`; null where a text is none."""
    clock = text.to_frame("text").select(pl.col("text").str.extract_groups(_CLOCK)).unnest("text")
    clock.columns = ["days", "sign", "hours", "minutes", "seconds"]
    days, minutes, rest = (pl.col(name).cast(pl.Float64).fill_null(0) for name in ("days", "minutes", "seconds"))
    time_of_day = pl.col("hours").cast(pl.Float64) * DURATIONS["h"].factor + minutes * DURATIONS["m"].factor + rest
    negative = pl.when(pl.col("sign") == "-").then(-time_of_day).otherwise(time_of_day)
    by_clock = clock.select(days * DURATIONS["d"].factor + negative).to_series()
    return by_clock.zip_with(by_clock.is_not_null(), _sums_of_parts(text))


def _sums_of_parts(text: pl.Series) -> pl.Series:
    """Seconds of text such as `-1h 30m`, which is a sign and numbers with units."""
    rows = text.to_frame("text").with_row_index("row")
    parts = rows.filter(pl.col("text").str.contains(rf"^-?(?:{_PART}\s*)+$")).with_columns(
        negative=pl.col("text").str.starts_with("-"), part=pl.col("text").str.extract_all(_PART)
    )
    if not len(parts):
        return _nulls(text)
    parts = parts.explode("part")
    parts = parts.with_columns(seconds=_measured(parts["part"], DURATIONS, Unit()))
    understood = pl.col("seconds").is_not_null().all()
    total = pl.col("seconds").sum() * (1 - 2 * pl.col("negative").first().cast(pl.Int8))
    sums = parts.group_by("row").agg(pl.when(understood).then(total).alias("seconds"))
    return rows.join(sums, on="row", how="left", maintain_order="left")["seconds"]


def _bytes(column: pl.Series, how: Conversion) -> pl.Series:
    lowered = column.str.to_lowercase() if column.dtype == pl.String else column
    return _measured(lowered, BYTES, unit_of("bytes", how.unit))


def _quantity(column: pl.Series, _: Conversion) -> pl.Series:
    return _measured(column, QUANTITIES, Unit())


def _timestamp(column: pl.Series, how: Conversion) -> pl.Series:
    kind = column.dtype
    if kind in (pl.Date, pl.Datetime):
        return timestamps.of_temporal(column, how.time_zone)
    unit = unit_of("timestamp", how.unit)
    if kind != pl.String:
        text = _number_text(column)
        return _nulls(column) if text is None else _shifted(text, unit.power)
    text = column.str.strip_chars()
    numbers = timestamps.of_text(text, how.time_zone, how.form)
    if how.form is None and numbers.null_count() > text.null_count():
        numbers = numbers.cast(pl.Float64).zip_with(numbers.is_not_null(), _shifted(text, unit.power))
    return numbers


def _nulls(column: pl.Series) -> pl.Series:
    return pl.repeat(None, len(column), dtype=pl.Float64, eager=True)


def _number_text(column: pl.Series) -> pl.Series | None:
    """Text of numbers, trimmed; None for a column of something else."""
    kind = column.dtype
    if kind == pl.String:
        return column.str.strip_chars()
    return column.cast(pl.String) if kind.is_numeric() or kind == pl.Null else None


def _shifted(text: pl.Series, power: int) -> pl.Series:
    """Numbers times a power of ten, exactly as if they had been written so: 12.3 % is 0.123."""
    if not power:
        return floats_of(text)
    exact = floats_of(text + f"e{power}")
    if exact.null_count() == text.null_count():
        return exact
    plain = floats_of(text)
    return exact.zip_with(exact.is_not_null(), plain / 10.0**-power if power < 0 else plain * 10.0**power)


def _measured(column: pl.Series, units: Mapping[str, Unit], default: Unit) -> pl.Series:
    """Numbers in the base unit; those written without a unit are in the default one. Null where a value is none."""
    if column.dtype.is_numeric() or column.dtype == pl.Null:
        return _shifted(column.cast(pl.String), default.power) * default.factor
    if column.dtype != pl.String:
        return _nulls(column)
    parts = column.to_frame("text").select(pl.col("text").str.strip_chars().str.extract_groups(_WITH_UNIT))
    parts = parts.unnest("text")
    parts.columns = ["number", "unit"]
    numbers = _nulls(column)
    for name in parts["unit"].unique().drop_nulls():
        unit = units.get(name) if name else default
        if unit is not None:
            of_unit = (parts["unit"] == name).fill_null(value=False)
            numbers = (_shifted(parts["number"], unit.power) * unit.factor).zip_with(of_unit, numbers)
    return numbers


_READERS: Mapping[ParseKind, Callable[[pl.Series, Conversion], pl.Series]] = {
    "number": _numbers,
    "bool": _truth,
    "percent": _percent,
    "duration": _duration,
    "bytes": _bytes,
    "quantity": _quantity,
    "timestamp": _timestamp,
}
