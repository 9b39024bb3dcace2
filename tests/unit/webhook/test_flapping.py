"""When a condition flaps and when it has calmed down; what its messages become meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from webhook.domain.alert import AlertTypeSettings
from webhook.domain.flapping import STEADY, calmed, holds_back, restarted

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SETTINGS = AlertTypeSettings()


def test_more_than_three_restarts_within_an_hour_are_flapping() -> None:
    state = STEADY
    for number in range(3):
        state = restarted(state, SETTINGS, NOW + 16 * number * MINUTE)
    assert state.since is None
    state = restarted(state, SETTINGS, NOW + 48 * MINUTE)
    assert state.since == NOW + 48 * MINUTE
    assert holds_back(state, SETTINGS, NOW + 48 * MINUTE)


def test_restarts_at_longer_intervals_are_not() -> None:
    state = STEADY
    for number in range(20):
        state = restarted(state, SETTINGS, NOW + 20 * number * MINUTE)
        assert state.since is None


def test_it_is_over_when_half_as_many_remain_in_the_window() -> None:
    state = STEADY
    for minute in (0, 10, 20, 30):
        state = restarted(state, SETTINGS, NOW + minute * MINUTE)
    assert holds_back(state, SETTINGS, NOW + 79 * MINUTE), "two remain"
    assert not holds_back(state, SETTINGS, NOW + 80 * MINUTE), "one remains"
    assert calmed(state, SETTINGS, NOW + 80 * MINUTE).restarts == (NOW + 30 * MINUTE,)


def test_what_calmed_down_while_nobody_looked_begins_anew() -> None:
    """The worker, which says that it is over, may be away for hours."""
    state = STEADY
    for minute in (0, 10, 20, 30):
        state = restarted(state, SETTINGS, NOW + minute * MINUTE)
    state = replace(state, told_at=NOW + 30 * MINUTE)
    for number in range(3):
        now = NOW + timedelta(hours=10, minutes=number)
        state = restarted(state, SETTINGS, now)
        assert not holds_back(state, SETTINGS, now)
    now += MINUTE
    state = restarted(state, SETTINGS, now)
    assert (state.since, state.told_at) == (now, None), "and is told again"


@given(st.integers(1, 6), st.lists(st.integers(1, 90), max_size=40))
def test_what_has_calmed_down_does_not_flap_at_its_next_restart(most: int, waits: list[int]) -> None:
    settings = AlertTypeSettings(flapping_restarts=most)
    state, now = STEADY, NOW
    for wait in waits:
        now += wait * MINUTE
        was_calm = not holds_back(state, settings, now)
        flapped = state.since is not None
        state = restarted(state, settings, now)
        assert not (flapped and was_calm) or state.since is None
        assert (state.since is None) or holds_back(state, settings, now) or len(state.restarts) <= most
