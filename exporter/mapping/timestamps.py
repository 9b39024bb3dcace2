"""Dates and times to Unix seconds."""

from __future__ import annotations

import polars as pl

_TICKS = {"ms": 10**3, "us": 10**6, "ns": 10**9}
# date, time, seconds, fraction, and the offset from UTC
_ISO = r"^(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d+))?)?\s*([Zz]|UTC|[+-]\d\d(?::?\d\d(?::\d\d)?)?)?)?$"


def of_temporal(column: pl.Series, time_zone: str) -> pl.Series:
    """Unix seconds of a Date or Datetime column. Times without a time zone are taken to be in the given one.

    A time that the clock there shows twice is the earlier one; one that it skips is null.
    """
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    kind = column.dtype
    assert isinstance(kind, pl.Datetime)
    if kind.time_zone is None and time_zone != "UTC":
        column = column.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")
    ticks, per_second = column.to_physical(), _TICKS[kind.time_unit]
    whole = ticks // per_second
    return whole if (whole * per_second == ticks).all() else ticks / per_second


def of_text(text: pl.Series, time_zone: str, form: str | None) -> pl.Series:
    """Unix seconds of ISO 8601 text, or of text in the given strftime form; null for what is neither."""
    if form is not None:
        return of_temporal(text.str.to_datetime(form, strict=False, time_unit="us"), time_zone)
    found = text.to_frame("text").select(pl.col("text").str.extract_groups(_ISO)).unnest("text")
    found.columns = ["day", "minute", "second", "fraction", "offset"]
    clock = pl.concat_str("day", pl.lit(" "), pl.col("minute").fill_null("00:00"), pl.lit(":"), _or_zeros("second"))
    found = found.with_columns(
        local=clock.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us"),
        here=pl.col("offset").is_null(),
    )
    zones = [of_temporal(found["local"], "UTC") - _offset_seconds(found["offset"])]
    if time_zone != "UTC":
        zones.append(of_temporal(found["local"], time_zone))
    seconds = zones[0].zip_with(~found["here"], zones[-1])
    if found["fraction"].null_count() == len(found):
        return seconds
    return seconds + found.select(("0." + pl.col("fraction")).cast(pl.Float64).fill_null(0.0)).to_series()


def _or_zeros(column: str) -> pl.Expr:
    return pl.col(column).fill_null("00")


def _offset_seconds(offset: pl.Series) -> pl.Series:
    """Seconds east of UTC of `Z`, `+02`, `+0200` or `+02:00`; 0 for null."""
    digits = offset.str.replace_all(r"[^\d]", "").str.pad_end(6, "0")
    east = sum(
        digits.str.slice(start, 2).cast(pl.Int64).fill_null(0) * seconds
        for start, seconds in ((0, 3600), (2, 60), (4, 1))
    )
    assert isinstance(east, pl.Series)
    return (-east).zip_with(offset.str.starts_with("-").fill_null(value=False), east)
