"""Figures over a period, for charts: each a statement on an index of the period's start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotificationStatus, Outcome
from webhook.domain.severity import Severity
from webhook.storage.columns import UtcDateTime
from webhook.storage.queries import within
from webhook.storage.tables import alert, alert_dynamic, alert_trigger_log, notification

TOP = 10


class Interval(StrEnum):
    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        return timedelta(hours=1) if self is Interval.HOUR else timedelta(days=1)

    def start(self, at: datetime) -> datetime:
        at = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return at if self is Interval.HOUR else at.replace(hour=0)


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` up to and without `until`, of the accounts that may be seen (None: all)."""

    since: datetime
    until: datetime
    interval: Interval
    accounts: frozenset[str] | None = None

    def of(self, column: sa.ColumnElement[datetime]) -> list[sa.ColumnElement[bool]]:
        return [column >= self.since, column < self.until]

    def buckets(self) -> Iterator[datetime]:
        at = self.interval.start(self.since)
        while at < self.until:
            yield at
            at += self.interval.length


@dataclass(frozen=True, slots=True)
class PeriodStatistics:
    """`active` is of now; the rest of the period. Times to acknowledge and resolve are of alerts that it opened."""

    active: Mapping[Severity, int]
    opened: Mapping[datetime, int]
    resolved: Mapping[datetime, int]
    by_type: Mapping[str, int]
    merchants: list[tuple[str, str, int]]
    outcomes: Mapping[Outcome, int]
    notifications: Mapping[NotificationStatus, int]
    seconds_to_acknowledge: float | None
    seconds_to_resolve: float | None


def period_statistics(connection: sa.Connection, period: Period) -> PeriodStatistics:
    """Read one after the other in one transaction."""
    a, d, n = alert.c, alert_dynamic.c, notification.c
    mine = within(a.account_id, period.accounts)
    # What changes of an alert says by itself when it was opened and closed: whose it is, is not always asked.
    changing = alert_dynamic if period.accounts is None else alert.join(alert_dynamic)
    opened = [*mine, *period.of(a.created_at)]
    closed = [*mine, *period.of(d.resolved_at), d.updated_at >= period.since, d.status == AlertStatus.RESOLVED.value]
    active = _counts(connection, d.current_severity, changing, [*mine, d.status == AlertStatus.ACTIVE.value])
    sent = [*within(n.account_id, period.accounts), *period.of(n.created_at)]
    sent_counts = _counts(connection, n.status, notification, sent)
    opened_counts = _series(connection, period, a.created_at, alert, opened, by=a.alert_type)
    closed_counts = _series(connection, period, d.resolved_at, changing, closed, by=d.status)
    acknowledged, resolved = _medians(connection, changing, [*mine, *period.of(d.first_triggered_at)], period)
    return PeriodStatistics(
        active={severity: active.get(severity.value, 0) for severity in Severity},
        opened={at: sum(counts.values()) for at, counts in opened_counts.items()},
        resolved={at: sum(counts.values()) for at, counts in closed_counts.items()},
        by_type=dict(sorted(sum(opened_counts.values(), Counter()).items())),
        merchants=_top(connection, opened),
        outcomes=_outcomes(connection, period),
        notifications={status: sent_counts.get(status.value, 0) for status in NotificationStatus},
        seconds_to_acknowledge=acknowledged,
        seconds_to_resolve=resolved,
    )


def _counts(
    connection: sa.Connection,
    column: sa.ColumnElement[str],
    source: sa.FromClause,
    where: list[sa.ColumnElement[bool]],
) -> dict[str, int]:
    query = sa.select(column, sa.func.count()).select_from(source).where(*where).group_by(column).order_by(column)
    return {row[0]: row[1] for row in connection.execute(query)}


def _outcomes(connection: sa.Connection, period: Period) -> dict[Outcome, int]:
    """All are named so that the index of outcomes and times answers alone; an account's are few and read whole."""
    log = alert_trigger_log.c
    named = log.outcome.in_([outcome.value for outcome in Outcome]) if period.accounts is None else sa.true()
    where = [*within(log.account_id, period.accounts), *period.of(log.created_at), named]
    counts = _counts(connection, log.outcome, alert_trigger_log, where)
    return {outcome: counts.get(outcome.value, 0) for outcome in Outcome}


def _series(
    connection: sa.Connection,
    period: Period,
    column: sa.ColumnElement[datetime],
    source: sa.FromClause,
    where: list[sa.ColumnElement[bool]],
    *,
    by: sa.ColumnElement[str],
) -> dict[datetime, Counter[str]]:
    """How many of each kind (`by`) in every interval of the period, those without any too."""
    bucket: sa.ColumnElement[Any]
    if connection.dialect.name == "postgresql":  # its sessions are in UTC
        bucket = sa.func.date_trunc(sa.literal_column(f"'{period.interval.value}'"), column, type_=UtcDateTime)
    else:
        hour = "%H" if period.interval is Interval.HOUR else "00"
        bucket = sa.func.strftime("%s", sa.func.strftime(f"%Y-%m-%d {hour}:00:00", column))
    key = bucket.label("bucket")
    query = sa.select(key, by, sa.func.count()).select_from(source).where(*where).group_by(key, by)
    counts: dict[datetime, Counter[str]] = {at: Counter() for at in period.buckets()}
    for at, name, count in connection.execute(query):
        counts[at if isinstance(at, datetime) else datetime.fromtimestamp(int(at), UTC)][name] += count
    return counts


def _top(connection: sa.Connection, where: list[sa.ColumnElement[bool]]) -> list[tuple[str, str, int]]:
    """Account, its name, alerts opened; most first."""
    a, number = alert.c, sa.func.count()
    query = (
        sa.select(a.account_id, sa.func.max(a.merchant_name), number)
        .where(*where)
        .group_by(a.account_id)
        .order_by(number.desc(), a.account_id)
        .limit(TOP)
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def _medians(
    connection: sa.Connection, source: sa.FromClause, opened: list[sa.ColumnElement[bool]], period: Period
) -> tuple[float | None, float | None]:
    """Seconds from the opening of an alert until it was acknowledged and resolved; of an even number the mean."""
    d = alert_dynamic.c
    # Both are changes, so that the index of changes leaves out what was last changed before the period.
    where = [*opened, d.updated_at >= period.since]
    closed = d.status == AlertStatus.RESOLVED.value
    if connection.dialect.name == "postgresql":
        middle = [
            sa.extract("epoch", sa.func.percentile_cont(0.5).within_group(end - d.first_triggered_at).filter(which))
            for end, which in ((d.acknowledged_at, d.acknowledged_at.is_not(None)), (d.resolved_at, closed))
        ]
        row = connection.execute(sa.select(*middle).select_from(source).where(*where)).one()
        acknowledged, resolved = (None if seconds is None else round(float(seconds), 3) for seconds in tuple(row))
        return acknowledged, resolved
    resolved = _median(connection, d.resolved_at, source, [*where, closed])
    return _median(connection, d.acknowledged_at, source, where), resolved


def _median(
    connection: sa.Connection,
    until: sa.ColumnElement[datetime | None],
    source: sa.FromClause,
    where: list[sa.ColumnElement[bool]],
) -> float | None:
    where = [*where, until.is_not(None)]
    number = connection.scalar(sa.select(sa.func.count()).select_from(source).where(*where)) or 0
    if not number:
        return None
    seconds = (sa.func.julianday(until) - sa.func.julianday(alert_dynamic.c.first_triggered_at)) * 86400
    lasted = sa.cast(seconds, sa.Double).label("lasted")
    query = sa.select(lasted).select_from(source).where(*where).order_by(lasted)
    middle: Sequence[float] = connection.scalars(query.offset((number - 1) // 2).limit(2 - number % 2)).all()
    return round(sum(middle) / len(middle), 3)
