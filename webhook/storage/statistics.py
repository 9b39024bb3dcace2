"""Figures over a period, for charts: each a statement on an index of the period's start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotificationStatus, Outcome
from webhook.domain.severity import Severity
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
    a, d, log, n = alert.c, alert_dynamic.c, alert_trigger_log.c, notification.c
    mine = within(a.account_id, period.accounts)
    opened = [*period.of(a.created_at), *mine]
    both = alert.join(alert_dynamic)
    closed = [*mine, *period.of(d.resolved_at), d.updated_at >= period.since, d.status == AlertStatus.RESOLVED.value]
    active = _counts(connection, d.current_severity, both, [*mine, d.status == AlertStatus.ACTIVE.value])
    outcomes = [*within(log.account_id, period.accounts), *period.of(log.created_at)]
    outcome_counts = _counts(connection, log.outcome, alert_trigger_log, outcomes)
    sent = [*within(n.account_id, period.accounts), *period.of(n.created_at)]
    sent_counts = _counts(connection, n.status, notification, sent)
    return PeriodStatistics(
        active={severity: active.get(severity.value, 0) for severity in Severity},
        opened=_series(connection, period, a.created_at, alert, opened),
        resolved=_series(connection, period, d.resolved_at, both, closed),
        by_type=_counts(connection, a.alert_type, alert, opened),
        merchants=_top(connection, opened),
        outcomes={outcome: outcome_counts.get(outcome.value, 0) for outcome in Outcome},
        notifications={status: sent_counts.get(status.value, 0) for status in NotificationStatus},
        seconds_to_acknowledge=_median(connection, d.acknowledged_at, opened),
        seconds_to_resolve=_median(connection, d.resolved_at, [*opened, d.status == AlertStatus.RESOLVED.value]),
    )


def _counts(
    connection: sa.Connection,
    column: sa.ColumnElement[str],
    source: sa.FromClause,
    where: list[sa.ColumnElement[bool]],
) -> dict[str, int]:
    query = sa.select(column, sa.func.count()).select_from(source).where(*where).group_by(column).order_by(column)
    return {row[0]: row[1] for row in connection.execute(query)}


def _series(
    connection: sa.Connection,
    period: Period,
    column: sa.ColumnElement[datetime],
    source: sa.FromClause,
    where: list[sa.ColumnElement[bool]],
) -> dict[datetime, int]:
    """Every interval of the period, those without any too."""
    bucket: sa.ColumnElement[Any]
    if connection.dialect.name == "postgresql":
        bucket = sa.extract("epoch", sa.func.date_trunc(period.interval.value, column, "UTC"))
    else:
        hour = "%H" if period.interval is Interval.HOUR else "00"
        bucket = sa.func.strftime("%s", sa.func.strftime(f"%Y-%m-%d {hour}:00:00", column))
    key = bucket.label("bucket")
    query = sa.select(key, sa.func.count()).select_from(source).where(*where).group_by(key)
    counts = {datetime.fromtimestamp(int(row[0]), UTC): row[1] for row in connection.execute(query)}
    return {at: counts.get(at, 0) for at in period.buckets()}


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


def _median(
    connection: sa.Connection, until: sa.ColumnElement[datetime | None], where: list[sa.ColumnElement[bool]]
) -> float | None:
    """Seconds from the opening of an alert; of an even number the mean of the two in the middle."""
    both, where = alert.join(alert_dynamic), [*where, until.is_not(None)]
    number = connection.scalar(sa.select(sa.func.count()).select_from(both).where(*where)) or 0
    if not number:
        return None
    if connection.dialect.name == "postgresql":
        seconds: sa.ColumnElement[Any] = sa.extract("epoch", until) - sa.extract("epoch", alert.c.created_at)
    else:
        seconds = (sa.func.julianday(until) - sa.func.julianday(alert.c.created_at)) * 86400
    lasted = sa.cast(seconds, sa.Double).label("lasted")
    query = sa.select(lasted).select_from(both).where(*where).order_by(lasted)
    middle: Sequence[float] = connection.scalars(query.offset((number - 1) // 2).limit(2 - number % 2)).all()
    return round(sum(middle) / len(middle), 3)
