"""How a value is to be read as a number: what a metric's `parse`, `unit`, `format`, `time_zone` and `map` say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from exporter.mapping.units import UNITS_OF, unit_of

ParseKind = Literal["number", "bool", "percent", "duration", "bytes", "quantity", "timestamp"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """How values are read. `words` come first; `unit` is that of values written without one."""

    kind: ParseKind = "number"
    unit: str | None = None
    form: str | None = None
    time_zone: str = "UTC"
    words: Mapping[str, float] = field(default_factory=dict)


PLAIN = Conversion()


def checked_unit(kind: ParseKind, unit: str) -> str:
    """`unit` if values of the kind can be in it, else ValueError."""
    if kind not in UNITS_OF:
        fitting = [name for name in UNITS_OF if _has(name, unit)]
        hint = f"set parse: {' or '.join(fitting)}" if fitting else f"it goes with parse: {', '.join(UNITS_OF)}"
        raise ValueError(f"unit {unit} has no meaning for parse: {kind}; {hint}")
    if not _has(kind, unit):
        raise ValueError(f"unit {unit!r} is none of {kind}: use one of {', '.join(UNITS_OF[kind])}")
    return unit


def _has(kind: str, unit: str) -> bool:
    try:
        unit_of(kind, unit)
    except KeyError:
        return False
    return True


def checked_form(form: str) -> str:
    """`form` if dates can be read by it, else ValueError."""
    import polars as pl  # noqa: PLC0415 - most configurations have no format, and a warm start does without Polars

    example = pl.Series([datetime(2026, 11, 23, 14, 45, 56, tzinfo=UTC)])
    try:
        read = example.dt.to_string(form).str.to_datetime(form, strict=False)[0]
    except pl.exceptions.PolarsError:
        read = None
    if read is None or read.year != example[0].year:
        raise ValueError(f"format {form!r} reads no date: write it such as '%d.%m.%Y %H:%M:%S' or '%Y%m%d'")
    return form


def checked_zone(name: str) -> str:
    """`name` if it is a time zone, else ValueError."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError(f"{name!r} is no time zone: write it such as Europe/Berlin or UTC") from None
    return name
