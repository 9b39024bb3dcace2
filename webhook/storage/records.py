"""What the read side hands out: rows as records, and what can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from webhook.domain.alert import AlertStatus, NotificationStatus, Outcome, SessionStatus
from webhook.domain.severity import Severity


class AlertSort(StrEnum):
    TIME = "triggered_at"
    SEVERITY = "severity"


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Empty fields do not filter. `search` is part of a merchant's name or account id; times are of creation."""

    alert_type: str = ""
    severity: Severity | None = None
    status: AlertStatus | None = None
    account_id: str = ""
    search: str = ""
    since: datetime | None = None
    until: datetime | None = None
    resolved_since: datetime | None = None


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


@dataclass(frozen=True, slots=True)
class NotificationRecord:
    id: str
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


@dataclass(frozen=True, slots=True)
class TriggerFilter:
    """Empty fields do not filter. `account` is an exact account id, or part of a merchant's name or account id."""

    account: str = ""
    outcome: Outcome | None = None
    alert_id: str = ""
    since: datetime | None = None
    before: tuple[datetime, str] | None = None


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
