"""Merchants' patterns: common ones are taken, and whatever is taken ends soon, all of a configuration together."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from webhook.domain.patterns import BadPattern, check_work, compile_pattern, matches
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
    "pattern",
    [
        "(a+)+$",
        "(a|a)*b",
        "(?:a?){9}x",
        "a?" * 40 + "a" * 40,
        "(a|a)" * 30,
        "x" * 300,
        ".*.*.*xN",
        "a.*b.*c",
        "(?m)^.*a.*b",
        "(?x)#[\n(a+)+x#]\n",  # a comment that would hide it
        r"(?:\b){100000}x",
        "(?:(?=a{99})a){99}",
        r"(a?)(?:\1)*x",
        "(",
    ],
)
def test_patterns_that_could_run_long_are_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        compile_pattern(pattern)
    assert matches(pattern, "a" * 100) is None


_PIECES = (
    ".*", "a*", "a*?", "a*+", "[ab]*", "(?:ab)*", "a+", "a?", "(a|b)*", "a{0,99}", "(?:a|ab)", "(?=a*b)", "(?>a*)",
    "|", "^", "(?m)", "$", "b", "x", "(", ")",
)  # fmt: skip
_TEXTS = ("a" * 128, "ab" * 64, "a" * 127 + "b", "\n" * 64 + "a" * 64)


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@given(st.lists(st.lists(st.sampled_from(_PIECES), max_size=9).map("".join), min_size=100, max_size=100))
def test_all_patterns_that_one_configuration_may_have_end_soon(patterns: list[str]) -> None:
    taken: list[str] = []
    for pattern in patterns:
        try:
            check_work([*taken, pattern])
        except BadPattern:
            continue
        taken.append(pattern)
    compiled = [compile_pattern(pattern) for pattern in taken]
    for text in _TEXTS:
        started = time.thread_time()
        for one in compiled:
            one.search(text)
        assert time.thread_time() - started < 0.5, "some milliseconds on an idle machine"


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@given(st.text(alphabet="ab(|)*+?.[]{}2,^$\\", max_size=40), st.text(alphabet="ab", max_size=128))
def test_whatever_is_written_is_taken_or_refused(pattern: str, text: str) -> None:
    assert matches(pattern, text) in (True, False, None)


def settings(*patterns: str, **strategy: Any) -> Settings:
    conditions = [{"metric_name": "region", "operator": "regex", "threshold": pattern} for pattern in patterns]
    return Settings.model_validate({"alert_type": "X", "trigger_conditions": conditions, **strategy})


def test_the_patterns_of_a_configuration_are_bounded_together() -> None:
    assert len(settings(*["^AP.*1"] * 100).trigger_conditions) == 100
    settings(".*shop.*", ".*store.*")
    with pytest.raises(ValidationError, match=r"the patterns together can take .* begin some with \^"):
        settings(*[f".*shop{number}.*" for number in range(10)])


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
