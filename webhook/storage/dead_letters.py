"""Messages that were given up: sent once more, or discarded. Each change is audited."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from webhook.domain.action import Doing
from webhook.domain.alert import AlertStatus, NotificationStatus
from webhook.storage.audit import record_audit
from webhook.storage.database import Database
from webhook.storage.queries import notification_conditions
from webhook.storage.records import NotificationFilter
from webhook.storage.tables import alert_dynamic, notification
from webhook.storage.transactions import transaction

_FAILED, _PENDING = NotificationStatus.FAILED.value, NotificationStatus.PENDING.value
_NAMED = 100
"""How many ids the audit log names of one change."""


class DeadLetters:
    def __init__(self, database: Database) -> None:
        self._database = database

    def replay(self, wanted: NotificationFilter, doing: Doing, notification_id: str | None = None) -> int:
        """Queue all that match, or one; return how many. Those of dismissed alerts stay: nobody is told of these."""
        n = notification.c
        dismissed = sa.exists().where(
            alert_dynamic.c.alert_id == n.alert_id, alert_dynamic.c.status == AlertStatus.DISMISSED.value
        )
        again = (
            sa.update(notification)
            .where(*_matching(wanted, notification_id), ~dismissed)
            .values(**_as_new(doing.now), requested_by=doing.actor)
            .returning(n.id)
        )
        return self._change(again, "dead_letters_replayed", doing)

    def discard(self, wanted: NotificationFilter, doing: Doing, notification_id: str | None = None) -> int:
        """Delete all that match, or one; return how many."""
        gone = sa.delete(notification).where(*_matching(wanted, notification_id)).returning(notification.c.id)
        return self._change(gone, "dead_letters_discarded", doing)

    def _change(self, statement: sa.UpdateBase, action: str, doing: Doing) -> int:
        with transaction(self._database) as connection:
            ids = [row[0] for row in connection.execute(statement)]
            if ids:
                details = {"count": len(ids), "notification_ids": ids[:_NAMED]}
                record_audit(connection, replace(doing.by, name=doing.actor), action, now=doing.now, details=details)
            return len(ids)


def _matching(wanted: NotificationFilter, notification_id: str | None) -> list[sa.ColumnElement[bool]]:
    one = [notification.c.id == notification_id] if notification_id is not None else []
    return [notification.c.status == _FAILED, *notification_conditions(wanted), *one]


def _as_new(now: datetime) -> dict[str, object]:
    return {
        "status": _PENDING,
        "not_before": now,
        "failed_at": None,
        "error_message": None,
        "retry_count": 0,
        "lost_leases": 0,
    }
