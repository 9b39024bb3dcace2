"""Why an alert fired, was merged, rose, was told or was not: its history as steps in words and data. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from webhook.domain.alert import AlertTypeSettings, NotificationStatus, Outcome
from webhook.domain.metric import format_duration, format_time


class StepKind(StrEnum):
    FIRED = "fired"
    MERGED = "merged"
    NOT_COUNTED = "not_counted"
    SUPPRESSED = "suppressed"
    ENDED = "ended"
    ESCALATED = "escalated"
    NOTIFIED = "notified"
    WITHHELD = "withheld"
    NOTED = "noted"


@dataclass(frozen=True, slots=True)
class TriggerFact:
    """One row of the trigger log. `verdict` is Verdict.as_json(), with `limit` where a frequency limit held it back."""

    id: str
    at: datetime
    alert_name: str
    source: str
    severity: str
    outcome: Outcome
    reason: str
    notify: str
    metrics: Mapping[str, float]
    verdict: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CommentFact:
    """A line of the history that is no mere trigger: an escalation, a note, what the system or a person did."""

    id: str
    at: datetime
    type: str
    content: str
    created_by: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NotificationFact:
    id: str
    at: datetime
    channel: str
    reason: str
    status: NotificationStatus
    sent_at: datetime | None
    error: str


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """All that is stored about one alert. `configs` are documents of configurations by version, as far as kept."""

    alert_id: str
    account_id: str
    alert_type: str
    triggers: Sequence[TriggerFact] = ()
    comments: Sequence[CommentFact] = ()
    notifications: Sequence[NotificationFact] = ()
    configs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    more_triggers: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened: `text` for people, `data` for programs."""

    at: datetime
    kind: StepKind
    text: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Explanation:
    """`steps` are in order of time; `summary` is the short answer."""

    alert_id: str
    summary: str
    steps: Sequence[Step]
    more_triggers: int


_WITHHELD = {
    "strategy": "the notification strategy asks for none at this occurrence",
    "snoozed": "it is snoozed",
    "no_channel": "no channel is configured",
    "flapping": "the condition comes and goes; people were told so once",
    "frequency": "a frequency limit is used up",
}
_TOLD = {
    "first": "it is the first message of this alert",
    "escalated": "the severity rose",
    "threshold": "the count reached a threshold of the strategy",
    "interval": "the interval since the last message has passed",
    "flapping": "the condition comes and goes; further messages are held back",
    "resolved": "the attack ended",
}


def explain(facts: AlertFacts, settings: AlertTypeSettings) -> Explanation:
    """The steps of one alert, oldest first, and one sentence; `settings` are those of its type, for naming rules.

    Data of a step: of a trigger its `trigger_id`, `outcome`, `conditions` (metric, value, operator, threshold, met),
    `config_version` and `config` (that version's document, where it is kept); of a message held back `reason` and
    `limit` (which, its maximum, the count, when a place becomes free); of an escalation the entry of the history;
    of a notification `notification_id`, `channel`, `reason`, `status`.
    """
    steps = [step for trigger in facts.triggers for step in _of_trigger(trigger, facts, settings)]
    steps += [_of_comment(comment) for comment in facts.comments if comment.type != "TRIGGER_EVENT"]
    steps += [_of_notification(notification) for notification in facts.notifications]
    steps.sort(key=lambda step: step.at)
    return Explanation(facts.alert_id, _summary(steps), steps, facts.more_triggers)


def _of_trigger(trigger: TriggerFact, facts: AlertFacts, settings: AlertTypeSettings) -> Iterable[Step]:
    kind, text = _outcome(trigger, settings)
    conditions = trigger.verdict.get("conditions", [])
    version = trigger.verdict.get("config_version")
    judged = "; ".join(map(_condition, conditions))
    data: dict[str, Any] = {
        "trigger_id": trigger.id,
        "outcome": trigger.outcome.value,
        "reason": trigger.reason,
        "source": trigger.source,
        "metrics": dict(trigger.metrics),
        "conditions": conditions,
        "config_version": version,
        "config": facts.configs.get(version) if version is not None else None,
    }
    yield Step(trigger.at, kind, f"{text} {judged}." if judged else text, data)
    why = trigger.notify.removeprefix("withheld:")
    if why != trigger.notify:
        yield _withheld(trigger, why)


def _outcome(trigger: TriggerFact, settings: AlertTypeSettings) -> tuple[StepKind, str]:
    name, verdict = trigger.alert_name, trigger.verdict.get("reason", "")
    timeout, window = format_duration(settings.session_timeout), format_duration(settings.window)
    match trigger.outcome:
        case Outcome.CREATED:
            return StepKind.FIRED, f"{name} fired and opened this alert: {verdict}."
        case Outcome.SESSION_UPDATED:
            rule = f"it was still firing, or had fired less than {timeout} before"
            return StepKind.MERGED, f"{name} fired and was merged into the session: {rule}."
        case Outcome.COMMENT_ADDED:
            rule = f"the session had expired, but its last trigger was less than {window} old"
            return StepKind.MERGED, f"{name} fired and was added as a comment: {rule}."
        case Outcome.RESOLVED:
            return StepKind.ENDED, f"{name} ended{f': {trigger.reason}' if trigger.reason else ''}."
        case Outcome.SUPPRESSED:
            return StepKind.SUPPRESSED, f"{name} fired and was held back: {trigger.reason}."
    return StepKind.NOT_COUNTED, f"{name} was heard again and not counted: {trigger.reason or trigger.outcome}."


def _condition(condition: Mapping[str, Any]) -> str:
    met = {True: "met", False: "not met", None: "could not be judged"}[condition.get("met")]
    value = condition.get("value")
    shown = "no value" if value is None else value
    return f"{condition.get('metric')} {shown} {condition.get('operator')} {condition.get('threshold')}: {met}"


def _withheld(trigger: TriggerFact, why: str) -> Step:
    limit = trigger.verdict.get("limit")
    text = f"No message: {_WITHHELD.get(why, why)}."
    if limit is not None:
        frees = format_time(datetime.fromisoformat(limit["frees_at"]))
        text = (
            f"No message: {limit['limit']} allows {limit['maximum']} and {limit['current_count']} were sent; "
            f"a place becomes free at {frees}."
        )
    return Step(trigger.at, StepKind.WITHHELD, text, {"trigger_id": trigger.id, "reason": why, "limit": limit})


def _of_comment(comment: CommentFact) -> Step:
    kind = StepKind.ESCALATED if comment.type == "SEVERITY_ESCALATION" else StepKind.NOTED
    data = {"comment_id": comment.id, "created_by": comment.created_by, **comment.data}
    return Step(comment.at, kind, comment.content, data)


def _of_notification(told: NotificationFact) -> Step:
    status = {
        NotificationStatus.PENDING: "is queued",
        NotificationStatus.SENDING: "is being sent",
        NotificationStatus.FAILED: f"could not be delivered: {told.error}",
    }.get(told.status, "was sent")
    because = _TOLD.get(told.reason, told.reason)
    data = {
        "notification_id": told.id,
        "channel": told.channel,
        "reason": told.reason,
        "status": told.status.value,
        "sent_at": told.sent_at.isoformat() if told.sent_at is not None else None,
    }
    return Step(told.at, StepKind.NOTIFIED, f"A message on {told.channel} {status}, because {because}.", data)


def _summary(steps: Sequence[Step]) -> str:
    def count(kind: StepKind) -> int:
        return sum(step.kind is kind for step in steps)

    first = next((step.text for step in steps if step.kind is StepKind.FIRED), "")
    parts = [
        (count(StepKind.MERGED), "later triggers merged into it"),
        (count(StepKind.ESCALATED), "escalations"),
        (count(StepKind.NOTIFIED), "messages"),
        (count(StepKind.WITHHELD), "triggers without a message"),
    ]
    counted = ", ".join(f"{number} {what}" for number, what in parts if number)
    return " ".join(part for part in (first, f"Since then: {counted}." if counted else "") if part)
