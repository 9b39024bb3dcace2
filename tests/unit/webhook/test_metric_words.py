from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.domain.metric import format_duration, format_threshold, format_value


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("block_rate", 0.35038363171355497, "35.04 %"),
        ("block_rate", 1.0, "100.00 %"),
        ("chargeback_rate", 0.000012, "0.0012 %"),
        ("chargeback_rate", 0.0, "0.00 %"),
        ("transaction_count", 1234.0, "1,234"),
        ("transaction_rate", 2.5, "2.50/s"),
        ("some_odd_ratio", 0.5, "50.00 %"),
        ("total_transactions", 1e6, "1,000,000"),
        ("score", 12.345, "12.35"),
        ("block_rate", float("nan"), "no value"),
        ("transaction_count", float("inf"), "no value"),
    ],
)
def test_values_are_told_in_people_s_units(name: str, value: float, told: str) -> None:
    assert format_value(name, value) == told


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("block_rate", 0.2, "20 %"),
        ("block_rate", 0.025, "2.5 %"),
        ("transaction_rate", 2.0, "2/s"),
        ("unique_card_count", 100.0, "100"),
        ("block_rate", 0.0, "0 %"),
        ("score", 10.0, "10"),
    ],
)
def test_thresholds_have_no_more_digits_than_were_chosen(name: str, value: float, told: str) -> None:
    assert format_threshold(name, value) == told


@given(st.floats(0.0001, 1))
def test_a_share_is_recognisable_in_what_is_told(value: float) -> None:
    told = float(format_value("block_rate", value).removesuffix(" %"))
    assert told == pytest.approx(value * 100, abs=0.0051)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (725, "12 min 5 s"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_have_their_two_largest_units(seconds: int, told: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == told
