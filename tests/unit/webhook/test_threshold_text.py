"""Thresholds as people type them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.web.threshold_text import threshold_in, threshold_text

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(st.sampled_from(["block_rate", "transaction_count", "region"]), NUMBERS | TEXTS)
def test_what_is_shown_reads_back_as_what_it_was(metric: str, value: float | str) -> None:
    assert threshold_in(metric, "==", threshold_text(metric, "==", value)) == value
    values = [value, "AP", 4.5, "a, b"]
    assert threshold_in(metric, "in", threshold_text(metric, "in", values)) == values


@pytest.mark.parametrize(
    ("metric", "typed", "meant"),
    [
        ("block_rate", "30 %", 0.3),
        ("block_rate", "30%", 0.3),
        ("block_rate", "0.3", 0.3),
        ("block_rate", "300 %", 3.0),
        ("transaction_count", "1200", 1200.0),
    ],
)
def test_shares_are_typed_in_percent_or_as_they_are(metric: str, typed: str, meant: float) -> None:
    assert threshold_in(metric, ">", typed) == meant


@pytest.mark.parametrize(
    ("metric", "symbol", "typed", "said"),
    [
        ("block_rate", ">", "30", "3000 %"),
        ("block_rate", ">", "lots", "Write a number"),
        ("transaction_count", ">", "", "Write a threshold"),
        ("region", "in", " , ", "one or more values"),
        ("region", "==", '"AP', "does not end"),
        ("region", "regex", "", "text to look for"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(metric: str, symbol: str, typed: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        threshold_in(metric, symbol, typed)


def test_a_pattern_is_taken_as_it_is() -> None:
    pattern: Any = ' ^4, "x" '
    assert threshold_in("bin", "regex", threshold_text("bin", "regex", pattern)) == pattern
