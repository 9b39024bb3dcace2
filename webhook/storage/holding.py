"""Messages that quiet hours or the limit of a number hold back.

Of each alert and channel the last alone is kept, and none of an attack that is over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.alert import CommentType, NotificationStatus, NotifyReason
from webhook.domain.text_message import HELD, LIMITED
from webhook.storage.tables import alert_comment, notification

_HELD = sa.and_(
    notification.c.status == NotificationStatus.PENDING.value,
    notification.c.error_message.in_((HELD, LIMITED)),
    notification.c.reason != NotifyReason.DIGEST.value,  # it tells of other alerts too
)

_BY = {HELD: "quiet hours", LIMITED: "the limit of its number"}


def replace_held(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows that are about to be written take the place of what is held back; they must not wait behind it."""
    n = notification.c
    digest = NotifyReason.DIGEST.value
    pairs = {(row["alert_id"], row["channel_type"]) for row in rows if row["reason"] != digest}
    place = sa.tuple_(n.alert_id, n.channel_type)
    if pairs:
        connection.execute(sa.delete(notification).where(_HELD, place.in_(sorted(pairs))))


def drop_held(connection: sa.Connection, alert_ids: Collection[str], now: datetime) -> None:
    """These alerts are over: who has heard nothing of one yet hears nothing; the alert's history says so."""
    n = notification.c
    waiting = sa.select(n.id, n.alert_id, n.channel_type, n.error_message).where(_HELD, n.alert_id.in_(alert_ids))
    rows = connection.execute(waiting).all()
    if not rows:
        return
    connection.execute(sa.delete(notification).where(n.id.in_([row.id for row in rows]), _HELD))
    told = [
        {
            "id": str(uuid4()),
            "alert_id": row.alert_id,
            "comment_type": CommentType.SYSTEM_LOG.value,
            "content": f"The message on {row.channel_type} that {_BY[row.error_message]} held back was dropped: "
            "the attack is over",
            "metrics_snapshot": {},
            "metadata": {"dropped": row.channel_type},
            "created_at": now,
        }
        for row in rows
    ]
    connection.execute(sa.insert(alert_comment), told)
