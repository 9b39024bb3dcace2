"""The alert store: a delivery is read, decided and written in one transaction, with statements over the whole set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import AlertSession, AlertStatus, NotifyReason, SessionStatus, Trigger, TriggerStatus
from webhook.domain.ledger import Changes, IngestSettings, Known, Received
from webhook.domain.occurrence import Delivery, classify
from webhook.domain.session import closed
from webhook.domain.throttle import LONGEST_WINDOW
from webhook.ports import AlertNotFound
from webhook.storage.closing import Closing, close_alerts
from webhook.storage.config_rows import read_configs
from webhook.storage.database import Database
from webhook.storage.recording import record
from webhook.storage.sessions import lock_active_sessions, lock_sessions, read_instances, read_last_passed
from webhook.storage.tables import alert_dynamic, notification
from webhook.storage.transactions import transaction


class AlertStore:
    """What the pipeline writes to. Failures come as StoreConflict or StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ingest(
        self,
        delivery: Sequence[Received],
        settings: IngestSettings,
        now: datetime,
        decide: Callable[[Known], Changes],
    ) -> Changes:
        """Read what is known of the alerts, decide, write; all of it or nothing."""
        with transaction(self._database) as connection:
            changes = decide(_read(connection, delivery, settings, now))
            record(connection, changes, now)
        return changes

    def close(
        self, alert_id: str, status: AlertStatus, *, note: str, actor: str, authenticated_as: str, now: datetime
    ) -> AlertSession:
        """A person resolves or dismisses one alert; raise AlertNotFound or IllegalChange."""
        with transaction(self._database) as connection:
            found = lock_sessions(connection, alert_dynamic.c.alert_id == alert_id)
            if not found:
                raise AlertNotFound(alert_id)
            after = closed(found[0], status, now)
            close_alerts(connection, [after], Closing(status, note, actor, authenticated_as, now))
            return after


def _read(connection: sa.Connection, delivery: Sequence[Received], settings: IngestSettings, now: datetime) -> Known:
    """Sessions first, under lock: what is read after them is what the last writer of the same alert left."""
    triggers = [received.item for received in delivery if isinstance(received.item, Trigger)]
    if not triggers:
        return Known()
    conditions = sorted({received.condition for received in delivery if received.condition})
    sessions = lock_active_sessions(connection, conditions)
    instances = read_instances(connection, (trigger.key for trigger in triggers))
    deliveries = [
        (trigger, classify(instances.get(trigger.key), settings.types[trigger.alert_type], now)[0])
        for trigger in triggers
        if trigger.status is TriggerStatus.FIRING
    ]
    judged = {(t.account_id, t.alert_type) for t, delivery in deliveries if delivery is not Delivery.STALE}
    counted = {(t.account_id, t.alert_type) for t, delivery in deliveries if delivery is Delivery.COUNTED}
    quiet = [session.alert_id for session in sessions.values() if _quiet(session, settings, now)]
    return Known(
        sessions=sessions,
        instances=instances,
        last_passed=read_last_passed(connection, quiet) if quiet else {},
        configs=read_configs(connection, judged) if judged else {},
        notified=_read_notified(connection, counted, now) if counted else {},
    )


def _quiet(session: AlertSession, settings: IngestSettings, now: datetime) -> bool:
    """Only of these does it matter when their instances last passed."""
    active = session.session_status is SessionStatus.ACTIVE
    return active and now - session.session_last_active >= settings.types[session.alert_type].session_timeout


def _read_notified(
    connection: sa.Connection, keys: set[tuple[str, str]], now: datetime
) -> dict[tuple[str, str], list[datetime]]:
    """When people were told, one time per decision however many channels it took; ends are not counted."""
    asked = {
        "accounts": sorted({account for account, _ in keys}),
        "alert_types": sorted({alert_type for _, alert_type in keys}),
        "since": now - LONGEST_WINDOW,
    }
    notified: dict[tuple[str, str], list[datetime]] = {}
    for account_id, alert_type, _, created_at in connection.execute(_notified(), asked):
        notified.setdefault((account_id, alert_type), []).append(created_at)
    return notified


@cache
def _notified() -> sa.Select[Any]:
    n = notification.c
    return (
        sa.select(n.account_id, n.alert_type, n.alert_id, n.created_at)
        .where(
            n.account_id.in_(sa.bindparam("accounts", expanding=True)),
            n.alert_type.in_(sa.bindparam("alert_types", expanding=True)),
            n.created_at > sa.bindparam("since", type_=n.created_at.type),
            n.reason != NotifyReason.RESOLVED.value,
        )
        .distinct()
    )
