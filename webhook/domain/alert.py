"""What the alert core talks about: triggers, instances, sessions, and their enumerations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from webhook.domain.severity import DEFAULT_STEPS, Escalation, EscalationStep, Severity


class AlertStatus(StrEnum):
    ACTIVE = "ACTIVE"
    RESOLVED = "RESOLVED"
    DISMISSED = "DISMISSED"


class SessionStatus(StrEnum):
    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    RESOLVED = "RESOLVED"


class TriggerStatus(StrEnum):
    FIRING = "FIRING"
    RESOLVED = "RESOLVED"


class CommentType(StrEnum):
    TRIGGER_EVENT = "TRIGGER_EVENT"
    SEVERITY_ESCALATION = "SEVERITY_ESCALATION"
    USER_NOTE = "USER_NOTE"
    SYSTEM_LOG = "SYSTEM_LOG"


class NotificationStatus(StrEnum):
    PENDING = "PENDING"
    SENDING = "SENDING"
    SENT = "SENT"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


class Outcome(StrEnum):
    """What became of one received trigger; `suppressed` and `rejected` carry a reason after a colon."""

    CREATED = "created"
    SESSION_UPDATED = "session_updated"
    COMMENT_ADDED = "comment_added"
    DUPLICATE = "duplicate"
    STALE = "stale"
    SUPPRESSED = "suppressed"
    REJECTED = "rejected"
    RESOLVED = "resolved"


class NotifyReason(StrEnum):
    """Why a message goes out."""

    FIRST = "first"
    ESCALATED = "escalated"
    THRESHOLD = "threshold"
    INTERVAL = "interval"
    FLAPPING = "flapping"
    RESOLVED = "resolved"
    RESEND = "resend"  # a person asked for it
    DIGEST = "digest"  # what was held back, summed up
    MENTION = "mention"  # a person's comment names others


UNLIMITED = (NotifyReason.RESOLVED, NotifyReason.RESEND, NotifyReason.MENTION, NotifyReason.DIGEST)
"""Messages that take no place within frequency limits."""


class Withheld(StrEnum):
    """Why a message does not go out."""

    FREQUENCY = "frequency"
    STRATEGY = "strategy"
    SNOOZED = "snoozed"
    NO_CHANNEL = "no_channel"
    FLAPPING = "flapping"


OPERATIONS_ACCOUNT = "_operations"
"""The account of alerts that name no merchant: they go to the default channels."""

ALERTMANAGER, GRAFANA = "alertmanager", "grafana"
"""Where a trigger comes from."""

SYSTEM = "system"
"""Who acts when no person does."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One alert of one delivery, normalised. `metrics` are full-precision values without unit, by metric name."""

    fingerprint: str
    status: TriggerStatus
    starts_at: datetime
    ends_at: datetime | None
    alert_name: str
    alert_type: str
    severity: Severity
    account_id: str
    merchant_name: str
    metrics: Mapping[str, float]
    thresholds: Mapping[str, float]
    summary: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    generator_url: str
    urgent: bool = False
    source: str = ALERTMANAGER

    @property
    def key(self) -> tuple[str, datetime]:
        """What Alertmanager repeats unchanged: its fingerprint and the start of this firing."""
        return (self.fingerprint, self.starts_at)


@dataclass(frozen=True, slots=True)
class Instance:
    """The last known state of one (fingerprint, starts_at), counted at most once an occurrence interval.

    `last_heard_at` is when it was last heard to be firing, `last_passed_at` when it then passed evaluation too. Of one
    that was found to have ended, `resolved_at` is when it was last heard, and `ended_at` when it was found.
    """

    fingerprint: str
    starts_at: datetime
    status: TriggerStatus
    alert_id: str | None
    last_heard_at: datetime
    last_counted_at: datetime | None
    resolved_at: datetime | None = None
    closed_by_person: bool = False  # its alert was resolved or dismissed by a person
    last_passed_at: datetime | None = None
    source: str = ALERTMANAGER  # who says of it that it fires, and so who can say that it does no more
    ended_at: datetime | None = None

    @property
    def attacking(self) -> bool:
        """Firing, and not suppressed when it was last heard: only then does it keep a session alive."""
        return self.status is TriggerStatus.FIRING and self.last_passed_at == self.last_heard_at


class AlertSession(NamedTuple):
    """One attack on one merchant: the changing part of an alert. A tuple, for each occurrence makes another."""

    alert_id: str
    account_id: str
    alert_type: str
    condition_fingerprint: str
    severity: Severity
    status: AlertStatus
    session_status: SessionStatus
    occurrence_count: int
    session_started_at: datetime
    session_last_active: datetime
    first_triggered_at: datetime
    last_triggered_at: datetime
    last_notified_at: datetime | None = None
    last_notified_count: int = 0  # occurrences when people were last told
    version: int = 1
    escalations: tuple[Escalation, ...] = ()
    resolved_at: datetime | None = None
    snoozed_until: datetime | None = None  # by a person, of this alert alone

    def lasted(self, now: datetime) -> timedelta:
        """Length of the session: an expired one ended with its last activity, whatever joined it later."""
        end = now if self.session_status is SessionStatus.ACTIVE else self.session_last_active
        return end - self.session_started_at


@dataclass(frozen=True, slots=True)
class AlertTypeSettings:
    """How triggers of one alert type become sessions. Defaults are those of the owner's documents.

    A condition that fires again after it ended more than `flapping_restarts` times in a `flapping_window` flaps.
    """

    session_timeout: timedelta = timedelta(minutes=15)
    window: timedelta = timedelta(hours=24)
    occurrence_interval: timedelta = timedelta(minutes=4, seconds=30)
    escalation: tuple[EscalationStep, ...] = DEFAULT_STEPS
    fingerprint_fields: tuple[str, ...] = ()
    default_metric: str | None = None
    flapping_restarts: int = 3
    flapping_window: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class AlertTypes:
    """Settings by alert type, with a default for types that nobody configured."""

    default: AlertTypeSettings = field(default_factory=AlertTypeSettings)
    by_type: Mapping[str, AlertTypeSettings] = field(default_factory=dict)

    def __getitem__(self, alert_type: str) -> AlertTypeSettings:
        return self.by_type.get(alert_type, self.default)


def condition_fingerprint(trigger: Trigger, fields: tuple[str, ...]) -> str:
    """MD5 over account, alert type and the type's fingerprint fields: the same for all rules of one attack."""
    parts = [trigger.account_id, trigger.alert_type, *(trigger.labels.get(name, "") for name in fields)]
    return hashlib.md5(json.dumps(parts).encode(), usedforsecurity=False).hexdigest()
