"""Codes and numbers in people's words: pure, and tolerant of what it does not know.

Rates are kept without unit and shown in percent; a value and its threshold are shown with as many digits as it takes
to tell them apart. What comes from outside stays plain text: escaping is the template's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from webhook.domain.severity import Severity

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"

SEVERITIES = {
    Severity.P0: "Critical",
    Severity.P1: "High",
    Severity.P2: "Medium",
    Severity.P3: "Low",
}
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
CHANNELS = {"slack": "Slack", "sms": "SMS", "webapp": "Web app", "console": "Console", "email": "E-mail"}
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
    "resolved": "Prometheus says the condition no longer holds.",
}
REASONS = {
    "conditions_not_met": "The merchant's own conditions were not met.",
    "not_met": "The merchant's own conditions were not met.",
    "disabled": "Alerts of this type are switched off for this merchant.",
    "no_metrics": "The metrics that the conditions need were missing.",
}
NOTIFY_REASONS = {
    "first": "First message",
    "escalated": "Severity rose",
    "threshold": "Occurrence threshold reached",
    "interval": "Still going on",
    "resolved": "Attack ended",
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
METRIC_NAMES = {
    "failed_auth_rate": "Failed authorisations",
    "transaction_count": "Transactions",
    "transaction_rate": "Transactions per second",
    "unique_card_count": "Distinct cards",
    "unusual_spend_rate": "Unusual spending",
    "chargeback_count": "Chargebacks",
}


def humanise(code: str) -> str:
    """`some_code` or `SOME_CODE` as `Some code`."""
    words = code.replace("_", " ").strip()
    return words[:1].upper() + words[1:].lower() if words.isupper() else words[:1].upper() + words[1:]


def metric_label(name: str) -> str:
    return METRIC_NAMES.get(name) or humanise(name)


def outcome_label(outcome: str) -> str:
    return OUTCOMES.get(outcome) or humanise(outcome)


def outcome_text(outcome: str, reason: str) -> str:
    """One or two sentences on what became of a trigger, and why."""
    meaning = OUTCOME_MEANINGS.get(outcome, "")
    if not reason:
        return meaning
    why = REASONS.get(reason) or f"{humanise(reason).rstrip('.')}."
    return f"{meaning} {why}".strip()


def notify_text(notify: str) -> str:
    """`first`, or `withheld:<why>`, as a phrase; empty for nothing decided."""
    kind, _, why = notify.partition(":")
    if kind == "withheld":
        return f"Message held back: {NOTIFY_REASONS.get(why) or humanise(why).lower()}"
    return NOTIFY_REASONS.get(kind) or humanise(kind)


def _is_share(metric: str) -> bool:
    return metric.endswith(("_rate", "_share", "_ratio")) and metric != "transaction_rate"


def number(metric: str, value: float, digits: int = 1) -> str:
    """A metric's value with its unit, e.g. `35.0 %`, `1 204`, `0.8 /s`; `digits` after the decimal point."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if _is_share(metric):
        return f"{_grouped(value * 100, digits)}{NBSP}%"
    text = _grouped(value, 0 if value.is_integer() else digits)
    return f"{text}{NBSP}/s" if metric == "transaction_rate" else text


def _grouped(value: float, digits: int) -> str:
    if value and abs(value) < 10**-digits / 2:
        digits = min(8, digits + 2)
    text = f"{abs(value):,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{MINUS if value < 0 else ''}{text}"


def compared(metric: str, value: float, threshold: float) -> tuple[str, str]:
    """Both as text, with enough digits that different numbers look different (up to 8)."""
    for digits in range(1, 9):
        pair = number(metric, value, digits), number(metric, threshold, digits)
        if pair[0] != pair[1] or value == threshold:
            return pair
    return pair


def duration(span: timedelta) -> str:
    """The two largest units: `45 s`, `12 min`, `2 h 5 min`, `3 d 4 h`."""
    minutes, seconds = divmod(max(0, int(span.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), len(parts) - 1)
    # Seconds say nothing beside minutes.
    shown = parts[first : first + 2] if days or hours else parts[first : first + 1]
    return " ".join(f"{count}{NBSP}{unit}" for count, unit in shown if count or unit == "s")


def ago(at: datetime, now: datetime) -> str:
    """`just now`, `3 min ago`, `in 2 min`."""
    span = now - at
    if abs(span) < timedelta(seconds=10):
        return "just now"
    return f"{duration(span)} ago" if span > timedelta(0) else f"in {duration(-span)}"


def utc(at: datetime) -> str:
    """`2025-11-19 10:30:05 UTC`."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def clock_time(at: datetime, now: datetime) -> str:
    """`10:30 UTC` for today, with the date on other days."""
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a verdict. `value` is None when the metric was missing, `met` when nobody decided."""

    metric: str
    operator: str
    threshold: Any
    value: Any
    met: bool | None
    owner: str

    @property
    def label(self) -> str:
        return metric_label(self.metric)

    @property
    def sign(self) -> str:
        return OPERATORS.get(self.operator, self.operator)

    @property
    def texts(self) -> tuple[str, str]:
        """Value and threshold for people."""
        value, threshold = as_number(self.value), as_number(self.threshold)
        if value is not None and threshold is not None:
            return compared(self.metric, value, threshold)
        return _plain(self.metric, self.value), _plain(self.metric, self.threshold)


def as_number(value: object) -> float | None:
    """A finite number from JSON; not a bool, not text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _plain(metric: str, value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, list):
        return ", ".join(_plain(metric, entry) for entry in value)
    found = as_number(value)
    return str(value) if found is None else number(metric, found)


def conditions(verdict: Mapping[str, Any]) -> list[Condition]:
    """What the verdict of one trigger compared; empty where nothing was compared."""
    found = verdict.get("conditions")
    entries = [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []
    return [
        Condition(
            metric=str(entry.get("metric") or entry.get("metric_name") or "value"),
            operator=str(entry.get("operator", "")),
            threshold=entry.get("threshold"),
            value=entry.get("value"),
            met=entry.get("met") if isinstance(entry.get("met"), bool) else None,
            owner=_owner(entry, verdict),
        )
        for entry in entries
    ]


def _owner(entry: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    """`merchant` for a configured condition, `rule` for the coarse Prometheus rule's."""
    for source in (entry.get("source"), verdict.get("source")):
        if isinstance(source, str) and source:
            return "rule" if "rule" in source else "merchant"
    return "rule" if verdict.get("config_version") is None else "merchant"


OWNERS = {"merchant": "merchant's own threshold", "rule": "general rule's threshold"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric of an alert against its threshold, where it has one. `fill` and `mark` are 0..100 of a bar."""

    metric: str
    value: float
    threshold: float | None
    operator: str
    owner: str
    met: bool

    @property
    def label(self) -> str:
        return metric_label(self.metric)

    @property
    def sign(self) -> str:
        """How the value stands to the threshold: what a reader sees has to be true."""
        if self.threshold is None:
            return ""
        return OPERATORS[self.operator] if self.met else _relation(self.value, self.threshold)

    @property
    def value_text(self) -> str:
        return self._texts[0]

    @property
    def threshold_text(self) -> str:
        return self._texts[1]

    @property
    def _texts(self) -> tuple[str, str]:
        if self.threshold is None:
            return number(self.metric, self.value), ""
        return compared(self.metric, self.value, self.threshold)

    @property
    def fill(self) -> float:
        return self._part(self.value)

    @property
    def mark(self) -> float:
        return self._part(self.threshold or 0.0)

    def _part(self, value: float) -> float:
        top = max(abs(self.value), abs(self.threshold or 0.0)) * 1.15
        return round(min(100.0, max(0.0, value / top * 100)), 1) if top else 0.0


def _relation(value: float, threshold: float) -> str:
    if value == threshold:
        return "="
    return ">" if value > threshold else "<"


_COMPARISONS = {
    ">": lambda value, threshold: value > threshold,
    ">=": lambda value, threshold: value >= threshold,
    "<": lambda value, threshold: value < threshold,
    "<=": lambda value, threshold: value <= threshold,
}


def readings(metrics: Mapping[str, Any], thresholds: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[Reading]:
    """Every metric of an alert, those with a threshold first, the merchant's thresholds before the rule's."""
    limits: dict[str, tuple[float, str, str]] = {}
    for condition in conditions(verdict):
        limit = as_number(condition.threshold)
        if limit is not None and condition.operator in _COMPARISONS:
            limits.setdefault(condition.metric, (limit, condition.operator, condition.owner))
    for metric, threshold in thresholds.items():
        limit = as_number(threshold)
        if limit is not None:
            limits.setdefault(metric, (limit, ">", "rule"))
    found = []
    for metric, raw in metrics.items():
        value = as_number(raw)
        if value is not None:
            limit, operator, owner = limits.get(metric, (None, "", ""))
            met = limit is not None and _COMPARISONS[operator](value, limit)
            found.append(Reading(metric, value, limit, operator, owner, met))
    return sorted(found, key=lambda reading: (reading.threshold is None, reading.owner != "merchant", not reading.met))
