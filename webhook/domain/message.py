"""What is told: the note that left the outbox, its summary, and the message every channel renders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from webhook.domain.alert import OPERATIONS_ACCOUNT, AlertStatus, NotifyReason
from webhook.domain.limit import RISING, threshold_words
from webhook.domain.metric import format_duration, format_time, format_value, metric_words
from webhook.domain.runbook import runbook_address
from webhook.domain.severity import Severity
from webhook.domain.shown import Shown, look_of

NAME_LENGTH = 60
TITLE_LENGTH = 100
TEXT_WORDS = 300

SEVERITY_WORDS = {
    Severity.P0: "Emergency",
    Severity.P1: "Critical",
    Severity.P2: "High",
    Severity.P3: "Warning",
}


@dataclass(frozen=True, slots=True)
class Companion:
    """Another alert of the same merchant that one message tells of too."""

    alert_id: str
    alert_type: str


@dataclass(frozen=True, slots=True)
class Attention:
    """What people have done about an alert, by the names they gave; all empty where nobody has done anything."""

    acknowledged_by: str = ""
    snoozed_by: str = ""
    snoozed_until: datetime | None = None
    closed_by: str = ""
    closing_note: str = ""
    dismissed: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """One claimed outbox row: what to tell whom about one alert, as it stood when the decision was made.

    `metrics` are full-precision values; `thresholds` are the merchant's own where one was configured,
    else the coarse rule's. When the attack has ended, `resolved_at` is the time of its end, and `peaks` are its
    highest values where they are known. `lease` names this very claim: its end can be recorded by nobody else.
    `replayed_at` is when a person queued it again after it was given up. `told_before`: the provider's answer to the
    last message about this alert on this channel with the same settings. `maybe_repeated`: so many earlier tries broke
    off after they were begun, and the provider may have the message from each. `companions` are told of with it.
    `digest`: what was held back, see `webhook.domain.gathered`. `comment` is what a person wrote, where that is told.
    `runbook_url` is as the rule gave it.
    `version` is the alert's when `attention` was read. `operators`: how metrics stand to thresholds when they alarm,
    `>` where none is named.
    """

    notification_id: str
    alert_id: str
    account_id: str
    merchant_name: str
    alert_type: str
    severity: Severity
    status: AlertStatus
    reason: NotifyReason
    rule_summary: str
    metrics: Mapping[str, float]
    thresholds: Mapping[str, float]
    occurrence_count: int
    first_triggered_at: datetime
    last_triggered_at: datetime
    resolved_at: datetime | None
    channel_type: str
    channel_settings: Mapping[str, Any]
    retry_count: int
    created_at: datetime
    lease: str = ""
    peaks: Mapping[str, float] = field(default_factory=dict)
    replayed_at: datetime | None = None
    told_before: Mapping[str, Any] | None = None
    maybe_repeated: int = 0
    companions: tuple[Companion, ...] = ()
    digest: Mapping[str, Any] | None = None
    target: str = ""
    attention: Attention = Attention()
    comment: str = ""
    comment_by: str = ""
    runbook_url: str = ""
    version: int = 0
    operators: Mapping[str, str] = field(default_factory=dict)
    rule_description: str = ""

    @property
    def queued_at(self) -> datetime:
        return self.replayed_at or self.created_at


@dataclass(frozen=True, slots=True)
class Summary:
    """What a person reads: title ≤ 100 characters, text ≤ 300 words. `source`: `template` or a model's name.

    `opinion` is how grave the model finds it, which changes nothing; `template_id` names the prompt that it got.
    """

    title: str
    text: str
    suggested_action: str
    source: str
    opinion: Severity | None = None
    template_id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message, free of any channel's markup. `facts` are label and value, already formatted for people.

    `alone` is False for one about many alerts. `rule_summary` is what the rule calls it. `runbook_url` tells those on
    call what to do; a merchant gets none.
    `notification_id` stays the same over all tries: providers that take one can tell a repeated send by it. `tries`
    counts those that failed or were lost: where there were any, the provider may have the message already. `shown` is
    kept with a message that stays where it is, for it is brought up to date by it.
    """

    notification_id: str
    alert_id: str
    account_id: str
    alert_type: str
    status: AlertStatus
    severity: Severity
    reason: NotifyReason
    title: str
    text: str
    suggested_action: str
    merchant: str
    facts: Sequence[tuple[str, str]]
    url: str
    chart_url: str
    began_at: datetime
    ended_at: datetime | None
    created_at: datetime
    attention: Attention = Attention()
    tries: int = 0
    alone: bool = True
    runbook_url: str = ""
    shown: str = ""
    rule_summary: str = ""


def printable(text: str) -> str:
    """`text` without control, direction-changing and other invisible characters; line breaks stay."""
    return "".join(c for c in text if c == "\n" or c.isprintable())


def one_line(text: str, limit: int) -> str:
    """`text` on one line of at most `limit` characters, the last one an ellipsis where it was cut."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def merchant_of(note: Note) -> str:
    if note.account_id == OPERATIONS_ACCOUNT:
        return "Operations"
    return one_line(note.merchant_name or note.account_id, NAME_LENGTH)


def duration_of(note: Note) -> timedelta:
    """From the first trigger to the end, or to the moment of telling while it goes on."""
    end = ended_at(note) if note.reason is NotifyReason.RESOLVED else note.created_at
    return max(end - note.first_triggered_at, timedelta(0))


def ended_at(note: Note) -> datetime:
    return note.resolved_at or note.last_triggered_at


def metric_names(note: Note) -> list[str]:
    """Metrics in the order in which they matter: those with a threshold first, then by name."""
    return sorted(note.metrics, key=lambda name: (name not in note.thresholds, name))


def chart_metric(names: Sequence[str], thresholds: Mapping[str, float], default: str | None) -> str | None:
    """The one metric to draw: the alert type's own where it is known, else the first that has a threshold."""
    if default in names:
        return default
    return min(names, key=lambda name: (name not in thresholds, name), default=None)


def facts_of(note: Note) -> list[tuple[str, str]]:
    """Label and value of each metric, precise enough to recognise the source's number, then times and counts."""
    facts = [(metric_words(name).label, _metric_fact(note, name)) for name in metric_names(note)]
    facts.append(("Since", format_time(note.first_triggered_at)))
    if note.reason is NotifyReason.RESOLVED:
        facts.append(("Lasted", format_duration(duration_of(note))))
    elif duration_of(note):
        facts.append(("For", format_duration(duration_of(note))))
    facts.append(("Triggers", f"{note.occurrence_count:,}"))
    return facts


def limit_of(note: Note, name: str) -> str:
    """`threshold 20 %`, or `alert below 10 %` where low values are the alarming ones."""
    return threshold_words(name, note.operators.get(name, RISING), note.thresholds[name])


def _metric_fact(note: Note, name: str) -> str:
    value = format_value(name, note.metrics[name])
    extra = []
    if name in note.thresholds:
        extra.append(limit_of(note, name))
    peak = note.peaks.get(name)
    if peak is not None and note.reason is NotifyReason.RESOLVED:
        extra.append(f"peak {format_value(name, peak)}")
    return f"{value} ({', '.join(extra)})" if extra else value


def alert_url(public_url: str, alert_id: str) -> str:
    return f"{public_url.rstrip('/')}/alerts/{alert_id}"


def chart_url(public_url: str, alert_id: str) -> str:
    return f"{public_url.rstrip('/')}/api/v1/alerts/{alert_id}/chart.png"


def compose(note: Note, summary: Summary, public_url: str) -> Message:
    return Message(
        notification_id=note.notification_id,
        alert_id=note.alert_id,
        account_id=note.account_id,
        alert_type=note.alert_type,
        status=note.status,
        severity=note.severity,
        reason=note.reason,
        title=one_line(summary.title, TITLE_LENGTH),
        text=printable(summary.text),
        suggested_action=printable(summary.suggested_action),
        merchant=merchant_of(note),
        facts=facts_of(note),
        url=alert_url(public_url, note.alert_id),
        chart_url=chart_url(public_url, note.alert_id),
        began_at=note.first_triggered_at,
        ended_at=ended_at(note) if note.reason is NotifyReason.RESOLVED else None,
        created_at=note.created_at,
        attention=note.attention,
        tries=max(note.retry_count, note.maybe_repeated),
        shown=str(Shown(note.queued_at, note.version, _look(note))),
        runbook_url=runbook_address(note.runbook_url, public_url) if note.account_id == OPERATIONS_ACCOUNT else "",
        rule_summary=note.rule_summary,
    )


def _look(note: Note) -> str:
    ended = note.reason is NotifyReason.RESOLVED or note.status is AlertStatus.RESOLVED
    return look_of(note.attention, note.severity, ended)
