"""The alert store: a delivery is read, decided and written in one transaction, with statements over the whole set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import sqlalchemy as sa

from webhook.domain.alert import AlertSession, SessionStatus, Trigger, TriggerStatus
from webhook.domain.ledger import Changes, IngestSettings, Known, Received
from webhook.domain.occurrence import Delivery, classify
from webhook.ports import FrequencyPlaces, RepeatableRequest
from webhook.storage.config_rows import read_configs
from webhook.storage.database import Database
from webhook.storage.flapping import read_flapping
from webhook.storage.frequency import decide_within_limits, read_notified, taking_places
from webhook.storage.recording import record
from webhook.storage.repeats import keep_answer, look_up
from webhook.storage.sessions import lock_active_sessions, read_instances, read_last_passed
from webhook.storage.transactions import transaction


class AlertStore:
    """What the pipeline writes to. Failures come as StoreConflict or StoreUnavailable."""

    def __init__(self, database: Database, places: FrequencyPlaces | None = None) -> None:
        """`places`: who else than the database says whose message is within the frequency limits."""
        self._database = database
        self._places = places

    def ingest(
        self,
        delivery: Sequence[Received],
        settings: IngestSettings,
        now: datetime,
        decide: Callable[[Known], Changes],
        request: RepeatableRequest | None = None,
    ) -> Changes:
        """Read what is known of the alerts, decide, write; all of it or nothing."""
        with taking_places(self._places) as places, transaction(self._database) as connection:
            if request is not None:
                look_up(connection, request)
            known = _read(connection, delivery, settings, now)
            changes = decide_within_limits(connection, places, known, decide, now)
            record(connection, changes, now)
            if request is not None:
                keep_answer(connection, request, changes, now)
        return changes


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
    judged = {(trigger.account_id, trigger.alert_type) for trigger, _ in deliveries}
    counted = {(t.account_id, t.alert_type) for t, delivery in deliveries if delivery is Delivery.COUNTED}
    attacking, flapping = read_flapping(connection, conditions, settings.types, now) if counted else ({}, {})
    quiet = [session.alert_id for session in sessions.values() if _quiet(session, settings, now)]
    return Known(
        sessions=sessions,
        instances=instances,
        last_passed=read_last_passed(connection, quiet) if quiet else {},
        configs=read_configs(connection, judged) if judged else {},
        notified=read_notified(connection, counted, now) if counted else {},
        attacking=attacking,
        flapping=flapping,
    )


def _quiet(session: AlertSession, settings: IngestSettings, now: datetime) -> bool:
    """Only of these does it matter when their instances last passed."""
    active = session.session_status is SessionStatus.ACTIVE
    return active and now - session.session_last_active >= settings.types[session.alert_type].session_timeout
