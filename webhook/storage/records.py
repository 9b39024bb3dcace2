"""What the read side hands out: rows as records, and what can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from webhook.domain.alert import AlertStatus, NotificationStatus, Outcome, SessionStatus, TriggerStatus
from webhook.domain.severity import Severity


class AlertSort(StrEnum):
    TIME = "triggered_at"
    SEVERITY = "severity"
    LAST_TRIGGERED = "last_triggered_at"
    UPDATED = "updated_at"
    OCCURRENCES = "occurrence_count"


Place = tuple[datetime, str]
"""Of a row in a list by time: when, and its id."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(at: datetime) -> int:
    """Since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


@dataclass(frozen=True, slots=True)
class AlertPlace:
    """Of an alert in a list: the value that is sorted by (times in microseconds, severity as its number), and ties.

    `at` is when it was created; first triggered, where something else than time is sorted by.
    """

    value: int
    at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Empty fields do not filter. `search` is part of a text or name; times are of creation.

    `accounts` bounds who asks.
    """

    alert_type: str = ""
    severity: Severity | None = None
    status: AlertStatus | None = None
    account_id: str = ""
    search: str = ""
    since: datetime | None = None
    until: datetime | None = None
    resolved_since: datetime | None = None
    accounts: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """One alert with its changing part. `metrics` are those of the last counted trigger, rates without unit."""

    id: str
    account_id: str
    merchant_name: str
    alert_type: str
    title: str
    summary: str
    suggested_action: Any
    metadata: Mapping[str, Any]
    created_at: datetime
    original_severity: Severity
    severity: Severity
    status: AlertStatus
    session_status: SessionStatus
    occurrence_count: int
    session_started_at: datetime
    first_triggered_at: datetime
    last_triggered_at: datetime
    metrics: Mapping[str, float]
    escalation_history: Mapping[str, Any]
    resolved_at: datetime | None
    resolved_by: str | None
    resolution_note: str | None
    dismiss_reason: str | None
    feedback: str | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    snoozed_until: datetime | None
    snoozed_by: str | None
    version: int
    updated_at: datetime

    @property
    def active(self) -> bool:
        return self.status is AlertStatus.ACTIVE


@dataclass(frozen=True, slots=True)
class TriggerRecord:
    """One received alert and what became of it. `outcome_reason` says why, `notify` what was told.

    Of a rejected one, texts are empty where they could not be read: `status` and `severity` too.
    """

    id: str
    alert_id: str | None
    source: str
    alert_name: str
    alert_type: str
    account_id: str
    status: str
    severity: str
    starts_at: datetime | None
    metrics: Mapping[str, float]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    verdict: Mapping[str, Any]
    outcome: str
    outcome_reason: str
    notify: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CommentRecord:
    id: str
    comment_type: str
    content: str
    created_by: str
    created_at: datetime
    metadata: Mapping[str, Any] | None
    metrics_snapshot: Mapping[str, float] | None

    @property
    def mentions(self) -> list[str]:
        named = (self.metadata or {}).get("mentions")
        return [str(name) for name in named] if isinstance(named, list) else []


@dataclass(frozen=True, slots=True)
class NotificationRecord:
    id: str
    alert_id: str
    account_id: str
    alert_type: str
    channel_type: str
    status: NotificationStatus
    reason: str
    created_at: datetime
    not_before: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    failed_at: datetime | None
    retry_count: int
    error_message: str | None
    requested_by: str | None
    maybe_repeated: int
    group_id: str | None


@dataclass(frozen=True, slots=True)
class NotificationFilter:
    """Empty fields do not filter; times are of creation, `severity` that of the alert then.

    `accounts` bounds who asks.
    """

    status: NotificationStatus | None = None
    channel: str = ""
    severity: Severity | None = None
    account_id: str = ""
    alert_id: str = ""
    since: datetime | None = None
    until: datetime | None = None
    accounts: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class TriggerFilter:
    """Empty fields do not filter. `account` is an exact account id, or part of a merchant's name or account id.

    `label` is part of the labels' text; `reason` is part of the outcome's. `accounts` bounds who asks.
    """

    account: str = ""
    alert_type: str = ""
    outcome: Outcome | None = None
    reason: str = ""
    alert_name: str = ""
    status: TriggerStatus | None = None
    severity: Severity | None = None
    label: str = ""
    alert_id: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: Place | None = None
    accounts: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class TriggerPage:
    """Newest first. `next` is where to read on: set too where a page that is not full stands for much that was read."""

    records: list[TriggerRecord]
    next: Place | None


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Triggers that were held back for their merchants' settings, and how many merchants those are."""

    triggers: int
    accounts: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """`active` counts by severity; the rest counts since the start of the day that was asked for."""

    active: Mapping[Severity, int]
    resolved: int
    suppressed: int
    suppressed_accounts: int
