"""Messages that were given up: sent once more, or discarded. Each change is audited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from webhook.domain.action import Doing
from webhook.domain.alert import AlertStatus, NotificationStatus
from webhook.storage.audit import audit_row
from webhook.storage.database import Database
from webhook.storage.queries import notification_conditions
from webhook.storage.records import NotificationFilter
from webhook.storage.tables import alert_dynamic, audit_log, notification
from webhook.storage.transactions import transaction

_FAILED, _PENDING = NotificationStatus.FAILED.value, NotificationStatus.PENDING.value
_TOLD = (notification.c.id, notification.c.account_id, notification.c.alert_id)


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
            .returning(*_TOLD)
        )
        return self._change(again, "dead_letters_replayed", doing)

    def discard(self, wanted: NotificationFilter, doing: Doing, notification_id: str | None = None) -> int:
        """Delete all that match, or one; return how many."""
        gone = sa.delete(notification).where(*_matching(wanted, notification_id)).returning(*_TOLD)
        return self._change(gone, "dead_letters_discarded", doing)

    def _change(self, statement: sa.UpdateBase, action: str, doing: Doing) -> int:
        with transaction(self._database) as connection:
            changed = connection.execute(statement).all()
            if changed:
                connection.execute(sa.insert(audit_log), _audits(changed, action, doing))
            return len(changed)


def _audits(changed: Sequence[sa.Row[Any]], action: str, doing: Doing) -> list[dict[str, Any]]:
    """One row for each alert, so that its merchant sees it."""
    of_alert: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in changed:
        of_alert[row.account_id, row.alert_id].append(row.id)
    by = replace(doing.by, name=doing.actor)
    return [
        audit_row(
            by, action, doing.now, account_id=account_id, alert_id=alert_id,
            details={"count": len(ids), "notification_ids": ids},
        )
        for (account_id, alert_id), ids in of_alert.items()
    ]  # fmt: skip


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
