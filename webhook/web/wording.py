"""Codes and numbers in people's words: pure, and tolerant of what it does not know.

Rates are kept without unit and shown in percent; a value and its threshold are shown with as many digits as it takes
to tell them apart. What comes from outside stays plain text: escaping is the template's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from webhook.domain.alert import OPERATIONS_ACCOUNT
from webhook.domain.message import SEVERITY_WORDS, printable
from webhook.domain.metric import format_duration, format_threshold, format_value
from webhook.domain.severity import Severity

ALERT_TYPES = {
    "CARD_TESTING": "Card testing",
    "VELOCITY_ATTACK": "Velocity attack",
    "ACCOUNT_TAKEOVER": "Account takeover",
    "CHARGEBACK_FRAUD": "Chargeback fraud",
    "ANOMALY_DETECTION": "Anomaly",
    "BLOCK_SURGE": "Block surge",
}
STATUSES = {"ACTIVE": "Active", "RESOLVED": "Resolved", "DISMISSED": "Dismissed"}
SESSIONS = {
    "ACTIVE": "Attack running",
    "EXPIRED": "Quiet: no trigger within the session timeout",
    "RESOLVED": "Ended",
}
COMMENTS = {
    "TRIGGER_EVENT": "Trigger",
    "SEVERITY_ESCALATION": "Severity rose",
    "USER_NOTE": "Note",
    "SYSTEM_LOG": "System",
}
DELIVERIES = {
    "PENDING": "Waiting",
    "SENDING": "Being sent",
    "SENT": "Sent",
    "DELIVERED": "Delivered",
    "FAILED": "Failed",
}
CHANNELS = {
    "slack": "Slack",
    "sms": "SMS",
    "webapp": "Web app",
    "console": "Console",
    "email": "E-mail",
    "teams": "Microsoft Teams",
    "opsgenie": "OpsGenie",
    "pagerduty": "PagerDuty",
    "webhook": "Webhook",
    "apprise": "Other services",
}
OUTCOMES = {
    "created": "New alert",
    "session_updated": "Counted",
    "comment_added": "Added to a quiet alert",
    "duplicate": "Duplicate",
    "stale": "Too late",
    "suppressed": "Suppressed",
    "rejected": "Rejected",
    "resolved": "Ended",
}
OUTCOME_MEANINGS = {
    "created": "Opened a new alert.",
    "session_updated": "Counted as one more occurrence of the running attack.",
    "comment_added": "The attack had gone quiet; it was added to the same alert.",
    "duplicate": "Already counted: a repeat, a retry, or another Alertmanager's copy of the same trigger.",
    "stale": "Older than the recorded end of the same firing, so it reopened nothing.",
    "suppressed": "No alert was raised.",
    "rejected": "It could not be used.",
    "resolved": "The condition no longer holds.",
}
REASONS = {
    "conditions met": "The merchant's own conditions were met.",
    "conditions not met": "The merchant's own conditions were not met.",
    "no merchant configuration": "The merchant has set no thresholds, so the general rule decides.",
    "no conditions configured": "The merchant has set no thresholds, so the general rule decides.",
    "disabled": "Alerts of this type are switched off for this merchant.",
}
NOTIFY_REASONS = {
    "first": "First message",
    "escalated": "Severity rose",
    "threshold": "Occurrence threshold reached",
    "interval": "Still going on",
    "flapping": "comes and goes",
    "resolved": "Attack ended",
    "resend": "Sent again, asked for",
    "digest": "What had been held back, summed up",
    "mention": "A comment names somebody",
    "frequency": "frequency limit reached",
    "strategy": "notification strategy",
    "snoozed": "snoozed",
    "no_channel": "no channel is configured",
}
ESCALATION_REASONS = {
    "occurrence_count_threshold": "number of occurrences",
    "duration_threshold": "how long it lasts",
    "rule_severity": "a graver rule fired",
}
AUDIT_ACTIONS = {
    "config_created": "Settings added",
    "config_updated": "Settings changed",
    "config_deleted": "Settings removed",
    "alert_resolved": "Alert resolved",
    "alert_dismissed": "Alert dismissed",
    "alert_acknowledged": "Alert acknowledged",
    "alert_unacknowledged": "Acknowledgement taken back",
    "alert_snoozed": "Alert snoozed",
    "alert_unsnoozed": "Snooze ended",
    "alert_commented": "Note on an alert",
    "alert_resent": "Message sent again",
    "dead_letters_replayed": "Dead letters sent again",
    "dead_letters_discarded": "Dead letters discarded",
    "api_key_created": "API key created",
    "api_key_rotated": "API key rotated",
    "api_key_revoked": "API key revoked",
    "keys_rotated": "Secrets encrypted anew",
}
TOLD_CHANGES = {"appear": "New", "vanish": "Gone", "change": "Different"}
CONDITIONS = {
    ">": "above (>)",
    ">=": "at least (\N{GREATER-THAN OR EQUAL TO})",
    "<": "below (<)",
    "<=": "at most (\N{LESS-THAN OR EQUAL TO})",
    "==": "equal to (=)",
    "!=": "not equal to (\N{NOT EQUAL TO})",
    "in": "one of",
    "not_in": "none of",
    "contains": "contains",
    "regex": "matches (regular expression)",
}
OPERATORS = {
    ">": ">",
    ">=": "\N{GREATER-THAN OR EQUAL TO}",
    "<": "<",
    "<=": "\N{LESS-THAN OR EQUAL TO}",
    "==": "=",
    "!=": "\N{NOT EQUAL TO}",
    "in": "is one of",
    "not_in": "is none of",
    "contains": "contains",
    "regex": "matches",
}

PLACES = {
    "pages.alerts": "Alerts",
    "pages.triggers": "Triggers",
    "pages.notifications": "Delivery",
    "pages.statistics": "Statistics",
    "pages.settings": "Settings",
    "pages.audit": "Audit",
}
"""The main menu: endpoints and names. Each page shows what whoever looks at it may see."""


def place_of(endpoint: str | None) -> str:
    """The entry of the menu that a page belongs to."""
    kind = (endpoint or "").removeprefix("pages.").partition("_")[0]
    return "pages." + {"alert": "alerts", "letters": "notifications", "config": "settings"}.get(kind, kind)


def humanise(code: str) -> str:
    """`some_code` or `SOME_CODE` as `Some code`."""
    words = code.replace("_", " ").strip()
    return words[:1].upper() + words[1:].lower() if words.isupper() else words[:1].upper() + words[1:]


def type_label(alert_type: str) -> str:
    return ALERT_TYPES.get(alert_type) or humanise(alert_type)


def merchant_label(account_id: str, merchant_name: str) -> str:
    """The merchant's name on one line, without invisible characters; its account id where there is no name."""
    if account_id == OPERATIONS_ACCOUNT:
        return "Operations"
    return printable(" ".join(merchant_name.split())) or account_id


def severity_word(severity: str) -> str:
    return SEVERITY_WORDS[Severity(severity)] if severity in SEVERITY_WORDS else ""


def channel_label(channel: str) -> str:
    return CHANNELS.get(channel) or humanise(channel)


def delivery_word(status: str) -> str:
    return DELIVERIES.get(status) or humanise(status)


def escalation_text(step: Mapping[str, Any]) -> str:
    """Why the severity rose, e.g. `50 triggers`."""
    reason = str(step.get("reason", ""))
    if reason == "occurrence_count_threshold" and step.get("occurrence_count"):
        return f"{step['occurrence_count']} triggers"
    return ESCALATION_REASONS.get(reason) or humanise(reason).lower()


def outcome_label(outcome: str) -> str:
    return OUTCOMES.get(outcome) or humanise(outcome)


def outcome_text(outcome: str, reason: str) -> str:
    """One or two sentences on what became of a trigger, and why."""
    return f"{OUTCOME_MEANINGS.get(outcome, '')} {reason_text(reason)}".strip()


def verdict_text(outcome: str, reason: str, verdict: Mapping[str, Any]) -> str:
    """What became of a trigger; the verdict speaks where the outcome has no reason of its own."""
    if not reason and was_judged(outcome):
        reason = str(verdict.get("reason") or verdict.get("error") or "")
    return outcome_text(outcome, reason)


def reason_text(reason: str) -> str:
    """A sentence for the reason of an outcome or a verdict; what follows a known one's colon is told elsewhere."""
    known = REASONS.get(reason.partition(":")[0].strip())
    return known or (f"{humanise(reason).rstrip('.')}." if reason else "")


def notify_text(notify: str) -> str:
    """`first`, or `withheld:<why>`, as a phrase; empty for nothing decided."""
    kind, _, why = notify.partition(":")
    if kind == "withheld":
        return f"Message held back: {NOTIFY_REASONS.get(why) or humanise(why).lower()}"
    return NOTIFY_REASONS.get(kind) or humanise(kind)


def told_text(notify: str) -> str:
    """What one trigger had people told, as a phrase."""
    return notify_text(notify) if ":" in notify else f"Message: {notify_text(notify).lower()}"


def replayed_text(told: str) -> str:
    """`created, first` as a preview has it, as a phrase; empty for what was, or would be, nothing."""
    outcome, _, notify = told.partition(", ")
    return "; ".join(
        filter(None, (outcome_label(outcome) if outcome else "", told_text(notify).lower() if notify else ""))
    )


def short_numbers(text: str) -> str:
    """With four digits of numbers that have more than that after the point."""
    return re.sub(r"[0-9]+\.[0-9]{5,}", lambda match: f"{float(match[0]):.4g}", text)


def audit_label(action: str) -> str:
    return AUDIT_ACTIONS.get(action) or humanise(action)


def was_judged(outcome: str) -> bool:
    """Whether conditions decided: repeats, late ones and ends are what they are at any value."""
    return outcome not in ("duplicate", "stale", "resolved")


def compared(metric: str, value: float, threshold: float) -> tuple[str, str]:
    """Both as text, with enough digits that different numbers look different (up to 8)."""
    limit = format_threshold(metric, threshold)
    for digits in range(1, 9):
        text = format_value(metric, value, digits=digits)
        if value == threshold or _bare(text) != _bare(limit):
            return text, limit
    return format_value(metric, value, digits=8), format_value(metric, threshold, digits=8)


def _bare(text: str) -> str:
    """Without the zeros after the point that say nothing."""
    return re.sub(r"\.(?!\d)", "", re.sub(r"(\.\d*?)0+(?!\d)", r"\1", text))


def span(length: timedelta) -> str:
    """How long, as coarsely as one says it: `45 s`, `12 min`, `2 h 5 min`, `3 d 4 h`."""
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    return format_duration(length // minute * minute if minute <= length < hour else length)


def ago(at: datetime, now: datetime) -> str:
    """`just now`, `3 min ago`, `in 2 min`."""
    past = now - at
    if abs(past) < timedelta(seconds=10):
        return "just now"
    return f"{span(past)} ago" if past > timedelta(0) else f"in {span(-past)}"


def utc(at: datetime) -> str:
    """`2025-11-19 10:30:05 UTC`."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def iso(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"


def clock_time(at: datetime, now: datetime) -> str:
    """`10:30 UTC` for today, with the date on other days."""
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"
