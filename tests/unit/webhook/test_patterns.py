"""Merchants' patterns: what RE2 takes is taken, and whatever is taken ends soon."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from webhook.domain.patterns import BadPattern, check_pattern, matches
from webhook.web.config_document import Settings


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("shop|store|bank", "my store", True),
        (".*shop.*", "a shop here", True),
        (".*shop.*", "a store here", False),
        ("^K.*Co$", "Kahn & Co", True),
        (r"^4\d{5}.*", "424242xx", True),
        (r"(?i)(?:https?://)?[a-z]+\.example", "HTTPS://pay.example", True),
        ("^foo.*bar.*baz", "foo bar baz", True),
        (r"\bAP-(?:1|2|3)\b", "region AP-2", True),
        ("(?:ab)+c", "xababc", True),
        ("|".join(f"shop{number}" for number in range(30)), "shop29", True),
    ],
)
def test_common_patterns_are_taken(pattern: str, text: str, *, found: bool) -> None:
    assert matches(pattern, text) is found


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "missing \\)"),
        ("(?=a)b", "invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        ("x" * 300, "longer than 256 characters"),
        ("(x{999}){999}", "bad repetition|invalid repetition|too large"),
        ("((a{100}){10}){1000}", "bad repetition|invalid repetition|too large"),
    ],
)
def test_patterns_that_re2_does_not_take_are_refused(pattern: str, why: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadPattern, match=why):
        check_pattern(pattern)
    assert matches(pattern, "a" * 100) is None
    assert capfd.readouterr().err == "", "whoever saves it is told, not the log"


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*c", "(a|b|ab)*c", "a?" * 60 + "a" * 60, ".*.*.*.*.*x", "(x+x+)+y"]
)
def test_patterns_over_which_others_run_for_ever_end(pattern: str) -> None:
    """Backtracking would take years for these: that the test ends is what it tells."""
    assert matches(pattern, "ab" * 2048) is False


def test_a_text_longer_than_any_label_is_not_searched() -> None:
    assert matches("a", "a" * 4097) is None


@given(st.text(alphabet="ab(|)*+?.[]{}2,^$\\", max_size=40), st.text(alphabet="ab", max_size=128))
def test_whatever_is_written_is_taken_or_refused(pattern: str, text: str) -> None:
    assert matches(pattern, text) in (True, False, None)


def settings(*patterns: str, **strategy: Any) -> Settings:
    conditions = [{"metric_name": "region", "operator": "regex", "threshold": pattern} for pattern in patterns]
    return Settings.model_validate({"alert_type": "X", "trigger_conditions": conditions, **strategy})


def test_a_configuration_may_have_many_patterns() -> None:
    assert len(settings(*[f".*shop{number}.*" for number in range(100)]).trigger_conditions) == 100
    with pytest.raises(ValidationError, match="threshold: not a regular expression as RE2 has them"):
        settings("(a")


@pytest.mark.parametrize(
    ("settings_of", "message"),
    [
        ({"notification_strategy": {"interval_minutes": 0.001}}, "less than a minute; 0 means never"),
        ({"frequency_control": {"max_alerts_per_hour": 1001}}, "less than or equal to 1000"),
        ({"frequency_control": {"max_alerts_per_day": 10_001}}, "less than or equal to 10000"),
    ],
)
def test_messages_more_often_than_anybody_reads_are_refused(settings_of: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**settings_of)


@pytest.mark.parametrize("minutes", [0, 1, 1.5, 60])
def test_an_interval_is_never_or_a_minute_at_least(minutes: float) -> None:
    strategy = settings(notification_strategy={"interval_minutes": minutes}).notification_strategy
    assert strategy is not None
    assert strategy.interval_minutes == minutes
