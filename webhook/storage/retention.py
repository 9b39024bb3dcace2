"""What is forgotten, and when: each kind of row has its own age, and goes a bounded batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, AlertTypes, NotificationStatus, TriggerStatus
from webhook.storage.access_tables import audit_log
from webhook.storage.database import LONG, Database, allow
from webhook.storage.delivery_tables import digest, model_tokens, pace
from webhook.storage.push import old_deliveries, without_credential
from webhook.storage.repeats import KEPT
from webhook.storage.stream import forgotten
from webhook.storage.tables import (
    alert,
    alert_config_version,
    alert_dynamic,
    alert_flapping,
    alert_instance,
    alert_template,
    alert_trigger_log,
    handled_request,
    notification,
)
from webhook.storage.transactions import transaction
from webhook.storage.web_tables import push_delivery, push_subscription, stream_event

_DAY = timedelta(days=1)
BATCH = 1000
"""Rows deleted in one transaction: few enough that a delivery does not wait for it."""

NEWEST_VERSIONS = 20
"""Of the settings of one merchant and type, and of the template of one type: kept however old they are."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept: closed alerts with their comments, messages and triggers; and who changed what.

    `versions`: what settings and templates were before, of which the newest are always kept.
    """

    alerts: timedelta
    audit: timedelta
    versions: timedelta = timedelta(days=730)


class Purge:
    """Deletes what is older than its retention, and what nobody asks for any more.

    That is old answers, steady conditions, limits and counts of days gone by, and subscriptions of those who may not
    come in any more.

    Kept are alerts that are active, that still fire although a person closed them (what fires on would open a new
    one), or that have messages still to go out.
    """

    def __init__(self, database: Database, retention: Retention, alert_types: AlertTypes) -> None:
        self._database = database
        self._retention = retention
        self._alert_types = alert_types

    def run_once(self, now: datetime) -> dict[str, int]:
        """Delete one batch of each kind; return how many rows of each table went, their alerts' own rows aside."""
        return {table.name: self._delete(table, which) for table, which in self._old(now)}

    def _old(self, now: datetime) -> list[tuple[sa.Table, sa.Select[tuple[object]]]]:
        """Tables with a query for the keys of their old rows; triggers first, for they only lose their alert."""
        alerts = now - self._retention.alerts
        i, audit, answers = alert_instance.c, audit_log.c, handled_request.c
        ended = sa.and_(i.status == TriggerStatus.RESOLVED.value, i.resolved_at < alerts)
        return [
            (alert_trigger_log, sa.select(alert_trigger_log.c.id).where(alert_trigger_log.c.created_at < alerts)),
            (alert_instance, sa.select(i.fingerprint, i.starts_at).where(ended)),
            (alert, _closed(alerts)),
            (audit_log, sa.select(audit.id).where(audit.created_at < now - self._retention.audit)),
            *((table, self._former(table, now)) for table in (alert_config_version, alert_template)),
            (handled_request, sa.select(answers.credential, answers.request_id).where(answers.created_at < now - KEPT)),
            (alert_flapping, self._steady(now)),
            (stream_event, forgotten(now)),
            (pace, sa.select(pace.c.target).where(pace.c.free_at < now - _DAY)),
            (digest, sa.select(digest.c.account_id).where(digest.c.told_at < now - 30 * _DAY)),
            (model_tokens, sa.select(model_tokens.c.day).where(model_tokens.c.day < (now - 30 * _DAY).date())),
            (push_subscription, without_credential(now)),
            (push_delivery, old_deliveries(now)),
        ]

    def _steady(self, now: datetime) -> sa.Select[tuple[object]]:
        """Conditions that do not flap and have not started again for the longest window."""
        windows = (kind.flapping_window for kind in (self._alert_types.default, *self._alert_types.by_type.values()))
        f = alert_flapping.c
        return sa.select(f.condition_fingerprint).where(f.updated_at < now - max(windows), f.flapping_since.is_(None))

    def _former(self, table: sa.Table, now: datetime) -> sa.Select[tuple[object]]:
        """Old versions of settings or templates, but for the newest of each and what an alert still names."""
        of = [table.c[name] for name in ("account_id", "alert_type") if name in table.c]
        newness = sa.func.row_number().over(partition_by=of, order_by=table.c.version.desc()).label("newness")
        every = sa.select(table.c.id, table.c.created_at, newness).subquery()
        old = sa.select(every.c.id).where(
            every.c.created_at < now - self._retention.versions, every.c.newness > NEWEST_VERSIONS
        )
        if table is alert_template:
            active = sa.select(table.c.id).where(table.c.is_active)
            return old.where(every.c.id.not_in(active), ~sa.exists().where(alert.c.template_id == every.c.id))
        return old

    def _delete(self, table: sa.Table, which: sa.Select[tuple[object]]) -> int:
        keys = list(table.primary_key.columns)
        key = keys[0] if len(keys) == 1 else sa.tuple_(*keys)
        with transaction(self._database) as connection:
            allow(connection, LONG)
            return connection.execute(sa.delete(table).where(key.in_(which.limit(BATCH)))).rowcount


def _closed(before: datetime) -> sa.Select[tuple[object]]:
    """Alerts closed `before`, with nothing left to send and no instance that was heard to be firing since."""
    d, i, n = alert_dynamic.c, alert_instance.c, notification.c
    unsent = sa.exists().where(
        n.alert_id == d.alert_id,
        n.status.in_([NotificationStatus.PENDING.value, NotificationStatus.SENDING.value]),
    )
    firing = sa.exists().where(
        i.alert_id == d.alert_id, i.status == TriggerStatus.FIRING.value, i.last_heard_at >= before
    )
    return sa.select(d.alert_id).where(d.status != AlertStatus.ACTIVE.value, d.resolved_at < before, ~unsent, ~firing)
