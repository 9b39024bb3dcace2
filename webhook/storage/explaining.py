"""What is stored about one alert, for its explanation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import NotificationStatus, Outcome
from webhook.domain.configuration import masked_document
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
    total, triggers, later = _triggers(connection, alert_id)
    versions = {trigger.verdict.get("config_version") for trigger in (*triggers, *later)} - {None}
    return AlertFacts(
        alert_id,
        found.account_id,
        found.alert_type,
        triggers,
        later,
        _comments(connection, alert_id),
        _notifications(connection, alert_id),
        _configs(connection, found.account_id, found.alert_type, versions),
        more_triggers=max(0, total - len(triggers) - len(later)),
    )


def _triggers(connection: sa.Connection, alert_id: str) -> tuple[int, list[TriggerFact], list[TriggerFact]]:
    """How many there are, and in the order in which they were decided: all, or the oldest and the newest ones."""
    log, half = alert_trigger_log.c, MOST_TRIGGERS // 2
    ours, order = sa.select(alert_trigger_log).where(log.alert_id == alert_id), (log.created_at, log.position, log.id)
    total = connection.scalar(sa.select(sa.func.count()).where(log.alert_id == alert_id)) or 0
    first = connection.execute(ours.order_by(*order).limit(half if total > MOST_TRIGGERS else MOST_TRIGGERS)).all()
    backwards = ours.order_by(*(column.desc() for column in order)).limit(half)
    last = connection.execute(backwards).all() if total > MOST_TRIGGERS else []
    return total, [_trigger(row) for row in first], [_trigger(row) for row in reversed(last)]


def _trigger(row: sa.Row[Any]) -> TriggerFact:
    return TriggerFact(
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
    """In the order in which they were decided: of one moment, the one that tells of fewer occurrences first."""
    n = notification.c
    columns = (n.id, n.created_at, n.channel_type, n.reason, n.status, n.sent_at, n.error_message, n.requested_by)
    further = (n.maybe_repeated, n.group_id)
    order = (n.created_at, n.content["occurrence_count"].as_integer(), n.priority, n.channel_type, n.id)
    query = sa.select(*columns, *further).where(n.alert_id == alert_id).order_by(*order)
    return [
        NotificationFact(
            row.id,
            row.created_at,
            row.channel_type,
            row.reason,
            NotificationStatus(row.status),
            row.sent_at,
            row.error_message or "",
            row.requested_by,
            row.maybe_repeated,
            row.group_id is not None,
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
    return {row.version: masked_document(row.document) for row in connection.execute(query)} if versions else {}
