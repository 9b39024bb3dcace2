"""How each channel has fared lately, by what the outbox has recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import NotificationStatus
from webhook.storage.delivery_tables import pace
from webhook.storage.queries import within
from webhook.storage.tables import notification

LATELY = timedelta(days=1)
_PENDING, _SENDING = NotificationStatus.PENDING.value, NotificationStatus.SENDING.value
_WAITING = (_PENDING, _SENDING)
_FAILED = NotificationStatus.FAILED.value


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """Times and errors of messages decided within LATELY; `waiting`, `retrying` and `dead_letters` of any age.

    `retry_error`: what went wrong with one of those that are tried again. `paused_until`: when the last place is free
    again for which messages wait because its provider asked for that.
    """

    last_sent_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_error: str = ""
    waiting: int = 0
    dead_letters: int = 0
    retrying: int = 0
    retry_error: str = ""
    paused_until: datetime | None = None


def channel_health(
    connection: sa.Connection, now: datetime, accounts: frozenset[str] | None = None
) -> dict[str, ChannelHealth]:
    """By channel, of messages to `accounts` alone, None: to all; those of which there is nothing are left out."""
    n, own = notification.c, within(notification.c.account_id, accounts)
    lately = (
        sa.select(n.channel_type, sa.func.max(n.sent_at).label("sent"), sa.func.max(n.failed_at).label("failed"))
        .where(n.created_at > now - LATELY, *own)
        .group_by(n.channel_type)
    )
    times = {row.channel_type: row for row in connection.execute(lately)}
    depth = _depth(connection, own)
    counts = {(row.channel_type, row.status): row.number for row in depth}
    again = {row.channel_type: row.again for row in depth if row.status == _PENDING and row.again}
    errors = {
        channel: _error(connection, own, n.channel_type == channel, n.status == _FAILED, n.failed_at == row.failed)
        for channel, row in times.items()
        if row.failed
    }
    trouble = {
        channel: _error(connection, own, n.channel_type == channel, n.status == _PENDING, n.retry_count > 0)
        for channel in again
    }
    pauses = _pauses(connection, now, own)
    return {
        channel: ChannelHealth(
            last_sent_at=times[channel].sent if channel in times else None,
            last_failed_at=times[channel].failed if channel in times else None,
            last_error=errors.get(channel, ""),
            waiting=sum(counts.get((channel, status), 0) for status in _WAITING),
            dead_letters=counts.get((channel, _FAILED), 0),
            retrying=again.get(channel, 0),
            retry_error=trouble.get(channel, ""),
            paused_until=pauses.get(channel),
        )
        for channel in sorted({*times, *(channel for channel, _ in counts)})
    }


def _depth(connection: sa.Connection, own: Sequence[sa.ColumnElement[bool]]) -> Sequence[sa.Row[Any]]:
    """How many wait or were given up, by channel and status; `again`: of these, who was tried before."""
    n = notification.c
    query = sa.select(
        n.channel_type,
        n.status,
        sa.func.count().label("number"),
        sa.func.sum(sa.case((n.retry_count > 0, 1), else_=0)).label("again"),
    )
    waiting = query.where(n.status.in_((*_WAITING, _FAILED)), *own)
    return connection.execute(waiting.group_by(n.channel_type, n.status)).all()


def _error(connection: sa.Connection, own: list[sa.ColumnElement[bool]], *which: sa.ColumnElement[bool]) -> str:
    n = notification.c
    query = sa.select(n.error_message).where(*which, n.error_message.is_not(None), *own)
    return connection.scalars(query.order_by(n.not_before.desc()).limit(1)).first() or ""


def _pauses(connection: sa.Connection, now: datetime, own: list[sa.ColumnElement[bool]]) -> dict[str, datetime]:
    """A place to which something is being sent is taken for that long, which is no pause."""
    n, sending = notification.c, notification.alias("sending").c
    taken = sa.exists().where(sending.target == n.target, sending.status == _SENDING)
    query: sa.Select[Any] = (
        sa.select(n.channel_type, sa.func.max(pace.c.free_at).label("until"))
        .join(pace, pace.c.target == n.target)
        .where(n.status == _PENDING, pace.c.free_at > now, ~taken, *own)
        .group_by(n.channel_type)
    )
    return {row.channel_type: row.until for row in connection.execute(query)}
