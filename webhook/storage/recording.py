"""What was decided about one delivery, written with one statement per table."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from webhook.domain.alert import OPERATIONS_ACCOUNT, AlertSession, Instance, Trigger
from webhook.domain.ledger import Changes, Comment, Entry
from webhook.domain.payload import Rejected
from webhook.storage.announcements import announcement_rows
from webhook.storage.sessions import session_values
from webhook.storage.tables import (
    alert,
    alert_comment,
    alert_dynamic,
    alert_instance,
    alert_relationship,
    alert_trigger_log,
    notification,
)

_ALERTMANAGER = "alertmanager"
_LONGEST_TITLE = 200


def record(connection: sa.Connection, changes: Changes, now: datetime) -> None:
    """Write a delivery's changes. Rows go in a fixed order, so that two writers cannot wait for each other."""
    opened = sorted(changes.opened.items(), key=lambda item: changes.sessions[item[0]].condition_fingerprint)
    known = [session for alert_id, session in changes.sessions.items() if alert_id not in changes.opened]
    _expire(connection, changes.expired, now)
    if opened:
        sessions = [changes.sessions[alert_id] for alert_id, _ in opened]
        connection.execute(sa.insert(alert), [_alert(changes.sessions[id_], first, now) for id_, first in opened])
        connection.execute(sa.insert(alert_dynamic), [_dynamic(session, changes, now) for session in sessions])
        connection.execute(sa.insert(alert_relationship), [_relationship(session, now) for session in sessions])
    if known:
        _update(connection, known, changes, now)
    if changes.instances:
        rows = [_instance(*changes.instances[key]) for key in sorted(changes.instances)]
        connection.execute(_upsert_instance(connection.dialect.name), rows)
    if changes.comments:
        connection.execute(sa.insert(alert_comment), [_comment(comment, now) for comment in changes.comments])
    if changes.announcements:
        told = [row for announcement in changes.announcements for row in announcement_rows(announcement, now)]
        connection.execute(sa.insert(notification), told)
    if changes.entries:
        connection.execute(sa.insert(alert_trigger_log), [_log(entry, now) for entry in changes.entries])


def _expire(connection: sa.Connection, sessions: list[AlertSession], now: datetime) -> None:
    for session in sessions:  # rarely more than one: the sweep expires sessions
        statement = sa.update(alert_dynamic).where(alert_dynamic.c.alert_id == session.alert_id)
        connection.execute(statement.values(session_values(session, now)))


def _update(connection: sa.Connection, sessions: list[AlertSession], changes: Changes, now: datetime) -> None:
    rows = [
        {**session_values(session, now), "latest_metrics": changes.metrics[session.alert_id], "key": session.alert_id}
        for session in sessions
    ]
    values: dict[str, Any] = {name: sa.bindparam(name) for name in rows[0] if name != "key"}
    statement = sa.update(alert_dynamic).where(alert_dynamic.c.alert_id == sa.bindparam("key")).values(values)
    connection.execute(statement, rows)


def _upsert_instance(dialect: str) -> postgresql.Insert | sqlite.Insert:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement: postgresql.Insert | sqlite.Insert = insert(alert_instance)
    changing = ("alert_id", "severity", "status", "last_heard_at", "last_counted_at", "resolved_at")
    return statement.on_conflict_do_update(
        index_elements=["fingerprint", "starts_at"],
        set_={name: statement.excluded[name] for name in changing},
    )


def _alert(session: AlertSession, first: Trigger, now: datetime) -> dict[str, Any]:
    return {
        "id": session.alert_id,
        "account_id": session.account_id,
        "merchant_name": first.merchant_name,
        "alert_type": session.alert_type,
        "original_severity": first.severity.value,
        "title": (first.summary or first.alert_name)[:_LONGEST_TITLE],
        "condition_fingerprint": session.condition_fingerprint,
        "metrics_data": first.metrics,
        "metadata": {
            "alert_name": first.alert_name,
            "labels": first.labels,
            "thresholds": first.thresholds,
            "rule_summary": first.summary,
            "generator_url": first.generator_url,
            "urgent": first.urgent,
        },
        "created_at": now,
        "updated_at": now,
    }


def _dynamic(session: AlertSession, changes: Changes, now: datetime) -> dict[str, Any]:
    metrics = changes.metrics[session.alert_id]
    return {
        "id": str(uuid4()),
        "alert_id": session.alert_id,
        "latest_metrics": metrics,
        **session_values(session, now),
    }


def _relationship(session: AlertSession, now: datetime) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "alert_id": session.alert_id,
        "account_id": session.account_id,
        "account_type": "operations" if session.account_id == OPERATIONS_ACCOUNT else "merchant",
        "metadata": {},
        "created_at": now,
    }


def _instance(instance: Instance, trigger: Trigger) -> dict[str, Any]:
    return {
        "fingerprint": instance.fingerprint,
        "starts_at": instance.starts_at,
        "alert_id": instance.alert_id,
        "account_id": trigger.account_id,
        "alert_type": trigger.alert_type,
        "alert_name": trigger.alert_name,
        "severity": trigger.severity.value,
        "status": instance.status.value,
        "last_heard_at": instance.last_heard_at,
        "last_counted_at": instance.last_counted_at,
        "resolved_at": instance.resolved_at,
    }


def _comment(comment: Comment, now: datetime) -> dict[str, Any]:
    return {
        "id": comment.id,
        "alert_id": comment.alert_id,
        "comment_type": comment.type.value,
        "content": comment.content,
        "metrics_snapshot": comment.metrics,
        "metadata": comment.metadata,
        "created_at": now,
    }


def _log(entry: Entry, now: datetime) -> dict[str, Any]:
    """One row of the trigger log; of an alert that could not be understood it keeps the text."""
    item = entry.received.item
    row = {
        "id": str(uuid4()),
        "alert_id": entry.alert_id,
        "source": _ALERTMANAGER,
        "condition_fingerprint": entry.received.condition,
        "outcome": entry.outcome.value,
        "outcome_reason": entry.reason,
        "notify": entry.notify,
        "created_at": now,
    }
    return {**row, **(_unread(item) if isinstance(item, Rejected) else _read(item, entry))}


def _read(trigger: Trigger, entry: Entry) -> dict[str, Any]:
    return {
        "fingerprint": trigger.fingerprint,
        "alert_name": trigger.alert_name,
        "alert_type": trigger.alert_type,
        "account_id": trigger.account_id,
        "status": trigger.status.value,
        "severity": trigger.severity.value,
        "starts_at": trigger.starts_at,
        "ends_at": trigger.ends_at,
        "metrics_data": trigger.metrics,
        "labels": trigger.labels,
        "annotations": trigger.annotations,
        "verdict": entry.verdict.as_json() if entry.verdict is not None else {},
    }


def _unread(rejected: Rejected) -> dict[str, Any]:
    texts = ("fingerprint", "alert_name", "alert_type", "account_id", "status", "severity")
    return {
        **dict.fromkeys(texts, ""),
        "starts_at": None,
        "ends_at": None,
        "metrics_data": {},
        "labels": {},
        "annotations": {},
        "verdict": {"error": rejected.reason, "raw": rejected.raw},
    }
