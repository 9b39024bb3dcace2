"""How each channel has fared lately, by what the outbox has recorded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from webhook.domain.alert import NotificationStatus
from webhook.storage.tables import notification

LATELY = timedelta(days=1)
_WAITING = (NotificationStatus.PENDING.value, NotificationStatus.SENDING.value)
_FAILED = NotificationStatus.FAILED.value


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """Times and errors of messages decided within LATELY; `waiting` and `dead_letters` of any age."""

    last_sent_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_error: str = ""
    waiting: int = 0
    dead_letters: int = 0


def channel_health(connection: sa.Connection, now: datetime) -> dict[str, ChannelHealth]:
    """By channel; those of which there is nothing are left out."""
    n = notification.c
    lately = connection.execute(
        sa.select(n.channel_type, sa.func.max(n.sent_at).label("sent"), sa.func.max(n.failed_at).label("failed"))
        .where(n.created_at > now - LATELY)
        .group_by(n.channel_type)
    ).all()
    depth = connection.execute(
        sa.select(n.channel_type, n.status, sa.func.count().label("number"))
        .where(n.status.in_((*_WAITING, _FAILED)))
        .group_by(n.channel_type, n.status)
    ).all()
    errors = {row.channel_type: _last_error(connection, row.channel_type, row.failed) for row in lately if row.failed}
    times = {row.channel_type: row for row in lately}
    counts = {(row.channel_type, row.status): row.number for row in depth}
    return {
        channel: ChannelHealth(
            last_sent_at=times[channel].sent if channel in times else None,
            last_failed_at=times[channel].failed if channel in times else None,
            last_error=errors.get(channel, ""),
            waiting=sum(counts.get((channel, status), 0) for status in _WAITING),
            dead_letters=counts.get((channel, _FAILED), 0),
        )
        for channel in sorted({*times, *(channel for channel, _ in counts)})
    }


def _last_error(connection: sa.Connection, channel: str, failed_at: datetime) -> str:
    n = notification.c
    query = sa.select(n.error_message).where(n.status == _FAILED, n.channel_type == channel, n.failed_at == failed_at)
    return connection.scalars(query.limit(1)).first() or ""
