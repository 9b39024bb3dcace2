"""What people and the API read: alerts, their history, and the trigger log. Each function is one statement."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import SYSTEM, AlertStatus, NotificationStatus, Outcome, SessionStatus
from webhook.domain.severity import Severity
from webhook.storage.records import (
    AlertFilter,
    AlertPlace,
    AlertRecord,
    AlertSort,
    CommentRecord,
    NotificationFilter,
    NotificationRecord,
    Place,
    Statistics,
    Suppressed,
    from_microseconds,
    microseconds,
)
from webhook.storage.tables import (
    TEXTS,
    alert,
    alert_comment,
    alert_dynamic,
    alert_trigger_log,
    notification,
)

COUNTED = (Outcome.CREATED, Outcome.SESSION_UPDATED, Outcome.COMMENT_ADDED)
"""Outcomes of triggers that changed an alert: their verdicts carry the conditions that held."""


def _alert_columns() -> Sequence[sa.ColumnElement[Any]]:
    dynamic = alert_dynamic.c
    return (
        *(alert.c[name] for name in ("id", "account_id", "merchant_name", "alert_type", "title", "summary")),
        *(alert.c[name] for name in ("suggested_action", "metadata", "created_at", "original_severity")),
        dynamic.current_severity.label("severity"),
        *(dynamic[name] for name in ("status", "session_status", "occurrence_count", "session_started_at")),
        *(dynamic[name] for name in ("first_triggered_at", "last_triggered_at")),
        dynamic.latest_metrics.label("metrics"),
        *(dynamic[name] for name in ("escalation_history", "resolved_at", "resolved_by", "resolution_note")),
        *(dynamic[name] for name in ("dismiss_reason", "feedback", "acknowledged_at", "acknowledged_by")),
        *(dynamic[name] for name in ("snoozed_until", "snoozed_by", "version", "updated_at")),
    )


def _alert_record(row: sa.RowMapping) -> AlertRecord:
    values = dict(row)
    values["original_severity"] = Severity(row["original_severity"])
    values["severity"] = Severity(row["severity"])
    values["status"] = AlertStatus(row["status"])
    values["session_status"] = SessionStatus(row["session_status"])
    return AlertRecord(**values)


def _alert_conditions(wanted: AlertFilter) -> list[sa.ColumnElement[bool]]:
    """On what never changes of an alert, and on its texts."""
    conditions = within(alert.c.account_id, wanted.accounts)
    if wanted.alert_type:
        conditions.append(alert.c.alert_type == wanted.alert_type)
    if wanted.account_id:
        conditions.append(alert.c.account_id == wanted.account_id)
    if wanted.search:
        conditions.append(sa.or_(*(containing(alert.c[name], wanted.search) for name in TEXTS)))
    if wanted.since:
        conditions.append(alert.c.created_at >= wanted.since)
    if wanted.until:
        conditions.append(alert.c.created_at <= wanted.until)
    return conditions


def _dynamic_conditions(wanted: AlertFilter) -> list[sa.ColumnElement[bool]]:
    conditions = []
    if wanted.severity:
        conditions.append(alert_dynamic.c.current_severity == wanted.severity.value)
    if wanted.status:
        conditions.append(alert_dynamic.c.status == wanted.status.value)
    if wanted.resolved_since:
        conditions.append(_closed_since(wanted.resolved_since))
    return conditions


def _plan_for_text(connection: sa.Connection, wanted: AlertFilter) -> None:
    """Whether a text is rare decides between its index and the order's: no plan is good for all texts."""
    if wanted.search and connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_custom_plan")


def _closed_since(since: datetime) -> sa.ColumnElement[bool]:
    # Closing is an update, so `updated_at`, which has an index, bounds `resolved_at`, which has none.
    return (alert_dynamic.c.updated_at >= since) & (alert_dynamic.c.resolved_at >= since)


def within(column: sa.ColumnElement[str], accounts: frozenset[str] | None) -> list[sa.ColumnElement[bool]]:
    """The condition that bounds rows to `accounts`; none for None, which is everybody's."""
    return [] if accounts is None else [column.in_(accounts)]


def containing(column: sa.ColumnElement[str], text: str) -> sa.ColumnElement[bool]:
    """`text` anywhere, in any case: ILIKE on PostgreSQL, for which a column has trigrams and statistics.

    Of letters beyond ASCII where the database's LC_CTYPE is not C.
    """
    return column.ilike("%" + re.sub("[%_/]", r"/\g<0>", text) + "%", escape="/")


def count_alerts(connection: sa.Connection, wanted: AlertFilter) -> int:
    _plan_for_text(connection, wanted)
    # Every alert has its dynamic row: each table is read only where a condition needs it.
    fixed, dynamic = _alert_conditions(wanted), _dynamic_conditions(wanted)
    source: sa.FromClause = alert_dynamic if dynamic else alert
    if fixed and dynamic:
        source = alert.join(alert_dynamic)
    return connection.scalar(sa.select(sa.func.count()).select_from(source).where(*fixed, *dynamic)) or 0


def list_alerts(
    connection: sa.Connection,
    wanted: AlertFilter,
    *,
    sort: AlertSort = AlertSort.TIME,
    descending: bool = True,
    limit: int = 20,
    offset: int = 0,
    after: AlertPlace | None = None,
) -> list[AlertRecord]:
    """In the order asked for, ties newest first and then by id, so that pages never overlap.

    `descending` severity is gravest first; P0 is the gravest, so that is ascending in the column. `after` is the place
    of the last alert of the page before, and takes no offset. Only the alerts of the page are read whole.
    """
    _plan_for_text(connection, wanted)
    order = _order(sort, descending=descending)
    ids = _ids(wanted, sort)
    parts = [[]] if after is None else _beyond(sort, after, descending=descending)
    pages = [ids.where(*part).order_by(*order).limit(limit).offset(offset or None) for part in parts]
    found = pages[0] if len(pages) == 1 else sa.union_all(*(page.subquery().select() for page in pages))
    statement = sa.select(*_alert_columns()).select_from(alert.join(alert_dynamic))
    statement = statement.where(alert.c.id.in_(found)).order_by(*order).limit(limit)
    return [_alert_record(row) for row in connection.execute(statement).mappings()]


def _ids(wanted: AlertFilter, sort: AlertSort) -> sa.Select[tuple[str]]:
    """Of the alerts that match, from one table where that is enough."""
    fixed, dynamic = _alert_conditions(wanted), _dynamic_conditions(wanted)
    by_time = sort is AlertSort.TIME
    if by_time and not dynamic:
        return sa.select(alert.c.id).where(*fixed)
    if not by_time and not fixed:
        return sa.select(alert_dynamic.c.alert_id).where(*dynamic)
    return sa.select(alert.c.id).select_from(alert.join(alert_dynamic)).where(*fixed, *dynamic)


_SORTED: dict[AlertSort, sa.Column[Any]] = {
    AlertSort.SEVERITY: alert_dynamic.c.current_severity,
    AlertSort.LAST_TRIGGERED: alert_dynamic.c.last_triggered_at,
    AlertSort.UPDATED: alert_dynamic.c.updated_at,
    AlertSort.OCCURRENCES: alert_dynamic.c.occurrence_count,
}


def _order(sort: AlertSort, *, descending: bool) -> list[sa.ColumnElement[Any]]:
    """Within one table, so that one index can have it."""
    if sort is AlertSort.TIME:
        place = (alert.c.created_at, alert.c.id)
        return [column.desc() if descending else column.asc() for column in place]
    column = _SORTED[sort]
    first = column.asc() if descending is (sort is AlertSort.SEVERITY) else column.desc()
    return [first, alert_dynamic.c.first_triggered_at.desc(), alert_dynamic.c.alert_id.desc()]


def _beyond(sort: AlertSort, after: AlertPlace, *, descending: bool) -> list[list[sa.ColumnElement[bool]]]:
    """What comes after a place in the order, in parts that are each a range of an index: ties, and all else."""
    if sort is AlertSort.TIME:
        at, tie = alert.c.created_at, alert.c.id
        if descending:
            return [before_place(alert, (after.at, after.id))]
        return [[at >= after.at, (at > after.at) | (tie > after.id)]]
    column, value = _SORTED[sort], _value(sort, after.value)
    rising = descending is (sort is AlertSort.SEVERITY)
    at, tie = alert_dynamic.c.first_triggered_at, alert_dynamic.c.alert_id
    ties = [column == value, at <= after.at, (at < after.at) | (tie < after.id)]
    return [ties, [column > value if rising else column < value]]


def _value(sort: AlertSort, value: int) -> object:
    if sort is AlertSort.SEVERITY:
        return f"P{value}"
    return value if sort is AlertSort.OCCURRENCES else from_microseconds(value)


def place_of(record: AlertRecord, sort: AlertSort) -> AlertPlace:
    """Where a listed alert stands."""
    value = {
        AlertSort.TIME: 0,
        AlertSort.SEVERITY: int(record.severity.value[1:]),
        AlertSort.LAST_TRIGGERED: microseconds(record.last_triggered_at),
        AlertSort.UPDATED: microseconds(record.updated_at),
        AlertSort.OCCURRENCES: record.occurrence_count,
    }[sort]
    at = record.created_at if sort is AlertSort.TIME else record.first_triggered_at
    return AlertPlace(value, at, record.id)


def alert_by_id(connection: sa.Connection, alert_id: str, accounts: frozenset[str] | None = None) -> AlertRecord | None:
    """None when there is none, or it is another's; `alert_id` has to be a UUID."""
    statement = (
        sa.select(*_alert_columns())
        .select_from(alert.join(alert_dynamic))
        .where(alert.c.id == alert_id, *within(alert.c.account_id, accounts))
    )
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else _alert_record(row)


def latest_verdicts(connection: sa.Connection, alert_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The verdict of the last counted trigger of each alert: one index range per alert."""
    log = alert_trigger_log.c
    latest = (
        sa.select(log.verdict)
        .where(log.alert_id == alert.c.id, log.outcome.in_([outcome.value for outcome in COUNTED]))
        .order_by(log.created_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    statement = sa.select(alert.c.id, latest.label("verdict")).where(alert.c.id.in_(alert_ids))
    return {row.id: row.verdict or {} for row in connection.execute(statement)}


def latest_annotations(connection: sa.Connection, alert_id: str) -> Mapping[str, str]:
    """Of the trigger whose values the alert shows: the last counted one."""
    log = alert_trigger_log.c
    statement = (
        sa.select(log.annotations)
        .where(log.alert_id == alert_id, log.outcome.in_([outcome.value for outcome in COUNTED]))
        .order_by(log.created_at.desc())
        .limit(1)
    )
    return connection.scalar(statement) or {}


def channels_of(connection: sa.Connection, alert_ids: Sequence[str]) -> dict[str, list[str]]:
    """The channels each alert was or will be told on, in alphabetical order."""
    statement = (
        sa.select(notification.c.alert_id, notification.c.channel_type)
        .where(notification.c.alert_id.in_(alert_ids))
        .distinct()
        .order_by(notification.c.channel_type)
    )
    channels: dict[str, list[str]] = {alert_id: [] for alert_id in alert_ids}
    for row in connection.execute(statement):
        channels[row.alert_id].append(row.channel_type)
    return channels


def comments_of(
    connection: sa.Connection, alert_id: str, limit: int = 200, before: Place | None = None, *, people: bool = False
) -> list[CommentRecord]:
    """Newest first; of `people` alone, or of all. Whether the alert may be seen is asked before."""
    by_people = [alert_comment.c.created_by != SYSTEM] if people else []
    columns = [alert_comment.c[name] for name in CommentRecord.__slots__]
    statement = (
        sa.select(*columns)
        .where(alert_comment.c.alert_id == alert_id, *by_people, *before_place(alert_comment, before))
        .order_by(alert_comment.c.created_at.desc(), alert_comment.c.id.desc())
        .limit(limit)
    )
    return [CommentRecord(**row) for row in connection.execute(statement).mappings()]


def comment_by_id(connection: sa.Connection, comment_id: str) -> CommentRecord:
    columns = [alert_comment.c[name] for name in CommentRecord.__slots__]
    statement = sa.select(*columns).where(alert_comment.c.id == comment_id)
    return CommentRecord(**connection.execute(statement).mappings().one())


def list_notifications(
    connection: sa.Connection, wanted: NotificationFilter, limit: int = 200, before: Place | None = None
) -> list[NotificationRecord]:
    """Newest first."""
    statement = (
        sa.select(*(notification.c[name] for name in NotificationRecord.__slots__))
        .where(*notification_conditions(wanted), *before_place(notification, before))
        .order_by(notification.c.created_at.desc(), notification.c.id.desc())
        .limit(limit)
    )
    rows = connection.execute(statement).mappings()
    return [NotificationRecord(**{**row, "status": NotificationStatus(row["status"])}) for row in rows]


def notification_conditions(wanted: NotificationFilter) -> list[sa.ColumnElement[bool]]:
    n = notification.c
    equal = {
        n.status: wanted.status.value if wanted.status else "",
        n.channel_type: wanted.channel,
        n.account_id: wanted.account_id,
        n.alert_id: wanted.alert_id,
    }
    conditions = [
        *within(n.account_id, wanted.accounts),
        *(column == value for column, value in equal.items() if value),
    ]
    if wanted.severity:
        conditions.append(n.priority == wanted.severity.rank)
    if wanted.since:
        conditions.append(n.created_at >= wanted.since)
    if wanted.until:
        conditions.append(n.created_at <= wanted.until)
    return conditions


def before_place(table: sa.Table, place: Place | None) -> list[sa.ColumnElement[bool]]:
    """What comes after a place in a list that is newest first."""
    if place is None:
        return []
    at, row_id = place
    return [table.c.created_at <= at, (table.c.created_at < at) | (table.c.id < row_id)]


def count_suppressed(connection: sa.Connection, since: datetime, accounts: frozenset[str] | None = None) -> Suppressed:
    """The one figure of the list's head that grows with the traffic: there may be hundreds of thousands in a day."""
    log = alert_trigger_log.c
    held_back = sa.select(sa.func.count(), sa.func.count(log.account_id.distinct())).where(
        log.created_at >= since, log.outcome == Outcome.SUPPRESSED.value, *within(log.account_id, accounts)
    )
    triggers, merchants = connection.execute(held_back).one()
    return Suppressed(triggers, merchants)


def statistics(
    connection: sa.Connection,
    day_start: datetime,
    suppressed: Suppressed | None = None,
    accounts: frozenset[str] | None = None,
) -> Statistics:
    """What the head of the list says, each statement on an index; `suppressed` where it was counted just before."""
    dynamic = alert_dynamic.c
    by_severity = (
        sa.select(dynamic.current_severity, sa.func.count())
        .select_from(alert_dynamic if accounts is None else alert_dynamic.join(alert))
        .where(dynamic.status == AlertStatus.ACTIVE.value, *within(alert.c.account_id, accounts))
        .group_by(dynamic.current_severity)
    )
    counted = {Severity(severity): count for severity, count in connection.execute(by_severity)}
    resolved = (
        sa.select(sa.func.count())
        .select_from(alert_dynamic if accounts is None else alert_dynamic.join(alert))
        .where(
            dynamic.status == AlertStatus.RESOLVED.value,
            _closed_since(day_start),
            *within(alert.c.account_id, accounts),
        )
    )
    suppressed = suppressed or count_suppressed(connection, day_start, accounts)
    return Statistics(
        active={severity: counted.get(severity, 0) for severity in Severity},
        resolved=connection.scalar(resolved) or 0,
        suppressed=suppressed.triggers,
        suppressed_accounts=suppressed.accounts,
    )
