from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.domain.alert import NotifyReason, Outcome, Withheld
from webhook.domain.evaluation import Condition, MerchantConfig, evaluate
from webhook.domain.severity import Severity
from webhook.web import readings, wording

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)
shares = st.floats(0, 1, allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


def test_a_share_is_told_in_percent_against_its_threshold() -> None:
    assert wording.compared("block_rate", 0.35038363171355497, 0.2) == ("35.0 %", "20 %")


def test_a_value_just_above_its_threshold_does_not_look_equal_to_it() -> None:
    value, threshold = wording.compared("block_rate", 0.20004, 0.2)
    assert (value, threshold) == ("20.004 %", "20 %")


@given(value=shares, difference=st.floats(1e-8, 0.5))
def test_different_numbers_are_told_differently(value: float, difference: float) -> None:
    value_text, threshold_text = wording.compared("block_rate", value + difference, value)
    assert float(value_text.split()[0]) != float(threshold_text.split()[0])


@given(value=shares, threshold=shares)
def test_what_a_reading_says_of_value_and_threshold_is_true(value: float, threshold: float) -> None:
    (reading,) = readings.readings({"block_rate": value}, {"block_rate": threshold}, {})
    assert reading.met  # the rule fired, whichever way its threshold points
    assert reading.sign == (">" if value > threshold else "≥" if value == threshold else "<")
    assert 0 <= reading.fill <= 100
    assert 0 <= reading.mark <= 100


def test_a_calculated_value_is_shown_with_what_it_is_made_of() -> None:
    metrics = {"block_rate_surge": 5.0, "transaction_count": 900.0, "block_rate": 0.6, "past_hour_block_rate": 0.2}
    shown = readings.readings(metrics, {"block_rate_surge": 2.0, "transaction_count": 100.0}, {})
    large, others = readings.featured(shown)
    assert {reading.metric for reading in large} == {"block_rate_surge", "transaction_count", "block_rate"}
    assert [reading.metric for reading in large if reading.recorded] == ["transaction_count", "block_rate"]
    assert [reading.metric for reading in others] == ["past_hour_block_rate"]


def test_the_merchants_threshold_counts_before_the_rules() -> None:
    metrics = {"failed_auth_rate": 0.6, "block_rate": 0.25, "transaction_count": 10.0}
    config = MerchantConfig("acc_1", "CARD_TESTING", conditions=(Condition("block_rate", ">=", 0.3),))
    verdict = evaluate(config, metrics).as_json()
    found = readings.readings(metrics, {"block_rate": 0.2, "failed_auth_rate": 0.5}, verdict)
    assert [(r.metric, r.threshold, r.owner, r.met) for r in found] == [
        ("block_rate", 0.3, "merchant", False),
        ("failed_auth_rate", 0.5, "rule", True),
        ("transaction_count", None, "", False),
    ]


def test_a_missing_metric_is_called_missing_and_not_unmet() -> None:
    config = MerchantConfig("acc_1", "CARD_TESTING", conditions=(Condition("block_rate", ">", 0.3),))
    (condition,) = readings.conditions(evaluate(config, {}).as_json(), {}, {})
    assert condition.met is None
    assert condition.texts == ("missing", "30 %")


def test_without_own_conditions_the_rules_thresholds_are_shown_as_the_rules() -> None:
    thresholds = readings.annotated_thresholds({"threshold_block_rate": "0.2", "threshold_x": "much", "summary": "s"})
    (condition,) = readings.conditions(evaluate(None, {}).as_json(), {"block_rate": 0.35}, thresholds)
    assert (condition.owner, condition.met, condition.texts) == ("rule", True, ("35.0 %", "20 %"))


@given(verdict=st.dictionaries(st.sampled_from(["conditions", "reason", "config_version"]), json_values))
def test_no_verdict_however_odd_breaks_a_page(verdict: dict[str, object]) -> None:
    stored = json.loads(json.dumps(verdict))
    for condition in readings.conditions(stored, {}, {}):
        assert all(isinstance(text, str) for text in condition.texts)
    readings.readings({"block_rate": 0.1}, {}, stored)
    wording.verdict_text("suppressed", "", stored)


@given(
    entries=st.lists(st.dictionaries(st.sampled_from(["metric", "operator", "threshold", "value", "met"]), json_values))
)
def test_no_condition_however_odd_breaks_a_page(entries: list[dict[str, object]]) -> None:
    for condition in readings.conditions({"conditions": entries}, {}, {}):
        assert isinstance(condition.label + condition.sign + "".join(condition.texts), str)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_words(outcome: Outcome) -> None:
    assert wording.outcome_label(outcome) != wording.humanise(outcome) or outcome in wording.OUTCOMES
    assert wording.outcome_text(outcome, "").endswith(".")


@pytest.mark.parametrize("reason", [*NotifyReason, *(f"withheld:{why}" for why in Withheld)])
def test_every_reason_to_tell_or_not_has_words(reason: str) -> None:
    text = wording.told_text(reason)
    assert text.startswith("Message held back: " if ":" in reason else "Message: ")
    assert "_" not in text


@pytest.mark.parametrize("severity", list(Severity))
def test_every_severity_has_a_word(severity: Severity) -> None:
    assert wording.severity_word(severity)


def test_a_reason_that_nobody_foresaw_is_still_told() -> None:
    text = wording.outcome_text("suppressed", "merchant asked for silence")
    assert text == "No alert was raised. Merchant asked for silence."


@pytest.mark.parametrize(
    ("back", "text"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(seconds=50), "50 s ago"),
        (timedelta(minutes=12, seconds=50), "12 min ago"),
        (timedelta(hours=2, minutes=5, seconds=9), "2 h 5 min ago"),
        (timedelta(days=3, hours=4), "3 d 4 h ago"),
        (-timedelta(minutes=2), "in 2 min"),
    ],
)
def test_times_are_told_as_coarsely_as_people_do(back: timedelta, text: str) -> None:
    assert wording.ago(NOW - back, NOW) == text


def test_a_name_is_shown_on_one_line_without_what_cannot_be_seen() -> None:
    assert wording.merchant_label("acc_1", " Caf\u202eé \n\u200bLtd ") == "Café Ltd"
    assert wording.merchant_label("acc_1", "\u200b") == "acc_1"
    assert wording.merchant_label("_operations", "x") == "Operations"
