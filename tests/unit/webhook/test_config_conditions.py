"""Which thresholds fit an operator; what is taken is what is judged."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from webhook.web.config_document import ConditionEntry


def entry(operator: str, threshold: object) -> Any:
    return ConditionEntry.model_validate({"metric_name": "x", "operator": operator, "threshold": threshold}).threshold


@pytest.mark.parametrize("operator", [">", ">=", "<", "<=", "==", "!="])
@pytest.mark.parametrize(("text", "number"), [("0.3", 0.3), ("1e3", 1000.0), ("-5", -5.0)])
def test_a_text_that_is_a_number_is_compared_as_one(operator: str, text: str, number: float) -> None:
    assert entry(operator, text) == number
    assert isinstance(entry(operator, text), float)


@pytest.mark.parametrize("text", ["007", "12345678901234567", "AP", "", "nan"])
def test_codes_and_words_stay_texts(text: str) -> None:
    assert entry("==", text) == text
    with pytest.raises(ValidationError, match="operator > wants a number as threshold"):
        entry(">", text)


@pytest.mark.parametrize("operator", ["contains", "regex"])
def test_contains_and_regex_want_a_text(operator: str) -> None:
    assert entry(operator, "5") == "5"
    with pytest.raises(ValidationError, match=f"operator {operator} wants a text as threshold: put quotes"):
        entry(operator, 5)
    with pytest.raises(ValidationError, match="a list as threshold belongs to"):
        entry(operator, ["5"])


def test_lists_are_kept_as_they_are() -> None:
    assert entry("in", [5411, "5412", "AP"]) == [5411, "5412", "AP"]
