"""Statements of the sweep: silent instances, timed-out sessions, severity by duration, and who is told.

Sessions are read in batches under row locks that others skip (PostgreSQL) or under the write lock (SQLite), so a
sweep beside `serve` and beside other sweeps changes each session once.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import (
    SYSTEM,
    AlertSession,
    AlertStatus,
    AlertTypes,
    AlertTypeSettings,
    Instance,
    Outcome,
    SessionStatus,
    TriggerStatus,
)
from webhook.domain.channel_choice import Channels, channels_for
from webhook.domain.evaluation import NOT_JUDGED
from webhook.domain.report import SOURCE as REPORTED
from webhook.domain.session import Settlement, raised
from webhook.domain.severity import Escalation, Severity
from webhook.storage.closing import Closing, close_alerts
from webhook.storage.database import Database
from webhook.storage.digests import tell_held_back
from webhook.storage.flapping import calm_down
from webhook.storage.sessions import instance_of, session_of
from webhook.storage.tables import alert, alert_dynamic, alert_instance, alert_trigger_log
from webhook.storage.telling import tell_escalation
from webhook.storage.transactions import transaction

_COLUMNS = alert_dynamic.c
_NOT_HELD = "Alertmanager does not hold it as firing any more"
_UNREPORTED = "nothing was reported for a session timeout"


class Sweeping:
    """The store as the sweep sees it."""

    def __init__(
        self, database: Database, alert_types: AlertTypes, channels: Channels, operations: Channels | None = None
    ) -> None:
        """`channels`: those of merchants who chose no others, with their settings; `operations`: of no merchant."""
        self._database = database
        self._alert_types = alert_types
        self._default = partial(channels_for, default=channels, operations=operations)

    @contextmanager
    def batch(self, now: datetime) -> Iterator[SweepBatch]:
        """One transaction, committed on leaving; raise StoreConflict where the same again can help."""
        with transaction(self._database) as connection:
            yield SweepBatch(connection, self._alert_types, self._default, now)

    def silent(self, now: datetime, sources: Collection[str]) -> list[Instance]:
        """Firing instances of these sources, not heard of for a session timeout; suppressed ones too. By key."""
        i = alert_instance.c
        query = (
            sa.select(alert_instance)
            .where(
                i.status == TriggerStatus.FIRING.value,
                i.source.in_(sorted(sources)),
                by_type(
                    self._alert_types, i.alert_type, lambda settings: i.last_heard_at < now - settings.session_timeout
                ),
            )
            .order_by(i.fingerprint, i.starts_at)
        )
        with self._database.read() as connection:
            return [instance_of(row) for row in connection.execute(query).mappings()]


def by_type(
    alert_types: AlertTypes,
    column: sa.ColumnElement[str],
    clause: Callable[[AlertTypeSettings], sa.ColumnElement[bool]],
) -> sa.ColumnElement[bool]:
    """`clause` with the settings of the row's alert type."""
    configured = list(alert_types.by_type)
    return sa.or_(
        sa.and_(column.not_in(configured), clause(alert_types.default)),
        *(sa.and_(column == name, clause(alert_types.by_type[name])) for name in configured),
    )


class SweepBatch:
    """The changes of one transaction, all dated `now`."""

    def __init__(
        self,
        connection: sa.Connection,
        alert_types: AlertTypes,
        default: Callable[[str], Channels],
        now: datetime,
    ) -> None:
        self._connection = connection
        self._alert_types = alert_types
        self._now = now
        self._default = default

    def hold(self, instances: Collection[Instance]) -> None:
        """Lock them in the order in which deliveries write them, so that neither waits for the other in a ring."""
        i = alert_instance.c
        keys = [(instance.fingerprint, instance.starts_at) for instance in instances]
        query = sa.select(i.fingerprint).where(sa.tuple_(i.fingerprint, i.starts_at).in_(keys))
        self._connection.execute(query.order_by(i.fingerprint, i.starts_at).with_for_update()).all()

    def confirm(self, instances: Collection[Instance]) -> None:
        """Alertmanager still holds them as firing; what was suppressed when last heard stays so."""
        i = alert_instance.c
        now = sa.literal(self._now, i.last_passed_at.type)
        passed = sa.case((i.last_passed_at == i.last_heard_at, now), else_=i.last_passed_at)
        if instances:
            self._connection.execute(
                _unheard(sa.update(alert_instance)).values(last_heard_at=self._now, last_passed_at=passed),
                [_key(instance) for instance in instances],
            )

    def end(self, instances: Collection[Instance]) -> int:
        """Resolve them as of when they were last heard, with an entry in the trigger log; return how many were.

        A delivery that was received since then has changed `last_heard_at`, and wins.
        """
        ended = [instance for instance in instances if self._end(instance)]
        self._log_ended(ended)
        return len(ended)

    def timed_out(self, after: str | None, limit: int) -> list[tuple[AlertSession, list[Instance]]]:
        """Sessions of active alerts without activity for a session timeout, with their instances, by alert id."""
        sessions = self._sessions(
            by_type(
                self._alert_types,
                alert.c.alert_type,
                lambda settings: _COLUMNS.session_last_active <= self._now - settings.session_timeout,
            ),
            after,
            limit,
        )
        instances = self._instances([session.alert_id for session in sessions])
        return [(session, instances[session.alert_id]) for session in sessions]

    def long_lasting(self, after: str | None, limit: int) -> list[AlertSession]:
        """Sessions that have lasted as long as a step to a graver severity than theirs asks, and are going on.

        An instance that was heard within the session timeout, and then passed evaluation, is what makes them go on.
        """
        i = alert_instance.c
        lately = by_type(
            self._alert_types, i.alert_type, lambda settings: i.last_heard_at >= self._now - settings.session_timeout
        )
        firing = sa.exists().where(
            i.alert_id == _COLUMNS.alert_id,
            i.status == TriggerStatus.FIRING.value,
            i.last_passed_at == i.last_heard_at,
            lately,
        )
        return self._sessions(
            sa.and_(
                _COLUMNS.session_status == SessionStatus.ACTIVE.value,
                firing,
                by_type(self._alert_types, alert.c.alert_type, self._reached_a_step),
            ),
            after,
            limit,
        )

    def expire(self, sessions: Sequence[AlertSession]) -> None:
        self._change(sessions, session_status=SessionStatus.EXPIRED.value)

    def resolve(self, sessions: Sequence[AlertSession], settlement: Settlement) -> None:
        """RESOLVED by system; whoever was told of these alerts, or is about to be, is told that they ended.

        Nobody is where the settlement says so.
        """
        by_system = Closing(AlertStatus.RESOLVED, settlement.reason, SYSTEM, None, self._now, told=settlement.told)
        close_alerts(self._connection, sessions, by_system)

    def escalate(self, session: AlertSession, escalation: Escalation) -> None:
        after = raised(session, escalation)
        self._change(
            [session],
            current_severity=after.severity.value,
            escalation_history={"escalations": [entry.as_json() for entry in after.escalations]},
            last_escalated_at=self._now,
        )
        if tell_escalation(self._connection, self._default(session.account_id), after, escalation, self._now):
            heard = {"last_notified_at": self._now, "last_notified_count": session.occurrence_count}
            of_it = sa.update(alert_dynamic).where(_COLUMNS.alert_id == session.alert_id)
            self._connection.execute(of_it.values(heard))

    def calm_down(self, after: str, limit: int) -> tuple[int, str | None]:
        """See `webhook.storage.flapping.calm_down`."""
        return calm_down(self._connection, self._alert_types, self._now, after, limit)

    def tell_held_back(self, after: str, limit: int) -> tuple[int, str | None]:
        """See `webhook.storage.digests`."""
        return tell_held_back(self._connection, self._default, self._now, after, limit)

    def _reached_a_step(self, settings: AlertTypeSettings) -> sa.ColumnElement[bool]:
        return sa.or_(
            sa.false(),
            *(
                sa.and_(
                    _COLUMNS.session_started_at <= self._now - step.duration,
                    _COLUMNS.current_severity.in_([s.value for s in Severity if s.rank < step.severity.rank]),
                )
                for step in settings.escalation
                if step.duration is not None
            ),
        )

    def _sessions(self, where: sa.ColumnElement[bool], after: str | None, limit: int) -> list[AlertSession]:
        query = (
            sa.select(alert_dynamic, alert.c.account_id, alert.c.alert_type)
            .join(alert, alert.c.id == _COLUMNS.alert_id)
            .where(_COLUMNS.status == AlertStatus.ACTIVE.value, where)
            .order_by(_COLUMNS.alert_id)
            .limit(limit)
            .with_for_update(skip_locked=True, of=alert_dynamic)
        )
        if after is not None:
            query = query.where(_COLUMNS.alert_id > after)
        return [session_of(row) for row in self._connection.execute(query).mappings()]

    def _instances(self, alert_ids: Sequence[str]) -> Mapping[str, list[Instance]]:
        found: defaultdict[str, list[Instance]] = defaultdict(list)
        i = alert_instance.c
        for row in self._connection.execute(sa.select(alert_instance).where(i.alert_id.in_(alert_ids))).mappings():
            found[row["alert_id"]].append(instance_of(row))
        return found

    def _change(self, sessions: Sequence[AlertSession], **values: Any) -> None:  # noqa: ANN401 - column values
        if sessions:
            self._connection.execute(
                sa.update(alert_dynamic)
                .where(_COLUMNS.alert_id.in_([session.alert_id for session in sessions]))
                .values(**values, version=_COLUMNS.version + 1, updated_at=self._now)
            )

    def _end(self, instance: Instance) -> bool:
        resolve = _unheard(sa.update(alert_instance)).values(
            status=TriggerStatus.RESOLVED.value, resolved_at=instance.last_heard_at, ended_at=self._now
        )
        return self._connection.execute(resolve, _key(instance)).rowcount == 1

    def _log_ended(self, ended: Sequence[Instance]) -> None:
        if not ended:
            return
        i = alert_instance.c
        query = (
            sa.select(alert_instance, _COLUMNS.condition_fingerprint)
            .outerjoin(alert_dynamic, _COLUMNS.alert_id == i.alert_id)
            .where(sa.tuple_(i.fingerprint, i.starts_at).in_([(s.fingerprint, s.starts_at) for s in ended]))
        )
        rows = [self._log_entry(row) for row in self._connection.execute(query).mappings()]
        self._connection.execute(sa.insert(alert_trigger_log), rows)

    def _log_entry(self, row: sa.RowMapping) -> dict[str, Any]:
        names = ("alert_id", "fingerprint", "alert_name", "alert_type", "account_id", "severity", "starts_at")
        return {
            **{name: row[name] for name in names},
            "id": str(uuid.uuid4()),
            "source": "sweep",
            "condition_fingerprint": row["condition_fingerprint"] or "",
            "status": TriggerStatus.RESOLVED.value,
            "ends_at": row["resolved_at"],
            "metrics_data": {},
            "labels": {},
            "annotations": {},
            "verdict": NOT_JUDGED.as_json(),
            "outcome": Outcome.RESOLVED.value,
            "outcome_reason": _UNREPORTED if row["source"] == REPORTED else _NOT_HELD,
            "created_at": self._now,
        }


def _unheard(update: sa.Update) -> sa.Update:
    """Of one instance, still firing and not heard of since it was found silent."""
    i = alert_instance.c
    return update.where(
        i.fingerprint == sa.bindparam("of_fingerprint"),
        i.starts_at == sa.bindparam("of_start", type_=i.starts_at.type),
        i.last_heard_at == sa.bindparam("of_last_heard", type_=i.last_heard_at.type),
        i.status == TriggerStatus.FIRING.value,
    )


def _key(instance: Instance) -> dict[str, Any]:
    return {
        "of_fingerprint": instance.fingerprint,
        "of_start": instance.starts_at,
        "of_last_heard": instance.last_heard_at,
    }
