"""Notification rows: written in the transaction of the decision, one per channel, claimed by the worker later."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from webhook.domain.alert import AlertSession, NotificationStatus, NotifyReason
from webhook.domain.ledger import Announcement
from webhook.domain.target import target_of
from webhook.domain.text_message import HELD, held_until


def announcement_rows(announcement: Announcement, now: datetime) -> list[dict[str, Any]]:
    """What people are told of a trigger, as it stands at this moment."""
    trigger, session = announcement.trigger, announcement.session
    content = {
        **state_of(session, announcement.reason),
        "merchant_name": trigger.merchant_name,
        "rule_summary": trigger.summary,
        "runbook_url": trigger.annotations.get("runbook_url", ""),
        "rule_description": trigger.annotations.get("description", ""),
        "metrics": dict(trigger.metrics),
        "thresholds": dict(announcement.thresholds),
        "operators": dict(announcement.operators),
    }
    return [
        notification_row(
            session,
            announcement.reason,
            channel,
            {**content, "channel_settings": dict(settings)},
            comment_id=announcement.comment_id,
            now=now,
        )
        for channel, settings in announcement.channels.items()
    ]


def state_of(session: AlertSession, reason: NotifyReason) -> dict[str, Any]:
    """What a message tells of the session as it stands."""
    return {
        "severity": session.severity.value,
        "status": session.status.value,
        "reason": reason.value,
        "occurrence_count": session.occurrence_count,
        "first_triggered_at": session.first_triggered_at.isoformat(),
        "last_triggered_at": session.last_triggered_at.isoformat(),
        "resolved_at": session.resolved_at.isoformat() if session.resolved_at is not None else None,
    }


def notification_row(
    session: AlertSession,
    reason: NotifyReason,
    channel: str,
    content: Mapping[str, Any],
    *,
    comment_id: str | None,
    now: datetime,
) -> dict[str, Any]:
    """One message on one channel, due at once or when the quiet hours of its channel end."""
    held = held_until(content.get("channel_settings") or {}, session.severity, now)
    return {
        "id": str(uuid4()),
        "alert_id": session.alert_id,
        "comment_id": comment_id,
        "account_id": session.account_id,
        "alert_type": session.alert_type,
        "channel_type": channel,
        "target": target_of(channel, content.get("channel_settings") or {}),
        "status": NotificationStatus.PENDING.value,
        "reason": reason.value,
        "priority": session.severity.rank,
        "content": content,
        "metadata": {},
        "created_at": now,
        "not_before": held or now,
        "retry_count": 0,
        "error_message": HELD if held else None,
    }
