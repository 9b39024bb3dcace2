"""What a metric usually is: the middle of the days before, without the attack itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from webhook.domain.usual import usual

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_the_middle_half_of_the_days_at_each_time() -> None:
    level = usual({day: [(NOW, float(day))] for day in range(1, 8)}, NOW)
    assert level is not None
    assert (level.times, level.low, level.middle, level.high, level.days) == ([NOW], [2.5], [4.0], [5.5], 7)


def test_one_attack_before_does_not_raise_it() -> None:
    level = usual({**{day: [(NOW, 0.04)] for day in range(1, 7)}, 7: [(NOW, 0.9)]}, NOW)
    assert level is not None
    assert level.middle == [0.04]


def test_two_days_are_no_habit() -> None:
    assert usual({1: [(NOW, 1.0)], 2: [(NOW, 1.0)]}, NOW) is None
    assert usual({}, NOW) is None


def test_times_of_too_few_days_are_left_out() -> None:
    level = usual({1: [(NOW, 1.0)], 2: [(NOW, 1.0), (NOW + DAY, 1.0)], 3: [(NOW, 1.0)]}, NOW + 9 * DAY)
    assert level is not None
    assert list(level.times) == [NOW]


def test_a_long_attack_is_not_its_own_usual_level() -> None:
    """Three days in, the three days before now are the attack."""
    level = usual({day: [(NOW, 9.0 if day <= 3 else 1.0)] for day in range(1, 8)}, NOW - 3 * DAY)
    assert level is not None
    assert (level.high, level.days) == ([1.0], 4)
