"""Values to numbers, as a data owner writes them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.collectors.columns import column
from exporter.mapping.render import Rendered, render
from exporter.mapping.spec import MetricConfig, SeriesSpec


def metric(**options: Any) -> MetricConfig:
    return MetricConfig(source_field="value", prometheus_name="shop_value", labels=["row"], **options)


def converted(values: Any, **options: Any) -> Rendered:
    series = values if isinstance(values, pl.Series) else column("value", values)
    frame = pl.DataFrame([series.alias("value"), pl.Series("row", range(len(series)))])
    return render(frame, SeriesSpec((metric(**options),)))


def numbers(values: Any, **options: Any) -> list[str | None]:
    """What is written for each value; None where there is no sample."""
    result = converted(values, **options)
    found = dict(line.rsplit(" ", 1) for line in result.families[0].text.decode().splitlines())
    return [found.get(f'shop_value{{row="{row}"}}') for row in range(len(values))]


@pytest.mark.parametrize(
    ("parse", "values", "wanted"),
    [
        ("percent", ["12.5%", "12.3 %", " 100% ", "-5", "1e1%", "half", "1e999%"],
         ["0.125", "0.123", "1.0", "-0.05", "0.1", None, None]),
        ("percent", [12.5, 12.3, 1e-7, float("inf")], ["0.125", "0.123", "1e-9", "+Inf"]),
        ("percent", [50, None, 7], ["0.5", None, "0.07"]),
        ("bool", ["yes", "NO", " On ", "off", "TRUE", "f", "1", "0", "maybe"],
         ["1", "0", "1", "0", "1", "0", "1", "0", None]),
        ("bool", [1, 0, 2], ["1", "0", None]),
        ("bool", [True, False], ["1", "0"]),
        ("duration", ["12 ms", "1.5s", "2h", "3 days", "90", "250µs", "5 fortnights", "-4 min"],
         ["0.012", "1.5", "7200.0", "259200.0", "90.0", "0.00025", None, "-240.0"]),
        ("duration", ["1h30m", "1m 30s", "-1h 30 min", "1h90", "1h 3x", "01:30:00", "0:00:01.5", "1 day, 1:00:00",
                      "-1 day, 23:00:00", "00:05"],
         ["5400.0", "90.0", "-5400.0", None, None, "5400.0", "1.5", "90000.0", "-3600.0", "300.0"]),
        ("bytes", ["3.5 GiB", "1kB", "1KB", "2 MB", "10", "1Ki", "5 bytes", "1 qb"],
         ["3758096384.0", "1000.0", "1000.0", "2000000.0", "10.0", "1024.0", "5.0", None]),
        ("quantity", ["3.5k", "2M", "500m", "1Ki", "7", "1e3", "1,000"],
         ["3500.0", "2000000.0", "0.5", "1024.0", "7.0", "1000.0", None]),
        ("timestamp", ["2026-01-02", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05+02:00", "2026-01-02T03:04", "x",
                       "1767225600", "2026-01-02T03:04:05-0330", "2026-13-01"],
         ["1767312000", "1767323045", "1767315845", "1767323040", None, "1767225600.0", "1767335645", None]),
    ],
)  # fmt: skip
def test_values_as_people_write_them(parse: str, values: list[Any], wanted: list[str | None]) -> None:
    written = numbers(values, parse=parse)
    assert [text and float(text) for text in written] == [text and float(text) for text in wanted]
    if parse == "percent":
        assert written == wanted
    refused = sum(value is not None and text is None for value, text in zip(values, wanted, strict=True))
    assert sum(warning.count for warning in converted(values, parse=parse).warnings) == refused


def test_what_is_not_understood_is_named() -> None:
    (warning,) = converted(["12 ms", "soon"], parse="duration").warnings
    assert (warning.reason, warning.detail) == ("not_a_number", "field value: 'soon' is no duration")


@pytest.mark.parametrize(
    ("options", "values", "wanted"),
    [
        ({"parse": "duration", "unit": "ms"}, [250, 1500.5], [0.25, 1.5005]),
        ({"parse": "duration", "unit": "ms"}, ["250", "2 s"], [0.25, 2]),
        ({"parse": "bytes", "unit": "KiB"}, [2], [2048]),
        ({"parse": "timestamp", "unit": "ms"}, [1767225600123], [1767225600.123]),
        ({"parse": "timestamp", "format": "%d.%m.%Y %H:%M"}, ["02.01.2026 03:04"], [1767323040]),
        ({"parse": "timestamp", "format": "%d.%m.%Y", "time_zone": "Europe/Berlin"}, ["02.07.2026"], [1782943200]),
        ({"parse": "timestamp", "time_zone": "Europe/Berlin"}, ["2026-07-02T00:00", "2026-07-02T00:00Z"],
         [1782943200, 1782950400]),
    ],
)  # fmt: skip
def test_values_without_a_unit_are_in_the_one_that_is_named(
    options: dict[str, Any], values: list[Any], wanted: list[float]
) -> None:
    assert [float(text or "nan") for text in numbers(values, **options)] == wanted


moments = st.datetimes(*(datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (1900, 2200)))


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_any_time_as_iso_text_and_as_column_is_its_unix_time(at: datetime, minutes: int) -> None:
    zone = ZoneInfo("Asia/Kathmandu")
    east = at.replace(tzinfo=UTC).timestamp() - minutes * 60
    offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    text = [at.isoformat(" ") + offset, at.isoformat() + "Z", at.isoformat()]
    read = [float(number or "nan") for number in numbers(text, parse="timestamp", time_zone=zone.key)]
    local = at.replace(tzinfo=zone).timestamp()
    assert read == pytest.approx([east, at.replace(tzinfo=UTC).timestamp(), local], abs=2e-6)
    (column_read,) = numbers(pl.Series([at]), parse="timestamp", time_zone=zone.key)
    assert float(column_read or "nan") == pytest.approx(local, abs=2e-6)


@given(st.lists(st.timedeltas(timedelta(-9999), timedelta(9999)), min_size=1, max_size=6))
def test_any_interval_is_its_seconds(intervals: list[timedelta]) -> None:
    for values in (intervals, pl.Series(intervals), [str(interval) for interval in intervals]):
        read = [float(number or "nan") for number in numbers(values, parse="duration")]
        assert read == pytest.approx([interval.total_seconds() for interval in intervals], abs=1e-6)


@given(st.lists(st.integers(-(10**12), 10**12).map(lambda number: Decimal(f"{number}E-3")), min_size=1, max_size=6))
def test_percent_is_exact(shares: list[Decimal]) -> None:
    wanted = [float(share / 100) for share in shares]
    for values in ([f"{share}%" for share in shares], [float(share) for share in shares]):
        assert [float(number or "nan") for number in numbers(values, parse="percent")] == wanted


def test_a_date_column_is_midnight() -> None:
    assert numbers(pl.Series([date(2026, 1, 2), None]), parse="timestamp") == ["1767312000", None]


def test_a_time_that_the_clock_skips_is_none() -> None:
    spring = ["2026-03-29T02:30:00", "2026-03-29T03:30:00"]
    assert numbers(spring, parse="timestamp", time_zone="Europe/Berlin") == [None, "1774747800.0"]


def test_words_stand_for_numbers_and_the_rest_is_read_as_ever() -> None:
    words = {"up": 1, "degraded": 0.5, "-": 0, "3": 30}
    assert numbers(["up", " degraded ", "7", "-", "gone"], map=words) == ["1.0", "0.5", "7.0", "0.0", None]
    assert numbers([3, 4], map=words) == ["30.0", "4.0"]
    assert numbers([None, "up"], map=words, null="zero") == ["0.0", "1.0"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unit": "ms"}, "set parse: duration or timestamp"),
        ({"parse": "percent", "unit": "parsec"}, "goes with parse: duration, bytes, timestamp"),
        ({"parse": "duration", "unit": "MiB"}, "is none of duration"),
        ({"format": "%Y"}, "set parse: timestamp"),
        ({"parse": "timestamp", "format": "%H:%M"}, "reads no date"),
        ({"parse": "timestamp", "format": "nonsense"}, "reads no date"),
        ({"parse": "timestamp", "time_zone": "Mars/Base"}, "no time zone"),
        ({"parse": "timestamp", "time_zone": "../../etc/passwd"}, "no time zone"),
    ],
)
def test_conversions_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        metric(**options)
