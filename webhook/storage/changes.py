"""What changed lately, for pages that follow along. Each function is one statement on an index."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from webhook.domain.alert import NotificationStatus
from webhook.storage.tables import alert, alert_dynamic, alert_trigger_log, notification


def changed_alerts(
    connection: sa.Connection, since: datetime, limit: int, *, accounts: frozenset[str] | None = None
) -> list[tuple[str, datetime]]:
    """Ids and times of alerts that changed at or after `since`, latest first."""
    dynamic = alert_dynamic.c
    statement = (
        sa.select(dynamic.alert_id, dynamic.updated_at)
        .where(dynamic.updated_at >= since)
        .order_by(dynamic.updated_at.desc())
        .limit(limit)
    )
    if accounts is not None:
        statement = statement.join(alert).where(alert.c.account_id.in_(sorted(accounts)))
    return [(row.alert_id, row.updated_at) for row in connection.execute(statement)]


def open_notifications(
    connection: sa.Connection, limit: int, *, accounts: frozenset[str] | None = None
) -> dict[str, tuple[str, str]]:
    """(alert id, state) by notification id of what is queued or being sent: what can still change."""
    columns = notification.c
    statement = (
        sa.select(columns.id, columns.alert_id, columns.status, columns.retry_count)
        .where(columns.status.in_([NotificationStatus.PENDING.value, NotificationStatus.SENDING.value]))
        .order_by(columns.not_before)
        .limit(limit)
    )
    if accounts is not None:
        statement = statement.where(columns.account_id.in_(sorted(accounts)))
    return {row.id: (row.alert_id, f"{row.status}/{row.retry_count}") for row in connection.execute(statement)}


def last_trigger_at(connection: sa.Connection, *, accounts: frozenset[str] | None = None) -> datetime | None:
    """When the newest trigger was logged; None for an empty log."""
    statement = sa.select(alert_trigger_log.c.created_at).order_by(alert_trigger_log.c.created_at.desc()).limit(1)
    if accounts is not None:
        statement = statement.where(alert_trigger_log.c.account_id.in_(sorted(accounts)))
    found: datetime | None = connection.scalar(statement)
    return found
