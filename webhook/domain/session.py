"""One attack, one alert: where a trigger belongs, and when an attack is over. Pure; times are UTC."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from webhook.domain.alert import (
    AlertSession,
    AlertStatus,
    AlertTypeSettings,
    Instance,
    Outcome,
    SessionStatus,
    Trigger,
    TriggerStatus,
)
from webhook.domain.severity import Escalation, Severity, escalate


class IllegalChange(ValueError):  # noqa: N818 - an answer to a person, not a failure of ours
    """The alert is not in a state from which this change is possible."""


UNHEARD = "no trigger within the window; whether it ended is not known, so nobody is told that it did"


class SettlementKind(StrEnum):
    KEEP = "keep"
    EXPIRE = "expire"
    RESOLVE = "resolve"


@dataclass(frozen=True, slots=True)
class Settlement:
    """What time alone makes of a session, and why. Not `told` is an end that nobody has heard of."""

    kind: SettlementKind
    reason: str
    told: bool = True


def timed_out(session: AlertSession, settings: AlertTypeSettings, now: datetime) -> bool:
    """Whether nothing was counted for a session timeout."""
    last = max(session.session_last_active, session.last_triggered_at)
    return now - last >= settings.session_timeout


def place(
    session: AlertSession | None, last_passed: datetime | None, settings: AlertTypeSettings, now: datetime
) -> Outcome:
    """Where a counted trigger belongs: SESSION_UPDATED, COMMENT_ADDED or CREATED.

    `session` is the latest of the same condition fingerprint, `last_passed` the last time that one of its instances,
    firing still, passed evaluation. A resolve that got lost keeps an attack alive for one session timeout, no longer.
    """
    if session is None or session.status is not AlertStatus.ACTIVE:
        return Outcome.CREATED
    if session.session_status is SessionStatus.ACTIVE:
        recent = is_recent(session, settings, now)
        firing = last_passed is not None and now - last_passed <= settings.session_timeout
        if recent or firing:
            return Outcome.SESSION_UPDATED
    return Outcome.COMMENT_ADDED if now - session.last_triggered_at <= settings.window else Outcome.CREATED


def is_recent(session: AlertSession, settings: AlertTypeSettings, now: datetime) -> bool:
    """Whether it is going on, whatever its instances do."""
    active = session.session_status is SessionStatus.ACTIVE
    return active and now - session.session_last_active < settings.session_timeout


def opened(
    trigger: Trigger, alert_id: str, fingerprint: str, settings: AlertTypeSettings, now: datetime
) -> AlertSession:
    """The session that a first trigger opens, as grave as the steps make it; the attack began when it was received."""
    first = AlertSession(
        alert_id=alert_id,
        account_id=trigger.account_id,
        alert_type=trigger.alert_type,
        condition_fingerprint=fingerprint,
        severity=trigger.severity,
        status=AlertStatus.ACTIVE,
        session_status=SessionStatus.ACTIVE,
        occurrence_count=1,
        session_started_at=now,
        session_last_active=now,
        first_triggered_at=now,
        last_triggered_at=now,
    )
    step = escalate(first, settings.escalation, now)
    return first if step is None else raised(first, step)


def joined(
    session: AlertSession, severity: Severity, outcome: Outcome, settings: AlertTypeSettings, now: datetime
) -> AlertSession:
    """The session with one more occurrence. It rises to the rule's `severity` if that is graver, then by the steps."""
    still_active = outcome is Outcome.SESSION_UPDATED
    after = session._replace(
        occurrence_count=session.occurrence_count + 1,
        session_status=SessionStatus.ACTIVE if still_active else SessionStatus.EXPIRED,
        session_last_active=max(now, session.session_last_active) if still_active else session.session_last_active,
        last_triggered_at=max(now, session.last_triggered_at),
        version=session.version + 1,
    )
    if severity.rank > after.severity.rank:
        by_rule = Escalation(after.severity, severity, "rule_severity", after.occurrence_count, now)
        after = raised(after, by_rule)
    step = escalate(after, settings.escalation, now)
    return after if step is None else raised(after, step)


def raised(session: AlertSession, escalation: Escalation) -> AlertSession:
    """The session with one more entry in its escalation history."""
    return session._replace(severity=escalation.to_severity, escalations=(*session.escalations, escalation))


def told(session: AlertSession, now: datetime) -> AlertSession:
    """People are told of it as it stands."""
    return session._replace(last_notified_at=now, last_notified_count=session.occurrence_count)


def expired(session: AlertSession) -> AlertSession:
    """The session timed out; its alert stays active until it is settled."""
    return session._replace(session_status=SessionStatus.EXPIRED, version=session.version + 1)


def closed(session: AlertSession, status: AlertStatus, now: datetime) -> AlertSession:
    """The alert RESOLVED or DISMISSED and its session over; raise IllegalChange where it is not active."""
    if session.status is not AlertStatus.ACTIVE:
        raise IllegalChange(f"the alert is already {session.status}")
    return session._replace(
        status=status,
        session_status=SessionStatus.RESOLVED,
        resolved_at=now,
        version=session.version + 1,
    )


def settle(
    session: AlertSession, instances: Iterable[Instance], now: datetime, settings: AlertTypeSettings
) -> Settlement:
    """Keep, expire or resolve a session, judged by its instances and the time since its last trigger.

    An instance that fires below its merchant's own thresholds has ended for this merchant. One that merely was not
    heard of may fire on: its alert is closed after the window, but nobody is told that it is over.
    """
    firing = [instance for instance in instances if instance.status is TriggerStatus.FIRING]
    passed = [instance.last_passed_at for instance in firing if instance.last_passed_at is not None]
    if session.status is not AlertStatus.ACTIVE:
        kind, reason = SettlementKind.KEEP, f"already {session.status}"
    elif any(now - last <= settings.session_timeout for last in passed):
        kind, reason = SettlementKind.KEEP, "still firing"
    elif not timed_out(session, settings, now):
        kind, reason = SettlementKind.KEEP, "triggered within the session timeout"
    elif not firing:
        kind, reason = SettlementKind.RESOLVE, "all instances resolved and none fired again"
    elif not any(instance.attacking for instance in firing):
        kind, reason = SettlementKind.RESOLVE, "the merchant's own conditions are not met any more"
    elif now - session.last_triggered_at > settings.window:
        return Settlement(SettlementKind.RESOLVE, UNHEARD, told=False)
    elif session.session_status is SessionStatus.ACTIVE:
        kind, reason = SettlementKind.EXPIRE, "not heard of for a session timeout"
    else:
        kind, reason = SettlementKind.KEEP, "expired, within the window"
    return Settlement(kind, reason)
