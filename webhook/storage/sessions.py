"""Sessions and instances as rows: read under lock, written back whole."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import (
    SYSTEM,
    AlertSession,
    AlertStatus,
    Instance,
    SessionStatus,
    TriggerStatus,
)
from webhook.domain.severity import Escalation, Severity
from webhook.storage.tables import alert, alert_dynamic, alert_instance

_SESSION = sa.select(
    alert.c.account_id,
    alert.c.alert_type,
    *(column for column in alert_dynamic.c if column.name not in ("id", "latest_metrics")),
).select_from(alert_dynamic.join(alert, alert.c.id == alert_dynamic.c.alert_id))


def lock_sessions(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> list[AlertSession]:
    """Sessions that match, by fingerprint and then last trigger, locked until the transaction ends.

    SQLite's writers are serialised from the start of their transaction; it needs no lock on rows.
    """
    order = (alert_dynamic.c.condition_fingerprint, alert_dynamic.c.last_triggered_at, alert_dynamic.c.id)
    query = _SESSION.where(*where).order_by(*order).with_for_update(of=alert_dynamic)
    return [session_of(row) for row in connection.execute(query).mappings()]


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
        version=row["version"],
        escalations=tuple(Escalation.from_json(entry) for entry in history),
        resolved_at=row["resolved_at"],
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
        "version": session.version,
        "updated_at": now,
    }


def read_instances(
    connection: sa.Connection, keys: Iterable[tuple[str, datetime]]
) -> dict[tuple[str, datetime], Instance]:
    """Instances by (fingerprint, starts_at), with whether a person has closed their alert."""
    wanted = set(keys)
    closed_by_person = sa.and_(
        alert_dynamic.c.status != AlertStatus.ACTIVE.value,
        sa.func.coalesce(alert_dynamic.c.resolved_by, SYSTEM) != SYSTEM,
    )
    query = (
        sa.select(
            alert_instance.c.fingerprint,
            alert_instance.c.starts_at,
            alert_instance.c.status,
            alert_instance.c.alert_id,
            alert_instance.c.last_heard_at,
            alert_instance.c.last_counted_at,
            alert_instance.c.resolved_at,
            sa.func.coalesce(closed_by_person, sa.false()).label("closed_by_person"),
        )
        .select_from(alert_instance.outerjoin(alert_dynamic, alert_dynamic.c.alert_id == alert_instance.c.alert_id))
        .where(
            alert_instance.c.fingerprint.in_(sorted({fingerprint for fingerprint, _ in wanted})),
            alert_instance.c.starts_at.in_(sorted({starts_at for _, starts_at in wanted})),
        )
    )
    found = (_instance(row) for row in connection.execute(query))
    return {key: instance for instance in found if (key := (instance.fingerprint, instance.starts_at)) in wanted}


def _instance(row: sa.Row[Any]) -> Instance:
    return Instance(
        row.fingerprint,
        row.starts_at,
        TriggerStatus(row.status),
        row.alert_id,
        row.last_heard_at,
        row.last_counted_at,
        row.resolved_at,
        bool(row.closed_by_person),
    )


def read_last_heard(connection: sa.Connection, alert_ids: list[str]) -> dict[str, datetime]:
    """When an instance of each alert was last heard to be firing."""
    last = sa.func.max(alert_instance.c.last_heard_at, type_=alert_instance.c.last_heard_at.type)
    query = (
        sa.select(alert_instance.c.alert_id, last)
        .where(alert_instance.c.alert_id.in_(alert_ids), alert_instance.c.status == TriggerStatus.FIRING.value)
        .group_by(alert_instance.c.alert_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}
