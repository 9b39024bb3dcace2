"""What providers tell later: that a message arrived, or that it could not be delivered after all.

Both may come before the worker has recorded that it was sent; `Outbox.record_sent` then finds them in the row.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import NotificationStatus
from webhook.storage.database import Database
from webhook.storage.tables import notification
from webhook.storage.transactions import transaction

BOUNCED = "bounced"
"""In `metadata`: why the provider could not deliver what is still being recorded as sent."""

_SENDING, _SENT = NotificationStatus.SENDING.value, NotificationStatus.SENT.value
_LONGEST_ERROR = 1000


class Receipts:
    """Messages are found by our own id, which a provider is given with the address that it calls back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record_delivered(self, notification_id: str, at: datetime) -> bool:
        """SENT becomes DELIVERED; again changes nothing. False where no such message was sent."""
        delivered_at = notification.c.delivered_at
        arrived: dict[str, object] = {"delivered_at": sa.func.coalesce(delivered_at, sa.literal(at, delivered_at.type))}
        with transaction(self._database) as connection:
            found = _find(connection, notification_id)
            if found is None or found.status == NotificationStatus.FAILED.value:
                return False
            if found.status == _SENT:
                arrived["status"] = NotificationStatus.DELIVERED.value
            told = sa.or_(notification.c.id == found.id, notification.c.group_id == found.id)
            connection.execute(
                sa.update(notification).where(told, notification.c.status == found.status).values(arrived)
            )
            return True

    def record_bounced(self, notification_id: str, error: str, at: datetime) -> bool:
        """SENT becomes FAILED, a dead letter that can be replayed; what was delivered stays so.

        False where no such message was sent. `error` is shown to people and holds no secret.
        """
        error = error[:_LONGEST_ERROR]
        with transaction(self._database) as connection:
            found = _find(connection, notification_id)
            if found is None or found.status == NotificationStatus.FAILED.value:
                return False
            told = sa.or_(notification.c.id == found.id, notification.c.group_id == found.id)
            update = sa.update(notification).where(told, notification.c.status == found.status)
            if found.status == _SENDING:
                connection.execute(update.values({"metadata": {**found.metadata, BOUNCED: error}}))
            elif found.status == _SENT:
                failed = NotificationStatus.FAILED.value
                connection.execute(update.values(status=failed, failed_at=at, error_message=error))
            return True


def _find(connection: sa.Connection, notification_id: str) -> sa.Row[Any, Any, Any] | None:
    """Under its lock; of what was never handed to a provider nothing can be said."""
    n = notification.c
    handed_over = n.status != NotificationStatus.PENDING.value
    query = sa.select(n.id, n.status, n.metadata).where(n.id == notification_id, handed_over)
    return connection.execute(query.with_for_update()).first()
