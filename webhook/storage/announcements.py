"""Notification rows: written in the transaction of the decision, one per channel, claimed by the worker later."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.alert import AlertSession, NotificationStatus, NotifyReason
from webhook.domain.ledger import Announcement
from webhook.storage.tables import notification


def announcement_rows(announcement: Announcement, now: datetime) -> list[dict[str, Any]]:
    """What people are told of a trigger, as it stands at this moment."""
    trigger, session = announcement.trigger, announcement.session
    content = {
        **_state(session, announcement.reason),
        "merchant_name": trigger.merchant_name,
        "rule_summary": trigger.summary,
        "metrics": dict(trigger.metrics),
        "thresholds": dict(announcement.thresholds),
    }
    return [
        _row(session, announcement.reason, channel, {**content, "channel_settings": dict(settings)}, now)
        | {"comment_id": announcement.comment_id}
        for channel, settings in announcement.channels.items()
    ]


def announce_end(connection: sa.Connection, session: AlertSession, now: datetime) -> int:
    """Tell everyone who was told that the alert fired that it ended, whatever the limits; return how many are told.

    Each channel's last message is the base: it names the merchant, the thresholds and where it went.
    """
    told = (
        sa.select(notification.c.channel_type, notification.c.content)
        .where(
            notification.c.alert_id == session.alert_id,
            notification.c.status != NotificationStatus.FAILED.value,
            notification.c.reason != NotifyReason.RESOLVED.value,
        )
        .order_by(notification.c.created_at)
    )
    last = {row.channel_type: row.content for row in connection.execute(told)}
    state = _state(session, NotifyReason.RESOLVED)
    rows = [
        _row(session, NotifyReason.RESOLVED, channel, {**content, **state}, now) | {"comment_id": None}
        for channel, content in last.items()
    ]
    if rows:
        connection.execute(sa.insert(notification), rows)
    return len(rows)


def _state(session: AlertSession, reason: NotifyReason) -> dict[str, Any]:
    return {
        "severity": session.severity.value,
        "status": session.status.value,
        "reason": reason.value,
        "occurrence_count": session.occurrence_count,
        "first_triggered_at": session.first_triggered_at.isoformat(),
        "last_triggered_at": session.last_triggered_at.isoformat(),
        "resolved_at": session.resolved_at.isoformat() if session.resolved_at is not None else None,
    }


def _row(
    session: AlertSession, reason: NotifyReason, channel: str, content: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "alert_id": session.alert_id,
        "account_id": session.account_id,
        "alert_type": session.alert_type,
        "channel_type": channel,
        "status": NotificationStatus.PENDING.value,
        "reason": reason.value,
        "priority": session.severity.rank,
        "content": content,
        "metadata": {},
        "created_at": now,
        "not_before": now,
        "retry_count": 0,
    }
