"""One message about many alerts of one merchant: those that came at once, and what was held back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from webhook.domain.alert import NotifyReason
from webhook.domain.message import TITLE_LENGTH, Message, Note, Summary, compose, merchant_of, one_line
from webhook.domain.metric import format_time
from webhook.domain.severity import Severity
from webhook.domain.summary import story_of

LISTED = 10
"""Lines of a message; the rest is counted, and on the page."""

SINGLY = frozenset({"grafana", "opsgenie", "pagerduty", "webhook"})
"""Channels that programs read: each alert by itself, and no digest."""

_ACTION = "Open the list of alerts: each has its own numbers and its own page."
_WHY = {
    "frequency": "frequency limits",
    "strategy": "the notification strategy",
    "snoozed": "snoozed",
    "flapping": "coming and going",
}


@dataclass(frozen=True, slots=True)
class HeldBack:
    """What was held back of one alert since people were last told of it: `reasons` counts triggers by why."""

    alert_id: str
    alert_type: str
    severity: Severity
    reasons: Mapping[str, int]
    since: datetime

    @property
    def triggers(self) -> int:
        return sum(self.reasons.values())


def digest_content(held: Sequence[HeldBack]) -> dict[str, Any]:
    """As it stands in the outbox: `{since, triggers, reasons, alerts: [{alert_type, severity, triggers}]}`."""
    reasons: Counter[str] = Counter()
    for one in held:
        reasons.update(one.reasons)
    gravest = sorted(held, key=lambda one: (-one.severity.rank, one.since))
    return {
        "since": min(one.since for one in held).isoformat(),
        "triggers": sum(reasons.values()),
        "alerts": len(held),
        "reasons": dict(reasons),
        "listed": [
            {"alert_type": one.alert_type, "severity": one.severity.value, "triggers": one.triggers}
            for one in gravest[:LISTED]
        ],
    }


def is_gathered(note: Note) -> bool:
    return bool(note.companions) or note.digest is not None


def gathered(note: Note, public_url: str) -> tuple[Summary, Message]:
    """The words and the message; it leads to the list of alerts, and has no chart."""
    digest = note.digest
    summary, facts = _digest(note, digest) if digest is not None else _together(note)
    message = compose(note, summary, public_url)
    return summary, replace(message, facts=facts, alone=False, url=f"{public_url.rstrip('/')}/alerts")


def _together(note: Note) -> tuple[Summary, list[tuple[str, str]]]:
    types = Counter([note.alert_type, *(companion.alert_type for companion in note.companions)])
    number = types.total()
    whats = {
        NotifyReason.RESOLVED: (f"{number:,} alerts have ended", "So many ended together"),
        NotifyReason.ESCALATED: (f"{number:,} alerts have risen to {note.severity}", "So many rose together"),
    }
    what, opening = whats.get(note.reason, (f"{number:,} alerts at once", "So many came together"))
    lines = _lines((f"{story_of(name).name}: {count:,}", count) for name, count in types.most_common())
    return (
        Summary(
            title=one_line(f"{what}: {merchant_of(note)}", TITLE_LENGTH),
            text="\n".join([f"{opening} that they are told in one message:", *lines]),
            suggested_action=_ACTION,
            source="template",
        ),
        [("Alerts", f"{number:,}"), ("Since", format_time(note.first_triggered_at))],
    )


def _digest(note: Note, digest: Mapping[str, Any]) -> tuple[Summary, list[tuple[str, str]]]:
    triggers, since = int(digest["triggers"]), format_time(datetime.fromisoformat(digest["since"]))
    why = ", ".join(f"{count:,} by {_WHY.get(name, name)}" for name, count in sorted(digest["reasons"].items()))
    alerts = int(digest["alerts"])
    named = (
        (f"{one['severity']} {story_of(one['alert_type']).name}: {one['triggers']:,}", 1) for one in digest["listed"]
    )
    lines = _lines(named, alerts)
    further = "further trigger" if triggers == 1 else "further triggers"
    opening = f"{triggers:,} {further} since {since} were merged into {alerts:,} {'alert' if alerts == 1 else 'alerts'}"
    return (
        Summary(
            title=one_line(f"{triggers:,} {further} held back: {merchant_of(note)}", TITLE_LENGTH),
            text="\n".join([f"{opening}; no message was sent for them (held back: {why}).", *lines]),
            suggested_action=_ACTION,
            source="template",
        ),
        [("Triggers", f"{triggers:,}"), ("Alerts", f"{alerts:,}"), ("Since", since)],
    )


def _lines(named: Iterable[tuple[str, int]], total: int | None = None) -> list[str]:
    all_lines = list(named)
    total = sum(count for _, count in all_lines) if total is None else total
    shown = all_lines[:LISTED]
    left = total - sum(count for _, count in shown)
    return [f"• {line}" for line, _ in shown] + ([f"• and {left:,} more"] if left else [])
