"""Each kind of step in words and data, and in which order they are told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from webhook.domain.alert import AlertTypeSettings, NotificationStatus, Outcome
from webhook.domain.explanation import (
    AlertFacts,
    CommentFact,
    Explanation,
    NotificationFact,
    Step,
    StepKind,
    TriggerFact,
    explain,
)

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FIRED = Outcome.CREATED, 0
LONG = (
    "it had last fired 40 min before, longer than a session timeout (today 15 min): "
    "it was still firing, or the timeout was longer then."
)


def trigger(outcome: Outcome, minutes: float, *, reason: str = "", notify: str = "", name: str = "Rule") -> TriggerFact:
    verdict: Mapping[str, Any] = {"reason": "conditions met", "conditions": [], "config_version": 3}
    at = START + minutes * MINUTE
    return TriggerFact(f"{name}/{minutes}", at, name, "alertmanager", "P3", outcome, reason, notify, {}, verdict)


def comment(content: str, minutes: float, *, kind: str = "SYSTEM_LOG", **data: Any) -> CommentFact:
    return CommentFact(content, START + minutes * MINUTE, kind, content, "system", data)


def message(reason: str, minutes: float, *, status: str = "SENT", error: str = "", by: str | None = None) -> Any:
    at = START + minutes * MINUTE
    return NotificationFact(f"{reason}/{minutes}", at, "slack", reason, NotificationStatus(status), at, error, by)


def told(*facts: Any, settings: AlertTypeSettings | None = None, **more: Any) -> Explanation:
    def kind(of: type) -> list[Any]:
        return [fact for fact in facts if isinstance(fact, of)]

    given = AlertFacts(
        "a",
        "acc_001",
        "CARD_TESTING",
        kind(TriggerFact),
        comments=kind(CommentFact),
        notifications=kind(NotificationFact),
        **more,
    )
    return explain(given, settings or AlertTypeSettings())


def last(*facts: Any, **more: Any) -> Step:
    return told(*facts, **more).steps[-1]


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (0, "it came together with the trigger before it."),
        (5, "it had last fired 5 min before, within the session timeout (today 15 min)."),
        (
            40,
            LONG,
        ),
    ],
)
def test_a_merged_trigger_says_which_rule_merged_it(minutes: float, words: str) -> None:
    step = last(trigger(*FIRED), trigger(Outcome.SESSION_UPDATED, minutes))
    assert step.kind is StepKind.MERGED
    assert step.text == f"Rule fired and was merged into the session: {words}"
    assert step.data["seconds_since_last"] == minutes * 60


def test_time_counts_from_the_last_trigger_of_the_session_not_from_a_repeat_or_a_comment() -> None:
    before = (trigger(*FIRED), trigger(Outcome.DUPLICATE, 2), trigger(Outcome.RESOLVED, 3))
    assert last(*before, trigger(Outcome.SESSION_UPDATED, 5)).data["seconds_since_last"] == 300
    added = trigger(Outcome.COMMENT_ADDED, 60)
    step = last(*before, added, trigger(Outcome.COMMENT_ADDED, 90))
    assert step.text == (
        "Rule fired and was added as a comment: the session had expired, and its last trigger was 30 min before, "
        "within the window (today 1 d)."
    )


def test_what_followed_triggers_that_are_left_out_claims_nothing() -> None:
    later = [trigger(Outcome.SESSION_UPDATED, 600), trigger(Outcome.SESSION_UPDATED, 605)]
    first, second = told(trigger(*FIRED), later=later, more_triggers=100).steps[-2:]
    assert "or had fired within the session timeout; the triggers before it are left out" in first.text
    assert first.data["seconds_since_last"] is None
    assert "5 min before" in second.text


@pytest.mark.parametrize(
    ("outcome", "reason", "kind", "words"),
    [
        (Outcome.SUPPRESSED, "disabled", StepKind.SUPPRESSED, "Rule fired and was held back: disabled."),
        (Outcome.RESOLVED, "", StepKind.ENDED, "Rule ended."),
        (Outcome.RESOLVED, "already recorded", StepKind.ENDED, "Rule ended: already recorded."),
        (Outcome.DUPLICATE, "counted", StepKind.NOT_COUNTED, "Rule was heard again and not counted: counted."),
        (Outcome.STALE, "closed", StepKind.NOT_COUNTED, "Rule was heard again and not counted: closed."),
    ],
)
def test_what_was_not_counted(outcome: Outcome, reason: str, kind: StepKind, words: str) -> None:
    step = last(trigger(*FIRED), trigger(outcome, 5, reason=reason))
    assert (step.kind, step.text) == (kind, words)
    assert step.data["outcome"] == outcome.value


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("flapping", "the condition comes and goes; people were told so once"),
        ("snoozed", "it is snoozed"),
        ("strategy", "the notification strategy asks for none at this occurrence"),
        ("no_channel", "no channel is configured"),
    ],
)
def test_what_was_withheld(why: str, words: str) -> None:
    step = last(trigger(*FIRED), trigger(Outcome.SESSION_UPDATED, 5, notify=f"withheld:{why}"))
    assert (step.kind, step.text) == (StepKind.WITHHELD, f"No message: {words}.")


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (message("first", 1), "was sent: it is the first message of this alert."),
        (message("escalated", 1, status="PENDING"), "is queued: the severity rose."),
        (message("resolved", 1, status="SENDING"), "is being sent: the attack ended."),
        (message("flapping", 1), "was sent: the condition comes and goes; further messages are held back."),
        (message("resend", 1, by="ana"), "was sent: ana asked for it to be sent again."),
        (message("resend", 1), "was sent: somebody asked for it to be sent again."),
        (
            message("interval", 1, status="FAILED", error="HTTP 404"),
            "could not be delivered: the interval since the last message has passed; it failed with: HTTP 404.",
        ),
    ],
)
def test_who_was_told_and_why(sent: NotificationFact, words: str) -> None:
    step = last(trigger(*FIRED), sent)
    assert (step.kind, step.text) == (StepKind.NOTIFIED, f"A message on slack {words}")
    assert step.data["status"] == sent.status.value


def test_rises_of_one_moment_are_told_from_the_lower_to_the_graver() -> None:
    def rise(before: str, after: str) -> CommentFact:
        return comment(f"{before} to {after}", 5, kind="SEVERITY_ESCALATION", from_severity=before, to_severity=after)

    flapping = comment("Flapping", 5, flapping="begun")
    found = told(trigger(*FIRED), flapping, rise("P1", "P0"), rise("P3", "P2"), rise("P2", "P1"))
    assert [step.text for step in found.steps[1:]] == ["P3 to P2", "P2 to P1", "P1 to P0", "Flapping"]
    assert [step.kind for step in found.steps[1:]] == [StepKind.ESCALATED] * 3 + [StepKind.NOTED]
    assert found.summary.endswith("Since then: 3 escalations.")


def test_configurations_are_named_by_version_and_shown_once() -> None:
    found = told(trigger(*FIRED), trigger(Outcome.SESSION_UPDATED, 5), configs={3: {"logic": "all"}})
    assert found.configs == {3: {"logic": "all"}}
    assert [step.data["config_version"] for step in found.steps] == [3, 3]
    assert all("config" not in step.data for step in found.steps)


def test_numbers_are_told_as_people_read_them_and_kept_whole_in_the_data() -> None:
    judged = [
        {"metric": "block_rate", "value": 0.35038363171355497, "operator": ">", "threshold": 0.2, "met": True},
        {"metric": "region", "value": "AP", "operator": "in", "threshold": ["AP"], "met": True},
        {"metric": "total", "value": None, "operator": ">", "threshold": 50.0, "met": None},
    ]
    fact = TriggerFact("t", START, "Rule", "alertmanager", "P3", Outcome.CREATED, "", "", {}, {"conditions": judged})
    (step, *_) = told(fact).steps
    assert (
        "block_rate 35.0384 % > 20 %: met; region AP in ['AP']: met; total no value > 50: could not be judged."
        in step.text
    )
    assert step.data["conditions"] == judged
