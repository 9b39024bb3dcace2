"""Sessions and instances as rows: read under lock, written back whole."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import (
    AlertSession,
    AlertStatus,
    Instance,
    SessionStatus,
    TriggerStatus,
)
from webhook.domain.severity import Escalation, Severity
from webhook.storage.columns import among
from webhook.storage.tables import alert, alert_dynamic, alert_instance

_UNREAD = frozenset({"id", "latest_metrics", "resolution_note", "feedback", "last_escalated_at", "updated_at"})

_SESSION = sa.select(
    alert.c.account_id,
    alert.c.alert_type,
    *(column for column in alert_dynamic.c if column.name not in _UNREAD),
).select_from(alert_dynamic.join(alert, alert.c.id == alert_dynamic.c.alert_id))


def lock_sessions(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> list[AlertSession]:
    """Sessions that match, by fingerprint and then last trigger, locked until the transaction ends.

    SQLite's writers are serialised from the start of their transaction; it needs no lock on rows.
    """
    return [session_of(row) for row in connection.execute(_locking(*where)).mappings()]


def lock_active_sessions(connection: sa.Connection, conditions: list[str]) -> dict[str, AlertSession]:
    """The latest session of an active alert for each condition fingerprint, locked as `lock_sessions` does."""
    rows = connection.execute(_active_sessions(connection.dialect.name), {"conditions": conditions}).mappings()
    return {row["condition_fingerprint"]: session_of(row) for row in rows}


def _locking(*where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    order = (alert_dynamic.c.condition_fingerprint, alert_dynamic.c.last_triggered_at, alert_dynamic.c.id)
    return _SESSION.where(*where).order_by(*order).with_for_update(of=alert_dynamic)


@cache
def _active_sessions(dialect: str) -> sa.Select[Any]:
    return _locking(
        among(alert_dynamic.c.condition_fingerprint, "conditions", dialect),
        alert_dynamic.c.status == AlertStatus.ACTIVE.value,
    )


def session_of(row: sa.RowMapping) -> AlertSession:
    history = row["escalation_history"].get("escalations", ())
    return AlertSession(
        alert_id=row["alert_id"],
        account_id=row["account_id"],
        alert_type=row["alert_type"],
        condition_fingerprint=row["condition_fingerprint"],
        severity=Severity(row["current_severity"]),
        status=AlertStatus(row["status"]),
        session_status=SessionStatus(row["session_status"]),
        occurrence_count=row["occurrence_count"],
        session_started_at=row["session_started_at"],
        session_last_active=row["session_last_active"],
        first_triggered_at=row["first_triggered_at"],
        last_triggered_at=row["last_triggered_at"],
        last_notified_at=row["last_notified_at"],
        last_notified_count=row["last_notified_count"],
        version=row["version"],
        escalations=tuple(Escalation.from_json(entry) for entry in history),
        resolved_at=row["resolved_at"],
        snoozed_until=row["snoozed_until"],
    )


def session_values(session: AlertSession, now: datetime) -> dict[str, Any]:
    """The changing columns of `alert_dynamic`; who closed the alert, and its metrics, are written by themselves."""
    rises = session.escalations
    return {
        "condition_fingerprint": session.condition_fingerprint,
        "current_severity": session.severity.value,
        "status": session.status.value,
        "occurrence_count": session.occurrence_count,
        "session_started_at": session.session_started_at,
        "session_last_active": session.session_last_active,
        "session_status": session.session_status.value,
        "first_triggered_at": session.first_triggered_at,
        "last_triggered_at": session.last_triggered_at,
        "escalation_history": {"escalations": [rise.as_json() for rise in rises]},
        "last_escalated_at": rises[-1].escalated_at if rises else None,
        "resolved_at": session.resolved_at,
        "last_notified_at": session.last_notified_at,
        "last_notified_count": session.last_notified_count,
        "version": session.version,
        "updated_at": now,
    }


def lock_instances(
    connection: sa.Connection, keys: Iterable[tuple[str, datetime]]
) -> dict[tuple[str, datetime], Instance]:
    """Instances by (fingerprint, starts_at), with whether a person has closed their alert; locked like sessions."""
    wanted = set(keys)
    asked = {"fingerprints": sorted({key[0] for key in wanted}), "starts": sorted({key[1] for key in wanted})}
    rows = connection.execute(_instances(connection.dialect.name), asked).mappings()
    found = (instance_of(row, closed_by_person=bool(row["closed_by_person"])) for row in rows)
    return {key: instance for instance in found if (key := (instance.fingerprint, instance.starts_at)) in wanted}


@cache
def _instances(dialect: str) -> sa.Select[Any]:
    i = alert_instance.c
    closed_by_person = alert_dynamic.c.authenticated_as.is_not(None)
    return (
        sa.select(alert_instance, closed_by_person.label("closed_by_person"))
        .select_from(alert_instance.outerjoin(alert_dynamic, alert_dynamic.c.alert_id == i.alert_id))
        .where(
            among(i.fingerprint, "fingerprints", dialect),
            among(i.starts_at, "starts", dialect),
        )
        .order_by(i.fingerprint, i.starts_at)
        .with_for_update(of=alert_instance)
    )


def instance_of(row: sa.RowMapping, *, closed_by_person: bool = False) -> Instance:
    return Instance(
        fingerprint=row["fingerprint"],
        starts_at=row["starts_at"],
        status=TriggerStatus(row["status"]),
        alert_id=row["alert_id"],
        last_heard_at=row["last_heard_at"],
        last_counted_at=row["last_counted_at"],
        resolved_at=row["resolved_at"],
        closed_by_person=closed_by_person,
        last_passed_at=row["last_passed_at"],
        source=row["source"],
        ended_at=row["ended_at"],
    )


def read_last_passed(connection: sa.Connection, alert_ids: list[str]) -> dict[str, datetime]:
    """When an instance of each alert that is firing still last passed evaluation."""
    i = alert_instance.c
    query = (
        sa.select(i.alert_id, sa.func.max(i.last_passed_at, type_=i.last_passed_at.type))
        .where(i.alert_id.in_(alert_ids), i.status == TriggerStatus.FIRING.value, i.last_passed_at.is_not(None))
        .group_by(i.alert_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}
