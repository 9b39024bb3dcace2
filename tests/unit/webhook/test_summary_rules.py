"""When a model is rested, what is alike, which alerts wait for others, and what a batch may answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes_llm import words
from notes import NOW, make_note

from webhook.domain.alert import NotifyReason
from webhook.domain.answer import answer_schema, check_summaries
from webhook.domain.circumstances import Circumstances, is_urgent
from webhook.domain.message import Summary
from webhook.domain.prompt import Prompt, build_prompt, build_prompts
from webhook.domain.rest import LONGEST, Rest
from webhook.domain.severity import Severity
from webhook.domain.similar import likeness
from webhook.domain.summary import SummaryRefused

HERE = Circumstances()


def test_a_model_is_rested_longer_each_time_it_fails_again() -> None:
    rest = Rest(after=2, seconds=30)
    rest.failed(0)
    assert rest.allows(0)
    rest.failed(0)
    assert not rest.allows(29)
    rest.failed(29)  # of a call that began before
    assert rest.allows(30)
    assert not rest.allows(30), "one call tries it"
    rest.failed(31)
    assert not rest.allows(90)
    assert rest.allows(91)
    rest.worked()
    assert rest.allows(91)
    assert rest.allows(91)


def test_a_wrong_key_and_a_provider_s_own_time() -> None:
    rest = Rest()
    rest.failed(0, at_once=True)
    assert not rest.allows(29)
    rest = Rest()
    rest.failed(0, asked_s=90)
    assert not rest.allows(89)
    rest = Rest()
    rest.failed(0, asked_s=86_400)
    assert rest.allows(LONGEST)
    rest.not_asked()
    assert rest.allows(LONGEST), "who was allowed and did not come leaves the place to another"


def test_alerts_are_alike_to_two_digits() -> None:
    note = make_note()
    near = make_note(metrics={**note.metrics, "block_rate": 0.3512}, occurrence_count=9, created_at=NOW)
    assert likeness(note, HERE) == likeness(near, HERE)
    assert likeness(note, HERE) != likeness(make_note(metrics={**note.metrics, "block_rate": 0.36}), HERE)


@pytest.mark.parametrize(
    ("severity", "reason", "urgent"),
    [
        (Severity.P0, NotifyReason.INTERVAL, True),
        (Severity.P1, NotifyReason.FIRST, True),
        (Severity.P2, NotifyReason.ESCALATED, True),
        (Severity.P2, NotifyReason.FIRST, False),
        (Severity.P3, NotifyReason.FIRST, False),
    ],
)
def test_who_waits_for_others(severity: Severity, reason: NotifyReason, urgent: bool) -> None:
    assert is_urgent(make_note(severity=severity, reason=reason)) == urgent


def both(*answers: dict[str, Any]) -> list[Summary | SummaryRefused]:
    asked = [(make_note(), HERE), (make_note(merchant_name="Other"), HERE)]
    return check_summaries(json.dumps({"answers": answers}), asked, "m", build_prompts(asked))


@pytest.mark.parametrize(
    "second",
    [
        {},
        {"alert": 2},
        words() | {"alert": 3},
        words() | {"alert": "2"},
        words() | {"alert": 2, "more": 1},
        words(summary="87 %") | {"alert": 2},
        words(severity="P9") | {"alert": 2},
    ],
)
def test_one_bad_answer_of_a_batch_takes_none_along(second: dict[str, Any]) -> None:
    first, other = both(words() | {"alert": 1}, second)
    assert isinstance(first, Summary)
    assert isinstance(other, SummaryRefused)


def test_two_answers_about_one_alert_are_none() -> None:
    first, second = both(words() | {"alert": 2}, words() | {"alert": 2})
    assert isinstance(first, SummaryRefused)
    assert isinstance(second, SummaryRefused)


@pytest.mark.parametrize("text", ["[]", "no", json.dumps(words()), json.dumps({"answers": "x"})])
def test_a_batch_without_answers_is_refused_as_a_whole(text: str) -> None:
    asked = [(make_note(), HERE)] * 2
    with pytest.raises(SummaryRefused):
        check_summaries(text, asked, "m", build_prompts(asked))


def test_a_schema_asks_for_every_field_and_no_other() -> None:
    for number in (1, 3):
        schema = answer_schema(number)
        one = schema if number == 1 else schema["properties"]["answers"]["items"]
        assert set(one["required"]) == set(one["properties"])
        assert not any("maxLength" in about for about in one["properties"].values()), "strict providers refuse it"


def test_a_prompt_says_in_which_language() -> None:
    german = Circumstances(language="de-CH")
    assert "BCP 47 tag de-CH" in build_prompt(make_note(), german).system
    mixed = build_prompts([(make_note(), german), (make_note(), HERE)]).system
    assert "alert 1 in de-CH, alert 2 in en" in mixed


def test_tokens_are_estimated_above_what_they_are() -> None:
    """By its bytes: a token of today's models holds three to four of them, at least two."""
    prompt = Prompt("äöü" * 10, "x" * 40)
    assert prompt.tokens() == 51
