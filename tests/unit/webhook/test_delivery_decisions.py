"""Pure decisions of delivery: when to try again, what a chart shows."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from notes import NOW

from webhook.domain.alert import AlertTypes, AlertTypeSettings
from webhook.domain.message import chart_metric
from webhook.domain.retrying import GIVE_UP_AFTER, LONGEST_WAIT, Failure, Wait, next_try, retry_wait
from webhook.pipeline.chart import chart_range


def test_waits_grow_fourfold_up_to_five_minutes() -> None:
    assert [retry_wait(tries, 0).total_seconds() for tries in (1, 2, 3, 4, 5, 99)] == [5, 20, 80, 300, 300, 300]


@given(st.integers(1, 1000), st.floats(0, 1))
def test_waits_are_spread_over_half_their_length(tries: int, spread: float) -> None:
    assert retry_wait(tries, 0) / 2 <= retry_wait(tries, spread) <= retry_wait(tries, 0) <= LONGEST_WAIT


def test_what_may_have_arrived_is_tried_three_times_where_nobody_tells_repeats() -> None:
    def after(unsure_before: int, **changes: bool) -> object:
        failure = Failure(unsure_before, unsure_before, **{"unsure": True, "blind": True, **changes})
        found = next_try(failure, NOW, NOW, 0)
        return found.at - NOW if found.at else found.why

    assert [after(0), after(1)] == [timedelta(seconds=5), timedelta(minutes=10)]
    assert "may have arrived: 3 tries" in str(after(2))
    assert after(2, unsure=False) == timedelta(seconds=80), "it was refused for certain"
    assert after(99, blind=False) == LONGEST_WAIT, "a repeat would be known there"


def test_whose_wait_it_is() -> None:
    def after(whose: Wait, seconds: float) -> tuple[timedelta, timedelta, bool]:
        found = next_try(Failure(0, asked_s=seconds, whose=whose), NOW, NOW, 0)
        assert found.at is not None
        assert not found.counted
        return found.at - NOW, found.pause, found.channel

    minutes = timedelta(minutes=1)
    assert after(Wait.PLACE, 60) == (minutes, minutes, False)
    assert after(Wait.CHANNEL, 3600) == (10 * minutes, 10 * minutes, True), "a provider's wish is bounded"
    assert after(Wait.MESSAGE, 3600) == (60 * minutes, timedelta(0), False)
    assert next_try(Failure(3), NOW - GIVE_UP_AFTER, NOW, 0).at is None


@given(st.floats(0, 10 * 86400), st.booleans())
def test_a_chart_shows_the_attack_and_what_was_before(seconds: float, ended: bool) -> None:
    start = NOW - timedelta(seconds=seconds)
    end = start + timedelta(seconds=seconds / 2) if ended else None
    first, last, step = chart_range(start, end, NOW)

    assert first <= start - timedelta(hours=1)
    assert (end or NOW) <= last <= NOW
    assert 0 < (last - first) / step <= 241
    assert last - first <= timedelta(hours=24) + timedelta(seconds=seconds)


def test_the_type_s_own_metric_is_drawn_where_it_is_known() -> None:
    names, thresholds = ["transaction_count", "block_rate"], {"block_rate": 0.2}
    assert chart_metric(names, thresholds, "transaction_count") == "transaction_count"
    assert chart_metric(names, thresholds, "chargeback_rate") == "block_rate"
    assert chart_metric(names, {}, None) == "block_rate"
    assert chart_metric([], {}, None) is None


def test_the_sweep_keeps_pace_with_the_shortest_timeout() -> None:
    from webhook.pipeline.sweep import sweep_interval

    def interval(**timeouts: float) -> float:
        types = {name: AlertTypeSettings(session_timeout=timedelta(seconds=s)) for name, s in timeouts.items()}
        return sweep_interval(AlertTypes(by_type=types)).total_seconds()

    assert interval() == 15
    assert interval(A=45) == 2.25
    assert interval(A=45, B=4) == 0.5
