"""Why an alert fired, was merged, rose, was told or was not: its history as steps in words and data. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from webhook.domain.alert import AlertTypeSettings, NotificationStatus, NotifyReason, Outcome
from webhook.domain.metric import format_duration, format_threshold, format_time
from webhook.domain.severity import Severity
from webhook.domain.text_message import HELD, LIMITED


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
    requested_by: str | None = None
    maybe_repeated: int = 0
    together: bool = False


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """All that is stored about one alert, each list in its order; between `triggers` and `later` some are left out.

    `configs` are documents of configurations by version, masked, as far as they are kept.
    """

    alert_id: str
    account_id: str
    alert_type: str
    triggers: Sequence[TriggerFact] = ()
    later: Sequence[TriggerFact] = ()
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
    """`steps` are in order of time; `summary` is the short answer, `configs` what steps refer to by version."""

    alert_id: str
    summary: str
    steps: Sequence[Step]
    more_triggers: int
    configs: Mapping[int, Mapping[str, Any]]


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
    "digest": "what had been held back is summed up",
    "resend": "somebody asked for it to be sent again",
    "mention": "a comment names somebody",
}
_IN_SESSION = (Outcome.CREATED, Outcome.SESSION_UPDATED)


def explain(facts: AlertFacts, settings: AlertTypeSettings) -> Explanation:
    """The steps of one alert, oldest first, and one sentence; `settings` are those of its type as they are today.

    Of what happened at one moment triggers come first, then what they changed, then who was told.
    Data of a step: of a trigger its `trigger_id`, `outcome`, `conditions` (metric, value, operator, threshold, met),
    `config_version`, and `seconds_since_last`; of a message held back `reason` and
    `limit` (which, its maximum, the count, when a place becomes free); of an escalation the entry of the history;
    of a notification `notification_id`, `channel`, `reason`, `status`.
    """
    steps = [*_of_triggers(facts.triggers, settings), *_of_triggers(facts.later, settings)]
    comments = sorted(facts.comments, key=lambda comment: (comment.at, _rank(comment)))
    steps += [_of_comment(comment) for comment in comments if comment.type != "TRIGGER_EVENT"]
    steps += [_of_notification(notification) for notification in facts.notifications]
    steps.sort(key=lambda step: step.at)
    return Explanation(facts.alert_id, _summary(steps), steps, facts.more_triggers, facts.configs)


def _of_triggers(triggers: Iterable[TriggerFact], settings: AlertTypeSettings) -> Iterator[Step]:
    """Triggers that follow each other: each is told with the time since the one before, of its session or at all."""
    in_session: datetime | None = None
    counted: datetime | None = None
    for trigger in triggers:
        before = in_session if trigger.outcome in _IN_SESSION else counted
        yield from _of_trigger(trigger, None if before is None else trigger.at - before, settings)
        if trigger.outcome in _IN_SESSION:
            in_session = counted = trigger.at
        elif trigger.outcome is Outcome.COMMENT_ADDED:
            counted = trigger.at


def _of_trigger(trigger: TriggerFact, since: timedelta | None, settings: AlertTypeSettings) -> Iterator[Step]:
    kind, text = _outcome(trigger, since, settings)
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
        "seconds_since_last": since.total_seconds() if since is not None else None,
    }
    yield Step(trigger.at, kind, f"{text} {judged}." if judged else text, data)
    why = trigger.notify.removeprefix("withheld:")
    if why != trigger.notify:
        yield _withheld(trigger, why)


def _outcome(trigger: TriggerFact, since: timedelta | None, settings: AlertTypeSettings) -> tuple[StepKind, str]:
    name, verdict = trigger.alert_name, trigger.verdict.get("reason", "")
    match trigger.outcome:
        case Outcome.CREATED:
            return StepKind.FIRED, f"{name} fired and opened this alert: {verdict}."
        case Outcome.SESSION_UPDATED:
            return StepKind.MERGED, f"{name} fired and was merged into the session: {_why_merged(since, settings)}."
        case Outcome.COMMENT_ADDED:
            return StepKind.MERGED, f"{name} fired and was added as a comment: {_why_added(since, settings)}."
        case Outcome.RESOLVED:
            return StepKind.ENDED, f"{name} ended{f': {trigger.reason}' if trigger.reason else ''}."
        case Outcome.SUPPRESSED:
            return StepKind.SUPPRESSED, f"{name} fired and was held back: {trigger.reason}."
    return StepKind.NOT_COUNTED, f"{name} was heard again and not counted: {trigger.reason or trigger.outcome}."


def _why_merged(since: timedelta | None, settings: AlertTypeSettings) -> str:
    """What the log knows is how long ago it fired; the settings of that time are not kept, so today's are named so."""
    if since is None:
        return "it was still firing, or had fired within the session timeout; the triggers before it are left out here"
    if not since:
        return "it came together with the trigger before it"
    last, today = f"it had last fired {format_duration(since)} before", format_duration(settings.session_timeout)
    if since < settings.session_timeout:
        return f"{last}, within the session timeout (today {today})"
    return f"{last}, longer than a session timeout (today {today}): it was still firing, or the timeout was longer then"


def _why_added(since: timedelta | None, settings: AlertTypeSettings) -> str:
    if since is None:
        return "the session had expired, but not its window; the triggers before it are left out here"
    last, today = format_duration(since), format_duration(settings.window)
    return f"the session had expired, and its last trigger was {last} before, within the window (today {today})"


def _condition(condition: Mapping[str, Any]) -> str:
    met = {True: "met", False: "not met", None: "could not be judged"}[condition.get("met")]
    value = condition.get("value")
    shown, threshold = (_shown(str(condition.get("metric")), part) for part in (value, condition.get("threshold")))
    return f"{condition.get('metric')} {shown} {condition.get('operator')} {threshold}: {met}"


def _shown(metric: str, value: object) -> str:
    """Numbers as people read them; the data beside the words has them whole."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return format_threshold(metric, float(value))
    return "no value" if value is None else str(value)


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


def _rank(comment: CommentFact) -> int:
    """Severity only rises, which orders the rises of one moment; other comments come after them."""
    to = comment.data.get("to_severity")
    return Severity(to).rank if to in set(Severity) else len(Severity)


def _of_notification(told: NotificationFact) -> Step:
    status = {
        NotificationStatus.PENDING: "is queued",
        NotificationStatus.SENDING: "is being sent",
        NotificationStatus.FAILED: "could not be delivered",
    }.get(told.status, "was sent")
    because = _TOLD.get(told.reason, told.reason)
    if told.requested_by:
        mentioned = told.reason == NotifyReason.MENTION
        because = (
            f"{told.requested_by} {'named somebody in a comment' if mentioned else 'asked for it to be sent again'}"
        )
    if told.together:
        because += ", in one message with others of this merchant"
    if told.maybe_repeated:
        because += "; a try got no answer, so it may have arrived more than once"
    failed = f"; it failed with: {told.error}" if told.status is NotificationStatus.FAILED else ""
    if told.status is NotificationStatus.PENDING and told.error in (HELD, LIMITED):
        failed = f"; {told.error}"
    data = {
        "notification_id": told.id,
        "channel": told.channel,
        "reason": told.reason,
        "status": told.status.value,
        "requested_by": told.requested_by,
        "maybe_repeated": told.maybe_repeated,
        "sent_at": told.sent_at.isoformat() if told.sent_at is not None else None,
    }
    return Step(told.at, StepKind.NOTIFIED, f"A message on {told.channel} {status}: {because}{failed}.", data)


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
