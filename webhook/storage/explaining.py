"""What is stored about one alert, for its explanation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import NotificationStatus, Outcome
from webhook.domain.explanation import AlertFacts, CommentFact, NotificationFact, TriggerFact
from webhook.storage.tables import alert, alert_comment, alert_config_version, alert_trigger_log, notification

MOST_TRIGGERS = 500
"""The oldest half and the newest half of more than that are read."""


def read_facts(connection: sa.Connection, alert_id: str, accounts: frozenset[str] | None = None) -> AlertFacts | None:
    """Facts for `domain.explanation.explain`; None where there is no such alert among `accounts` (None: all)."""
    query = sa.select(alert.c.account_id, alert.c.alert_type).where(alert.c.id == alert_id)
    found = connection.execute(query).first()
    if found is None or (accounts is not None and found.account_id not in accounts):
        return None
    total, triggers = _triggers(connection, alert_id)
    versions = {trigger.verdict.get("config_version") for trigger in triggers} - {None}
    return AlertFacts(
        alert_id,
        found.account_id,
        found.alert_type,
        triggers,
        _comments(connection, alert_id),
        _notifications(connection, alert_id),
        _configs(connection, found.account_id, found.alert_type, versions),
        more_triggers=total - len(triggers),
    )


def _triggers(connection: sa.Connection, alert_id: str) -> tuple[int, list[TriggerFact]]:
    log = alert_trigger_log.c
    ours = sa.select(alert_trigger_log).where(log.alert_id == alert_id)
    total = connection.scalar(sa.select(sa.func.count()).where(log.alert_id == alert_id)) or 0
    first = connection.execute(ours.order_by(log.created_at, log.id).limit(MOST_TRIGGERS // 2)).all()
    last = connection.execute(ours.order_by(log.created_at.desc(), log.id.desc()).limit(MOST_TRIGGERS // 2)).all()
    rows = {row.id: row for row in (*first, *reversed(last))}
    return total, [
        TriggerFact(
            id=row.id,
            at=row.created_at,
            alert_name=row.alert_name,
            source=row.source,
            severity=row.severity,
            outcome=Outcome(row.outcome),
            reason=row.outcome_reason,
            notify=row.notify,
            metrics=row.metrics_data,
            verdict=row.verdict,
        )
        for row in rows.values()
    ]


def _comments(connection: sa.Connection, alert_id: str) -> list[CommentFact]:
    c = alert_comment.c
    query = (
        sa.select(c.id, c.created_at, c.comment_type, c.content, c.created_by, c.metadata)
        .where(c.alert_id == alert_id, c.comment_type != "TRIGGER_EVENT")
        .order_by(c.created_at, c.id)
    )
    return [
        CommentFact(row.id, row.created_at, row.comment_type, row.content, row.created_by, row[5] or {})
        for row in connection.execute(query)
    ]


def _notifications(connection: sa.Connection, alert_id: str) -> list[NotificationFact]:
    n = notification.c
    query = (
        sa.select(n.id, n.created_at, n.channel_type, n.reason, n.status, n.sent_at, n.error_message)
        .where(n.alert_id == alert_id)
        .order_by(n.created_at, n.id)
    )
    return [
        NotificationFact(
            row.id,
            row.created_at,
            row.channel_type,
            row.reason,
            NotificationStatus(row.status),
            row.sent_at,
            row.error_message or "",
        )
        for row in connection.execute(query)
    ]


def _configs(
    connection: sa.Connection, account_id: str, alert_type: str, versions: set[Any]
) -> Mapping[int, Mapping[str, Any]]:
    v = alert_config_version.c
    query = sa.select(v.version, v.document).where(
        v.account_id == account_id, v.alert_type == alert_type, v.version.in_(versions)
    )
    return {row.version: row.document for row in connection.execute(query)} if versions else {}
