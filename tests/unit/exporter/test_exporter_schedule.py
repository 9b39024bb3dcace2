from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cron import Cron, valid_expression, valid_zone
from exporter.schedule import Schedule, first_spread, fraction

names = st.text(min_size=1, max_size=20)
intervals = st.floats(0.1, 86_400)
moments = st.floats(0, 1e7)


@given(names, intervals, moments)
def test_the_first_collection_is_soon(name: str, interval: float, origin: float) -> None:
    assert origin <= Schedule(name, interval, 0).first(origin) <= origin + min(0.25, interval) + 1e-6


@given(names, intervals, st.floats(0, 1e5), moments)
def test_no_gap_is_longer_than_the_interval(name: str, interval: float, origin: float, passed: float) -> None:
    now = origin + passed
    due = Schedule(name, interval, origin).regular(now, 0)
    assert now < due + 1e-6
    assert due <= now + interval + 1e-6


def test_the_times_of_a_source_are_the_same_at_every_start_and_spread_over_the_interval() -> None:
    assert fraction("payments") == fraction("payments")
    spread = sorted(Schedule(f"source-{i}", 60, 0).regular(0, 0) for i in range(500))
    assert max(later - earlier for earlier, later in itertools.pairwise(spread)) < 3


@given(st.integers(1, 60), st.booleans(), st.one_of(st.none(), st.floats(0, 1e9)))
def test_after_a_failure(failures: int, retryable: bool, retry_after: float | None) -> None:
    schedule, now = Schedule("payments", 30, 0), 1000.0
    due = schedule.after_failure(now, 0, failures=failures, retryable=retryable, retry_after=retry_after)
    if retry_after is None:
        assert due <= schedule.regular(now, 0)
    else:
        assert due >= now + min(retry_after, 3600)
    if not retryable:
        assert due >= schedule.regular(now, 0)


def test_retries_back_off() -> None:
    schedule = Schedule("payments", 3600, 0)
    waits = [schedule.after_failure(10, 0, failures=n, retryable=True, retry_after=None) - 10 for n in range(1, 6)]
    assert waits == [1, 2, 4, 8, 16]


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def test_the_first_collections_of_many_sources_are_spread_and_those_of_a_few_are_not() -> None:
    assert first_spread(5) == 0.25
    times = sorted(Schedule(f"source-{i}", 30, 0).first(0, first_spread(500)) for i in range(500))
    assert 8 < times[-1] < 10
    assert sum(1 for time in times if time < 1) < 100


def test_warm_data_is_renewed_when_it_would_have_been_anyway() -> None:
    schedule = Schedule("payments", 3600, 0)
    assert schedule.first_of_warm(0, 0, age=10) == schedule.regular(0, 0)
    assert schedule.first_of_warm(0, 0, age=3599) <= 1
    assert schedule.first_of_warm(0, 0, age=9999) == schedule.first(0)
    nightly, noon = Schedule("report", 86_400, 0, Cron("0 6 * * *")), at("2026-11-21T12:00")
    due = nightly.first_of_warm(100, noon, age=5 * 3600)
    assert 18 * 3600 <= due - 100 <= 18 * 3600 + 60, "collected after six: next at six"
    assert nightly.first_of_warm(100, noon, age=7 * 3600) == nightly.first(100), "collected before six: late"


@given(st.floats(1.7e9, 1.9e9), names)
def test_a_cron_source_is_due_at_its_times_shifted_by_its_name_less_than_a_minute(wall: float, name: str) -> None:
    schedule = Schedule(name, 86_400, 0, Cron("30 6 * * 1-5", "Europe/Berlin"))
    due = schedule.regular(1000, wall)
    assert due > 1000
    told = datetime.fromtimestamp(wall + due - 1000 - fraction(name) * 60 + 1e-3, ZoneInfo("Europe/Berlin"))
    assert (told.hour, told.minute, told.second, told.isoweekday() < 6) == (6, 30, 0, True)
    later = schedule.regular(due, wall + due - 1000 + 1e-3)
    assert later - due <= 3 * 86_400 + 3601


def test_shifts_of_frequent_cron_sources_are_a_tenth_of_their_gap() -> None:
    due = [Schedule(f"source-{i}", 60, 0, Cron("* * * * *")).regular(0, 120.0) for i in range(100)]
    early, late = min(due), max(due)
    assert 0 < early < late
    shifts = [(each % 60) for each in due]
    assert max(shifts) < 6


def test_summer_time_neither_skips_nor_repeats_a_nightly_run() -> None:
    cron = Cron("30 2 * * *", "Europe/Berlin")
    spring = [cron.following(at("2027-03-27T12:00", "Europe/Berlin"))]
    spring.append(cron.following(spring[0]))
    assert datetime.fromtimestamp(spring[0], UTC).isoformat() == "2027-03-28T01:00:00+00:00", "2:30 is not: 3:00 is"
    assert timedelta(seconds=spring[1] - spring[0]) == timedelta(hours=23, minutes=30)
    autumn = [cron.following(at("2027-10-30T12:00", "Europe/Berlin"))]
    autumn.append(cron.following(autumn[0]))
    assert timedelta(seconds=autumn[1] - autumn[0]) in (timedelta(hours=25), timedelta(hours=24))


@pytest.mark.parametrize(
    ("expression", "longest", "shortest"),
    [
        ("* * * * *", 60, 60),
        ("*/5 8-18 * * 1-5", 61 * 3600 + 300, 300),
        ("0 6 * * *", 86_400, 86_400),
        ("30 6 * * 1-5", 3 * 86_400, 86_400),
        ("0 0,12 * * *", 43_200, 43_200),
        ("0 0 1 * *", 31 * 86_400, 28 * 86_400),
        ("0 0 1 1 *", 366 * 86_400, 366 * 86_400),
    ],
)
def test_gaps_of_cron_expressions(expression: str, longest: float, shortest: float) -> None:
    gaps = Cron(valid_expression(expression)).gaps
    assert (gaps.longest, gaps.shortest) == (longest, shortest)


@settings(max_examples=20)
@given(
    st.sampled_from(["*", "*/7", "0", "5,50", "10-20"]),
    st.sampled_from(["*", "*/5", "6", "8-18", "0,23"]),
    st.sampled_from(["*", "1", "*/10"]),
    st.sampled_from(["*", "1-5", "0"]),
)
def test_no_gap_between_runs_is_outside_the_gaps(minute: str, hour: str, day: str, weekday: str) -> None:
    cron = Cron(valid_expression(f"{minute} {hour} {day} * {weekday}"))
    wall, found = at("2026-02-01T00:00"), []
    for _ in range(100):
        following = cron.following(wall)
        found.append(following - wall)
        wall = following
    assert cron.gaps.shortest <= min(found[1:])
    assert max(found[1:]) <= cron.gaps.longest


@pytest.mark.parametrize("text", ["", "* * * *", "* * * * * *", "61 * * * *", "0 0 31 2 *", "0 6 * * MOM", "@daily"])
def test_what_is_no_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"cron expression|never comes"):
        valid_expression(text)


def test_what_is_no_time_zone_is_refused() -> None:
    for text in ("Europe/Berlim", "", "../etc/passwd", "CEST+25"):
        with pytest.raises(ValueError, match="no time zone"):
            valid_zone(text)
