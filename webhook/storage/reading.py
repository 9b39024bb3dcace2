"""What the store knows about the alerts of one delivery, read under the locks that it takes.

What is repeated, suppressed or at its end concerns no session, and is most of what comes: of that only the instances
are read and locked. Sessions are locked where something counts, and then before the instances, as everybody does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from webhook.domain.alert import AlertSession, Instance, SessionStatus, Trigger, TriggerStatus
from webhook.domain.ledger import IngestSettings, Known, Received, judge
from webhook.domain.occurrence import Delivery, classify
from webhook.storage.config_rows import read_configs
from webhook.storage.flapping import read_flapping
from webhook.storage.frequency import read_notified
from webhook.storage.sessions import lock_active_sessions, lock_instances, read_last_passed

Sessions = Mapping[str, AlertSession]
Instances = Mapping[tuple[str, datetime], Instance]


class SessionsFirst(Exception):  # noqa: N818 - says what is to be done
    """Sessions are needed; who has locked instances must not wait for them: `counting` reads in a new transaction."""


class Reading:
    """The reading of one delivery, in a transaction of its own each time."""

    def __init__(self, delivery: Sequence[Received], settings: IngestSettings, now: datetime) -> None:
        self._settings = settings
        self._now = now
        self._received = [(received, received.item) for received in delivery if isinstance(received.item, Trigger)]
        self._keys = {trigger.key for _, trigger in self._received}
        self._conditions = sorted({received.condition for received, _ in self._received})

    def quiet(self, connection: sa.Connection) -> Known:
        """Without sessions; raise SessionsFirst where something counts."""
        if not self._received:
            return Known()
        known = self._judging(connection, lock_instances(connection, self._keys))
        counted = self._counted(known)
        if not counted:
            return known
        if connection.dialect.name == "sqlite":  # it lets one writer in at a time: nothing to wait for
            return self._counting(connection, known, counted, lock_active_sessions(connection, self._conditions))
        if known.instances:
            raise SessionsFirst
        return self.counting(connection)

    def counting(self, connection: sa.Connection) -> Known:
        """With sessions; what is read after them is what the last writer of the same alert left."""
        sessions = lock_active_sessions(connection, self._conditions)
        known = self._judging(connection, lock_instances(connection, self._keys))
        return self._counting(connection, known, self._counted(known), sessions)

    def _judging(self, connection: sa.Connection, instances: Instances) -> Known:
        """What verdicts need: instances, and the configurations of all that is judged."""
        judged = {
            (trigger.account_id, trigger.alert_type)
            for _, trigger in self._received
            if trigger.status is TriggerStatus.FIRING
        }
        return Known(instances=instances, configs=read_configs(connection, judged) if judged else {})

    def _delivered(self, trigger: Trigger, instances: Instances) -> Delivery:
        """An end counts no more than what is stale."""
        if trigger.status is TriggerStatus.RESOLVED:
            return Delivery.STALE
        return classify(instances.get(trigger.key), self._settings.types[trigger.alert_type], self._now)[0]

    def _counted(self, known: Known) -> set[tuple[str, str]]:
        """Account and type of what counts and passes."""
        found = set()
        for received, trigger in self._received:
            if self._delivered(trigger, known.instances) is Delivery.COUNTED:
                key = trigger.account_id, trigger.alert_type
                if key not in found and judge(known.configs.get(key), received.own, trigger).passed:
                    found.add(key)
        return found

    def _counting(
        self, connection: sa.Connection, known: Known, counted: set[tuple[str, str]], sessions: Sessions
    ) -> Known:
        """With all that an occurrence needs."""
        if not counted:
            return replace(known, sessions=sessions)
        quiet = [session.alert_id for session in sessions.values() if self._is_quiet(session)]
        attacking, flapping = read_flapping(connection, self._conditions, self._settings.types, self._now)
        return replace(
            known,
            sessions=sessions,
            last_passed=read_last_passed(connection, quiet) if quiet else {},
            notified=read_notified(connection, counted, self._now),
            attacking=attacking,
            flapping=flapping,
        )

    def _is_quiet(self, session: AlertSession) -> bool:
        """Only of these does it matter when their instances last passed."""
        timeout = self._settings.types[session.alert_type].session_timeout
        active = session.session_status is SessionStatus.ACTIVE
        return active and self._now - session.session_last_active >= timeout
