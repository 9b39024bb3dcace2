"""The stored past of one account and alert type, for the replay: one ordered pass over plain rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotifyReason, Outcome, TriggerStatus
from webhook.domain.comparison import StoredTrigger
from webhook.domain.replay import Past
from webhook.domain.severity import Severity
from webhook.domain.throttle import LONGEST_WINDOW
from webhook.storage.database import LONG, Database, allow
from webhook.storage.tables import alert, alert_dynamic, alert_instance, alert_trigger_log, notification

_SWEEP = "sweep"
_FIRING = TriggerStatus.FIRING.value
_SEVERITIES = {severity.value: severity for severity in Severity}


@dataclass(frozen=True, slots=True)
class StoredPast:
    """What the preview reads, in one transaction that cannot write."""

    database: Database

    def read(
        self,
        account_id: str,
        alert_type: str,
        since: datetime,
        earliest: datetime,
        *,
        remembered: timedelta,
        limit: int,
        labels: bool,
    ) -> tuple[Past, list[StoredTrigger]]:
        with read_only(self.database) as connection:
            past, first = read_past(connection, account_id, alert_type, since, earliest, remembered=remembered)
            return past, read_triggers(connection, account_id, alert_type, first, limit, labels=labels)


@contextmanager
def read_only(database: Database) -> Iterator[sa.Connection]:
    """One view of the data for all that is read in it; the database refuses to write."""
    with database.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            allow(connection, LONG)
        yield connection


def read_past(
    connection: sa.Connection,
    account_id: str,
    alert_type: str,
    since: datetime,
    earliest: datetime,
    *,
    remembered: timedelta,
) -> tuple[Past, datetime]:
    """What happened beside the triggers, and from when on triggers are wanted.

    An attack that was going on at `since` is replayed from its beginning, with those that ended at most `remembered`
    before the next one began, but not from before `earliest`.
    """
    a, d = alert.c, alert_dynamic.c
    ours = sa.and_(a.account_id == account_id, a.alert_type == alert_type)
    alerts = sa.select(
        d.alert_id, d.condition_fingerprint, d.first_triggered_at, d.resolved_at, d.authenticated_as, d.status
    ).select_from(alert_dynamic.join(alert, a.id == d.alert_id))
    overlap = sa.or_(d.resolved_at.is_(None), d.resolved_at >= earliest)
    rows = connection.execute(alerts.where(ours, overlap)).all()
    starts: dict[str, datetime] = {}
    for row in sorted(rows, key=attrgetter("first_triggered_at"), reverse=True):
        begun = starts.get(row.condition_fingerprint, since)
        if row.first_triggered_at < begun and (row.resolved_at is None or row.resolved_at >= begun - remembered):
            starts[row.condition_fingerprint] = max(row.first_triggered_at, earliest)
    first = min(starts.values(), default=since)
    closings = sorted(
        (row.resolved_at, row.condition_fingerprint)
        for row in rows
        if row.authenticated_as is not None and row.resolved_at is not None and row.resolved_at >= first
    )
    sent, notified = _messages(connection, account_id, alert_type, first, since=since, starts=starts)
    closed = _closed(connection, account_id, alert_type, first)
    return Past(since, closings, sent, notified, closed, starts), first


def _messages(
    connection: sa.Connection,
    account_id: str,
    alert_type: str,
    first: datetime,
    *,
    since: datetime,
    starts: Mapping[str, datetime],
) -> tuple[dict[tuple[str, datetime], datetime | None], list[datetime]]:
    """When what was decided went out, and when people were told of what is not replayed."""
    n = notification.c
    query = (
        sa.select(alert.c.condition_fingerprint, n.created_at, sa.func.max(n.sent_at, type_=n.sent_at.type))
        .select_from(notification.join(alert, alert.c.id == n.alert_id))
        .where(
            n.account_id == account_id,
            n.alert_type == alert_type,
            n.created_at > first - LONGEST_WINDOW,
            n.reason.not_in([NotifyReason.RESOLVED.value, NotifyReason.DIGEST.value]),
        )
        .group_by(n.alert_id, alert.c.condition_fingerprint, n.created_at)
        .order_by(n.created_at)
    )
    sent: dict[tuple[str, datetime], datetime | None] = {}
    notified = []
    for condition, created_at, sent_at in connection.execute(query):
        if created_at < starts.get(condition, since):
            notified.append(created_at)
        else:
            sent[condition, created_at] = sent_at
    return sent, notified


def _closed(
    connection: sa.Connection, account_id: str, alert_type: str, first: datetime
) -> frozenset[tuple[str, datetime]]:
    i, d = alert_instance.c, alert_dynamic.c
    query = (
        sa.select(i.fingerprint, i.starts_at)
        .select_from(alert_instance.join(alert_dynamic, d.alert_id == i.alert_id))
        .where(
            i.account_id == account_id,
            i.alert_type == alert_type,
            d.authenticated_as.is_not(None),
            d.status != AlertStatus.ACTIVE.value,
            d.resolved_at < first,
        )
    )
    return frozenset((row.fingerprint, row.starts_at) for row in connection.execute(query))


def read_triggers(
    connection: sa.Connection, account_id: str, alert_type: str, first: datetime, limit: int, *, labels: bool
) -> list[StoredTrigger]:
    """Triggers since `first`, at most `limit` and then the latest; by time and place in their delivery."""
    log = alert_trigger_log.c
    names = [
        log.created_at,
        log.condition_fingerprint,
        log.fingerprint,
        log.starts_at,
        log.status,
        log.severity,
        log.alert_name,
        log.outcome,
        log.notify,
        log.source,
    ]
    texts: list[sa.ColumnElement[Any]] = [log.id, log.alert_id, log.metrics_data, *([log.labels] if labels else [])]
    if connection.dialect.name == "postgresql":
        texts = [sa.cast(column, sa.Text) for column in texts]
    columns: list[Any] = [sa.type_coerce(column, sa.types.NullType()) for column in (*names, *texts)]
    query = (
        sa.select(*columns)
        .where(
            log.account_id == account_id,
            log.alert_type == alert_type,
            log.created_at >= first,
            log.outcome != Outcome.REJECTED.value,
        )
        .order_by(log.created_at.desc(), log.position.desc())
        .limit(limit)
    )
    rows = connection.execute(query).fetchall()[::-1]
    time = _reader_of_times(connection.dialect.name)
    metrics = _documents([row[12] for row in rows])
    all_labels = _documents([row[13] for row in rows]) if labels else repeat(_NO_LABELS)
    return [
        StoredTrigger(
            row[10],
            time(row[0]),
            row[1],
            row[2],
            time(row[3]),
            row[4] == _FIRING,
            _SEVERITIES[row[5]],
            row[6],
            values,
            texts_of,
            row[7],
            row[8],
            row[11],
            row[9] == _SWEEP,
        )
        for row, values, texts_of in zip(rows, metrics, all_labels, strict=False)
    ]


_NO_LABELS: Mapping[str, str] = {}


def _documents(texts: Sequence[str]) -> list[Any]:
    """All in one text: reading them one by one takes three times as long."""
    found: list[Any] = json.loads(f"[{','.join(texts)}]")
    return found


def _reader_of_times(dialect: str) -> Callable[[Any], datetime]:
    """What the driver leaves undone: SQLite gives texts. Times repeat, so each is read once."""
    if dialect == "postgresql":
        return lambda value: value.astimezone(UTC)
    known: dict[str, datetime] = {}

    def time(text: str) -> datetime:
        found = known.get(text)
        if found is None:
            found = known[text] = datetime.fromisoformat(text).replace(tzinfo=UTC)
        return found

    return time
