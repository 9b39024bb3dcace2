from __future__ import annotations

import polars as pl

from demo.replay import ReplayClock, ReplayPlan
from demo.report import AlertSpans, render, score

PLAN = ReplayPlan("own.csv", speed=100.0, window=1000.0, data_start=0.0, data_end=100_000.0, labelled=True)
CLOCK = ReplayClock(start=10_000.0, plan=PLAN)


def alert(account: str, *firings: tuple[float, float]) -> AlertSpans:
    return AlertSpans(account, f"Shop {account}", "VELOCITY_ATTACK", "P2", firings)


def replayed() -> pl.DataFrame:
    """One transaction each 100 s of data time for two merchants; frauds of merchant a at 5,000 and 60,000."""
    times = [float(t) for t in range(0, 100_000, 100)]
    a = pl.DataFrame({"account_id": "a", "source_time": times, "is_fraud": [t in (5_000, 60_000) for t in times]})
    return pl.concat([a, a.with_columns(account_id=pl.lit("b"), is_fraud=pl.lit(value=False))])


def test_a_span_reaches_from_a_window_before_the_firing_to_its_end() -> None:
    # Fired 60 s after the start = data time 6,000, ended at 8,000: the span is 5,000 to 8,000.
    result = score([alert("a", (10_060.0, 10_080.0))], replayed(), CLOCK)
    (entry,) = result.alerts
    assert (entry.since, entry.until, entry.transactions, entry.frauds) == (5_000.0, 8_000.0, 31, 1)
    assert (result.inside, result.frauds_inside, result.frauds) == (31, 1, 2)


def test_the_pause_between_two_firings_is_not_covered_and_overlaps_count_once() -> None:
    twice = alert("a", (10_060.0, 10_070.0), (10_900.0, 10_910.0))
    again = alert("a", (10_060.0, 10_070.0))
    result = score([twice, again, alert("b", (10_060.0, 10_060.0))], replayed(), CLOCK)
    assert [(entry.transactions, entry.frauds) for entry in result.alerts] == [(42, 1), (21, 1), (11, 0)]
    assert result.inside == 42 + 11
    text = render(result)
    assert "3 alerts on 2 merchants" in text
    assert "labelled frauds covered: 1 of 2 (50.0%)" in text
    assert "would cover 2.6%" in text
    assert "alerts with no labelled fraud inside: 1 of 3" in text


def test_alerts_of_an_earlier_run_and_data_without_labels() -> None:
    plan = ReplayPlan("own.csv", 100.0, 1000.0, 0.0, 100_000.0, labelled=False)
    result = score([alert("a", (9_000.0, 9_500.0)), alert("a", (10_060.0, 10_080.0))], replayed(), ReplayClock(0, plan))
    assert len(result.alerts) == 2
    late = score([alert("a", (9_000.0, 9_500.0))], replayed(), CLOCK)
    assert render(late).startswith("no alerts; 2,000 transactions replayed so far, 2 of them labelled fraud")
    assert "no fraud labels" in render(result)
