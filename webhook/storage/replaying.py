"""The stored past of one account and alert type, for the replay: a few ordered passes over plain rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotifyReason, Outcome, TriggerStatus
from webhook.domain.comparison import StoredTrigger
from webhook.domain.evaluation import Verdict
from webhook.domain.past import Attack, Past, Wanted, beginnings, known_past
from webhook.domain.report import SOURCE as REPORTS
from webhook.domain.severity import Severity
from webhook.domain.throttle import LONGEST_WINDOW
from webhook.storage.database import LONG, Database, allow
from webhook.storage.tables import alert, alert_dynamic, alert_instance, alert_trigger_log, notification

_SWEEP = "sweep"
_FIRING = TriggerStatus.FIRING.value
_CREATED = Outcome.CREATED.value
_SEVERITIES = {severity.value: severity for severity in Severity}
_AT_ONCE = 1000  # rows: between them others get their turn


@dataclass(frozen=True, slots=True)
class StoredPast:
    """What the preview reads, in one transaction that cannot write."""

    database: Database

    def read(self, wanted: Wanted) -> tuple[Past, list[StoredTrigger]]:
        """`Past.since` is later than wanted where there are too many triggers."""
        with read_only(self.database) as connection:
            attacks = _attacks(connection, wanted)
            begun = beginnings(attacks, wanted.since, wanted.remembered)
            begun = {condition: at for condition, at in begun.items() if at >= wanted.earliest}
            first = min(begun.values(), default=wanted.since)
            triggers = read_triggers(connection, wanted, first, begun)
            since = wanted.since
            if len(triggers) > wanted.limit:
                triggers = _whole_deliveries(triggers[-wanted.limit - 1 :])
                since = max(since, triggers[0].at) if triggers else since
            created = {(trigger.condition, trigger.at) for trigger in triggers if trigger.outcome == _CREATED}
            past = known_past(attacks, created, since, wanted.remembered)
            return read_past(connection, wanted, attacks, past), triggers


@contextmanager
def read_only(database: Database) -> Iterator[sa.Connection]:
    """One view of the data for all that is read in it; the database refuses to write."""
    with database.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            allow(connection, LONG)
        yield connection


def _attacks(connection: sa.Connection, wanted: Wanted) -> list[Attack]:
    """Alerts that were not closed before `earliest`."""
    a, d = alert.c, alert_dynamic.c
    query = (
        sa.select(d.condition_fingerprint, d.first_triggered_at, d.resolved_at, d.authenticated_as)
        .select_from(alert_dynamic.join(alert, a.id == d.alert_id))
        .where(
            a.account_id == wanted.account_id,
            a.alert_type == wanted.alert_type,
            sa.or_(d.resolved_at.is_(None), d.resolved_at >= wanted.earliest),
        )
    )
    rows = connection.execute(query)
    return [Attack(condition, begun, ended, by is not None) for condition, begun, ended, by in rows]


def _whole_deliveries(triggers: Sequence[StoredTrigger]) -> list[StoredTrigger]:
    """Without the first delivery, part of which is missing."""
    return [trigger for trigger in triggers if trigger.at != triggers[0].at]


def read_past(connection: sa.Connection, wanted: Wanted, attacks: Sequence[Attack], past: Past) -> Past:
    """With what happened beside the triggers."""
    first = min(past.starts.values(), default=past.since)
    closings = sorted(
        (attack.ended, attack.condition)
        for attack in attacks
        if attack.by_person and attack.ended is not None and attack.ended >= past.start_of(attack.condition)
    )
    sent: dict[tuple[str, datetime], datetime | None] = {}
    notified, resent = [], []
    for condition, created_at, sent_at, by_person in _messages(connection, wanted, first):
        if by_person:
            resent += [(sent_at, condition)] if sent_at is not None else []
        elif created_at < past.start_of(condition):
            notified.append(created_at)
        else:
            sent[condition, created_at] = sent_at
    return replace(
        past,
        closings=closings,
        sent=sent,
        resent=sorted(resent),
        notified=notified,
        closed=_closed(connection, wanted, past),
    )


def _messages(connection: sa.Connection, wanted: Wanted, first: datetime) -> Iterable[Any]:
    """Conditions, when it was decided to tell of them and when that went out, and whether a person asked for it."""
    n = notification.c
    by_person = n.requested_by.is_not(None)
    query = (
        sa.select(alert.c.condition_fingerprint, n.created_at, sa.func.max(n.sent_at, type_=n.sent_at.type), by_person)
        .select_from(notification.join(alert, alert.c.id == n.alert_id))
        .where(
            n.account_id == wanted.account_id,
            n.alert_type == wanted.alert_type,
            n.created_at > first - LONGEST_WINDOW,
            n.reason != NotifyReason.RESOLVED.value,
        )
        .group_by(n.alert_id, alert.c.condition_fingerprint, n.created_at, by_person)
        .order_by(n.created_at)
    )
    return connection.execute(query)


def _closed(connection: sa.Connection, wanted: Wanted, past: Past) -> frozenset[tuple[str, datetime]]:
    i, d = alert_instance.c, alert_dynamic.c
    query = (
        sa.select(i.fingerprint, i.starts_at, d.condition_fingerprint, d.resolved_at)
        .select_from(alert_instance.join(alert_dynamic, d.alert_id == i.alert_id))
        .where(
            i.account_id == wanted.account_id,
            i.alert_type == wanted.alert_type,
            d.authenticated_as.is_not(None),
            d.status != AlertStatus.ACTIVE.value,
        )
    )
    rows = connection.execute(query)
    return frozenset((name, start) for name, start, condition, ended in rows if ended < past.start_of(condition))


def read_triggers(
    connection: sa.Connection, wanted: Wanted, first: datetime, begun: Mapping[str, datetime]
) -> list[StoredTrigger]:
    """By time and place in their delivery; before `since` only of conditions in `begun`. One more than the limit."""
    log, c = alert_trigger_log, alert_trigger_log.c
    early = sa.and_(c.created_at >= first, c.condition_fingerprint.in_(sorted(begun)))
    query = (
        sa.select(*_columns(connection.dialect.name, labels=wanted.labels))
        .select_from(log)
        .where(
            c.account_id == wanted.account_id,
            c.alert_type == wanted.alert_type,
            c.created_at >= first,
            sa.or_(c.created_at >= wanted.since, early) if first < wanted.since else sa.true(),
            c.outcome != Outcome.REJECTED.value,
        )
        .order_by(c.created_at.desc(), c.position.desc())
        .limit(wanted.limit + 1)
    )
    found: list[StoredTrigger] = []
    reader = _Reader(connection.dialect.name, labels=wanted.labels)
    cursor = connection.execute(query).cursor  # the driver's: a Row for each costs a third of the reading
    while rows := cursor.fetchmany(_AT_ONCE):
        found += reader.read(rows)
        wanted.pause()
    found.reverse()
    return found


def _columns(dialect: str, *, labels: bool) -> list[Any]:
    """As the driver has them: what SQLAlchemy makes of them costs more than to read them."""
    c = alert_trigger_log.c
    plain = [
        c.created_at,
        c.condition_fingerprint,
        c.fingerprint,
        c.starts_at,
        c.status,
        c.severity,
        c.alert_name,
        c.outcome,
        c.notify,
        c.source,
    ]
    texts: list[sa.ColumnElement[Any]] = [c.alert_id, c.metrics_data]
    if labels:
        texts.append(c.labels)
    reports = sa.case((c.source == REPORTS, sa.cast(c.verdict, sa.Text)), else_=None)
    if dialect == "postgresql":
        texts = [sa.cast(column, sa.Text) for column in texts]
    return [sa.type_coerce(column, sa.types.NullType()) for column in (*plain, reports, *texts)]


class _Reader:
    """Rows as triggers. What repeats is made once and shared: times, keys, labels."""

    def __init__(self, dialect: str, *, labels: bool) -> None:
        self._times: dict[Any, datetime] = {}
        self._keys: dict[tuple[str, Any], tuple[str, datetime]] = {}
        self._labels: dict[str, Mapping[str, str]] = {}
        self._texts = dialect == "sqlite"
        self._without_labels = not labels

    def read(self, rows: Sequence[Any]) -> list[StoredTrigger]:
        metrics = json.loads(f"[{','.join([row[12] for row in rows])}]")  # one by one takes three times as long
        return [self._trigger(row, values) for row, values in zip(rows, metrics, strict=True)]

    def _trigger(self, row: Any, metrics: Mapping[str, float]) -> StoredTrigger:  # noqa: ANN401 - as the driver has it
        at, start = row[0], row[3]
        key = self._keys.get((row[2], start))
        if key is None:
            key = self._keys[row[2], start] = (row[2], self._time(start))
        return StoredTrigger(
            self._times.get(at) or self._time(at),
            row[1],
            key,
            row[4] == _FIRING,
            _SEVERITIES[row[5]],
            row[6],
            metrics,
            _NO_LABELS if self._without_labels else self._labels_of(row[13]),
            row[7],
            row[8],
            row[11],
            row[9] == _SWEEP,
            None if row[10] is None else _own(json.loads(row[10])),
        )

    def _time(self, value: Any) -> datetime:  # noqa: ANN401 - SQLite gives texts
        time = datetime.fromisoformat(value).replace(tzinfo=UTC) if self._texts else value.astimezone(UTC)
        self._times[value] = time
        return time

    def _labels_of(self, text: str) -> Mapping[str, str]:
        labels = self._labels.get(text)
        if labels is None:
            labels = self._labels[text] = json.loads(text)
        return labels


_NO_LABELS: Mapping[str, str] = {}


def _own(verdict: Mapping[str, Any]) -> Verdict:
    """What the thresholds of a report said, whatever its merchant's did."""
    own = verdict.get("own", verdict)
    return Verdict(own.get("passed", True), own.get("reason", ""))
