"""What is forgotten, and when: each kind of row has its own age, and goes a bounded batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotificationStatus, TriggerStatus
from webhook.storage.database import Database
from webhook.storage.tables import (
    alert,
    alert_dynamic,
    alert_instance,
    alert_trigger_log,
    audit_log,
    notification,
)
from webhook.storage.transactions import transaction

BATCH = 1000
"""Rows deleted in one transaction: few enough that a delivery does not wait for it."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept: closed alerts with their comments, messages and triggers; and who changed what."""

    alerts: timedelta
    audit: timedelta


class Purge:
    """Deletes what is older than its retention. Active alerts, and messages that are still to go out, are kept."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database = database
        self._retention = retention

    def run_once(self, now: datetime) -> dict[str, int]:
        """Delete one batch of each kind; return how many rows of each table went, their alerts' own rows aside."""
        return {table.name: self._delete(table, which) for table, which in self._old(now)}

    def _old(self, now: datetime) -> list[tuple[sa.Table, sa.Select[tuple[object]]]]:
        """Tables with a query for the keys of their old rows; triggers first, for they only lose their alert."""
        alerts = now - self._retention.alerts
        d, i = alert_dynamic.c, alert_instance.c
        unsent = sa.exists().where(
            notification.c.alert_id == d.alert_id,
            notification.c.status.in_([NotificationStatus.PENDING.value, NotificationStatus.SENDING.value]),
        )
        closed = sa.and_(d.status != AlertStatus.ACTIVE.value, d.resolved_at < alerts, ~unsent)
        ended = sa.and_(i.status == TriggerStatus.RESOLVED.value, i.resolved_at < alerts)
        return [
            (alert_trigger_log, sa.select(alert_trigger_log.c.id).where(alert_trigger_log.c.created_at < alerts)),
            (alert_instance, sa.select(i.fingerprint, i.starts_at).where(ended)),
            (alert, sa.select(d.alert_id).where(closed)),
            (audit_log, sa.select(audit_log.c.id).where(audit_log.c.created_at < now - self._retention.audit)),
        ]

    def _delete(self, table: sa.Table, which: sa.Select[tuple[object]]) -> int:
        keys = list(table.primary_key.columns)
        key = keys[0] if len(keys) == 1 else sa.tuple_(*keys)
        with transaction(self._database) as connection:
            return connection.execute(sa.delete(table).where(key.in_(which.limit(BATCH)))).rowcount
