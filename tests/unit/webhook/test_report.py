"""Reports of metric platforms: each value is judged by itself, and a firing begins after the one before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from webhook.domain.alert import AlertTypeSettings, Instance, TriggerStatus
from webhook.domain.evaluation import Condition, MerchantConfig, evaluate
from webhook.domain.report import Report, ReportedMetric, start_of

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SETTINGS = AlertTypeSettings()
SHORT = ReportedMetric("block_rate", 0.45, 0.30, "10min", {"blocked": 450})
LONG = ReportedMetric("block_rate", 0.10, 0.05, "1h", {"blocked": 90})


@pytest.mark.parametrize("metrics", [[SHORT, LONG], [LONG, SHORT]])
def test_each_window_of_a_metric_is_judged_by_its_own_value(metrics: list[ReportedMetric]) -> None:
    report = Report("m-1", "CARD_TESTING", metrics, {})
    verdict = report.verdict()
    assert verdict.passed
    assert {(c.value, c.threshold, c.met) for c in verdict.conditions} == {(0.45, 0.30, True), (0.10, 0.05, True)}
    below = Report("m-1", "CARD_TESTING", [SHORT, ReportedMetric("block_rate", 0.04, 0.05, "1h")], {})
    assert not below.verdict().passed


@pytest.mark.parametrize("metrics", [[SHORT, LONG], [LONG, SHORT]])
def test_the_highest_value_of_a_name_stands_for_it(metrics: list[ReportedMetric]) -> None:
    report = Report("m-1", "CARD_TESTING", metrics, {})
    own = MerchantConfig("m-1", "CARD_TESTING", conditions=(Condition("block_rate", ">", 0.3),))
    assert evaluate(own, report.values()).passed, "whichever came last"
    assert report.values() == {"block_rate": 0.45, "blocked": 450}
    assert report.trigger((), NOW).thresholds == {"block_rate": 0.30}


def instance(status: TriggerStatus, heard: datetime, *, passed: bool = True) -> Instance:
    return Instance("f", NOW, status, "a", heard, NOW, last_passed_at=heard if passed else NOW)


@pytest.mark.parametrize(
    ("last", "detected", "start"),
    [
        (None, -10, -10),
        (None, 31, 30),
        (instance(TriggerStatus.FIRING, NOW + 20 * MINUTE), 25, 0),
        (instance(TriggerStatus.FIRING, NOW + 20 * MINUTE, passed=False), 25, 25),
        (instance(TriggerStatus.FIRING, NOW + 20 * MINUTE, passed=False), 0, 30),
        (instance(TriggerStatus.FIRING, NOW + 10 * MINUTE), 25, 25),
        (instance(TriggerStatus.RESOLVED, NOW + 20 * MINUTE), -10, 30),
        (instance(TriggerStatus.RESOLVED, NOW + 20 * MINUTE), None, 30),
    ],
)
def test_a_new_firing_begins_after_the_one_before(last: Instance | None, detected: int | None, start: int) -> None:
    """`detected` and `start` in minutes; it is half past twelve."""
    at = NOW + detected * MINUTE if detected is not None else None
    assert start_of(last, SETTINGS, at, NOW + 30 * MINUTE, passed=True) == NOW + start * MINUTE
