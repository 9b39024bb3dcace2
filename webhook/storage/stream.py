"""Messages for the web app, numbered in the order in which they became visible to readers.

A number is given under a lock that is held until the commit. Without it PostgreSQL could commit number 8 before 7, and
a reader that has seen 8 and asks for what comes after it would never see 7. SQLite has one writer at a time anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from webhook.storage.web_tables import stream_event

KEPT = timedelta(days=3)
"""Who comes back later is told to load anew."""

_ORDER_LOCK = 0x53545245414D  # among PostgreSQL's advisory locks


@dataclass(frozen=True, slots=True)
class StreamEvent:
    position: int
    payload: Mapping[str, Any]


def publish(
    connection: sa.Connection, notification_id: str, account_id: str, payload: Mapping[str, Any], now: datetime
) -> datetime:
    """Make a message visible, once: one that is published already stays as it was. Return when it first was."""
    first: sa.Select[datetime] = sa.select(stream_event.c.created_at).where(
        stream_event.c.notification_id == notification_id
    )
    if (published := connection.scalar(first)) is not None:
        return published
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ORDER_LOCK)))
        if (published := connection.scalar(first)) is not None:  # by another worker, while the lock was waited for
            return published
    row = {"notification_id": notification_id, "account_id": account_id, "payload": dict(payload), "created_at": now}
    connection.execute(sa.insert(stream_event).values(row))
    return now


def last_position(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.max(stream_event.c.position))) or 0


def first_position(connection: sa.Connection) -> int:
    """Of what is kept; 0 when there never was anything, for the last message is always kept."""
    return connection.scalar(sa.select(sa.func.min(stream_event.c.position))) or 0


def position_at(connection: sa.Connection, since: datetime) -> int:
    """The place before whatever was published at `since` or later."""
    e = stream_event.c
    first: int | None = connection.scalar(sa.select(sa.func.min(e.position)).where(e.created_at >= since))
    return last_position(connection) if first is None else first - 1


def events_after(
    connection: sa.Connection, position: int, limit: int, accounts: frozenset[str] | None
) -> list[StreamEvent]:
    """What became visible after `position`, of `accounts` or all, oldest first."""
    e = stream_event.c
    query = sa.select(e.position, e.payload).where(e.position > position).order_by(e.position).limit(limit)
    if accounts is not None:
        query = query.where(e.account_id.in_(sorted(accounts)))
    return [StreamEvent(row.position, row.payload) for row in connection.execute(query)]


def forgotten(now: datetime) -> sa.Select[tuple[object]]:
    """Positions of old messages, but for the last: it tells whether a reader's place is too old."""
    e, last = stream_event.c, sa.select(sa.func.max(stream_event.c.position)).scalar_subquery()
    return sa.select(e.position).where(e.created_at < now - KEPT, e.position < last)
