"""What was decided about one delivery, written a set at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.alert import OPERATIONS_ACCOUNT, AlertSession, Instance, Trigger
from webhook.domain.ledger import Changes, Comment, Entry
from webhook.domain.payload import Rejected
from webhook.storage.announcements import announcement_rows
from webhook.storage.bulk import Write, execute_writes
from webhook.storage.flapping import FLAPPING, end_flapping, flapping_rows
from webhook.storage.holding import replace_held
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

_LONGEST_TITLE = 200

_ALERT = Write("insert", alert)
_DYNAMIC = Write("insert", alert_dynamic)
_RELATIONSHIP = Write("insert", alert_relationship)
_CHANGED = Write("update", alert_dynamic, key=("alert_id",))
_INSTANCE = Write("upsert", alert_instance, key=("fingerprint", "starts_at"))
_COMMENT = Write("insert", alert_comment)
_NOTIFICATION = Write("insert", notification)
_LOG = Write("insert", alert_trigger_log)


def record(connection: sa.Connection, changes: Changes, now: datetime) -> None:
    """Write a delivery's changes. Rows go in a fixed order, so that two writers rarely wait for each other."""
    _expire(connection, changes.expired, now)
    end_flapping(connection, changes.calmed, now)
    opened = [changes.sessions[alert_id] for alert_id in changes.opened]
    opened.sort(key=lambda session: session.condition_fingerprint)
    known = [session for alert_id, session in changes.sessions.items() if alert_id not in changes.opened]
    told = [row for announcement in changes.announcements for row in announcement_rows(announcement, now)]
    replace_held(connection, told)
    writes = (
        (_ALERT, [_alert(session, changes.opened[session.alert_id], now) for session in opened]),
        (_DYNAMIC, [{"id": str(uuid4()), **_state(session, changes, now)} for session in opened]),
        (_RELATIONSHIP, [_relationship(session, now) for session in opened]),
        (_CHANGED, [_state(session, changes, now) for session in known]),
        (_INSTANCE, [_instance(*changes.instances[key]) for key in sorted(changes.instances)]),
        (_COMMENT, [_comment(comment, now) for comment in changes.comments]),
        (_NOTIFICATION, told),
        (FLAPPING, flapping_rows(changes.flapping, now)),
        (_LOG, [_log(entry, position, now) for position, entry in enumerate(changes.entries)]),
    )
    execute_writes(connection, writes)


def _expire(connection: sa.Connection, sessions: list[AlertSession], now: datetime) -> None:
    for session in sessions:  # rarely more than one: the sweep expires sessions
        statement = sa.update(alert_dynamic).where(alert_dynamic.c.alert_id == session.alert_id)
        connection.execute(statement.values(session_values(session, now)))


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
            "runbook_url": first.annotations.get("runbook_url", ""),
            "rule_description": first.annotations.get("description", ""),
            "generator_url": first.generator_url,
            "urgent": first.urgent,
        },
        "created_at": now,
        "updated_at": now,
    }


def _state(session: AlertSession, changes: Changes, now: datetime) -> dict[str, Any]:
    metrics = changes.metrics[session.alert_id]
    return {"alert_id": session.alert_id, "latest_metrics": metrics, **session_values(session, now)}


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
        "source": instance.source,
        "severity": trigger.severity.value,
        "status": instance.status.value,
        "last_heard_at": instance.last_heard_at,
        "last_passed_at": instance.last_passed_at,
        "last_counted_at": instance.last_counted_at,
        "resolved_at": instance.resolved_at,
        "ended_at": instance.ended_at,
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


def _log(entry: Entry, position: int, now: datetime) -> dict[str, Any]:
    """One row of the trigger log; of an alert that could not be understood it keeps the text."""
    item = entry.received.item
    row = {
        "id": str(uuid4()),
        "alert_id": entry.alert_id,
        "source": item.source,
        "condition_fingerprint": entry.received.condition,
        "outcome": entry.outcome.value,
        "outcome_reason": entry.reason,
        "notify": entry.notify,
        "position": position,
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
        "verdict": _verdict(entry),
    }


def _verdict(entry: Entry) -> dict[str, Any]:
    """With the frequency limit that held the message back, and what a report's own thresholds said: a replay asks."""
    verdict = entry.verdict.as_json() if entry.verdict is not None else {}
    if entry.limit is not None:
        verdict["limit"] = entry.limit.as_json()
    own = entry.received.own
    if own is not None:
        verdict["own"] = {"passed": own.passed, "reason": own.reason}
    return verdict


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
