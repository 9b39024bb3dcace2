"""What people and the API read: alerts, their history, and the trigger log. Each function is one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotificationStatus, Outcome, SessionStatus
from webhook.domain.severity import Severity
from webhook.storage.records import (
    AlertFilter,
    AlertRecord,
    AlertSort,
    CommentRecord,
    NotificationRecord,
    Statistics,
    Suppressed,
    TriggerFilter,
    TriggerRecord,
)
from webhook.storage.tables import (
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
        *(dynamic[name] for name in ("version", "updated_at")),
    )


def _alert_record(row: sa.RowMapping) -> AlertRecord:
    values = dict(row)
    values["original_severity"] = Severity(row["original_severity"])
    values["severity"] = Severity(row["severity"])
    values["status"] = AlertStatus(row["status"])
    values["session_status"] = SessionStatus(row["session_status"])
    return AlertRecord(**values)


def _alert_conditions(wanted: AlertFilter, accounts: frozenset[str] | None) -> list[sa.ColumnElement[bool]]:
    conditions = _of(alert.c.account_id, accounts)
    if wanted.alert_type:
        conditions.append(alert.c.alert_type == wanted.alert_type)
    if wanted.account_id:
        conditions.append(alert.c.account_id == wanted.account_id)
    if wanted.search:
        conditions.append(
            alert.c.merchant_name.icontains(wanted.search, autoescape=True)
            | alert.c.account_id.icontains(wanted.search, autoescape=True)
        )
    if wanted.since:
        conditions.append(alert.c.created_at >= wanted.since)
    if wanted.until:
        conditions.append(alert.c.created_at <= wanted.until)
    return conditions + _dynamic_conditions(wanted)


def _of(column: sa.Column[str], accounts: frozenset[str] | None) -> list[sa.ColumnElement[bool]]:
    """None is all accounts, an empty set none."""
    return [] if accounts is None else [column.in_(sorted(accounts))]


def _dynamic_conditions(wanted: AlertFilter) -> list[sa.ColumnElement[bool]]:
    conditions = []
    if wanted.severity:
        conditions.append(alert_dynamic.c.current_severity == wanted.severity.value)
    if wanted.status:
        conditions.append(alert_dynamic.c.status == wanted.status.value)
    if wanted.resolved_since:
        conditions.append(_closed_since(wanted.resolved_since))
    return conditions


def _closed_since(since: datetime) -> sa.ColumnElement[bool]:
    # Closing is an update, so `updated_at`, which has an index, bounds `resolved_at`, which has none.
    return (alert_dynamic.c.updated_at >= since) & (alert_dynamic.c.resolved_at >= since)


def count_alerts(connection: sa.Connection, wanted: AlertFilter, *, accounts: frozenset[str] | None = None) -> int:
    # Every alert has its dynamic row: it is joined only where a condition reads it.
    source = alert.join(alert_dynamic) if _dynamic_conditions(wanted) else alert
    statement = sa.select(sa.func.count()).select_from(source).where(*_alert_conditions(wanted, accounts))
    return connection.scalar(statement) or 0


def list_alerts(
    connection: sa.Connection,
    wanted: AlertFilter,
    *,
    accounts: frozenset[str] | None = None,
    sort: AlertSort = AlertSort.TIME,
    descending: bool = True,
    limit: int = 20,
    offset: int = 0,
) -> list[AlertRecord]:
    """Newest first, or gravest first and then newest; the id settles ties, so that pages never overlap.

    `descending` severity is gravest first; P0 is the gravest, so that is ascending in the column.
    """
    order: list[sa.ColumnElement[Any]] = [alert.c.created_at.desc(), alert.c.id.desc()]
    if sort is AlertSort.SEVERITY:
        severity = alert_dynamic.c.current_severity
        order.insert(0, severity.asc() if descending else severity.desc())
    elif not descending:
        order = [alert.c.created_at.asc(), alert.c.id.asc()]
    statement = (
        sa.select(*_alert_columns())
        .select_from(alert.join(alert_dynamic))
        .where(*_alert_conditions(wanted, accounts))
        .order_by(*order)
        .limit(limit)
        .offset(offset)
    )
    return [_alert_record(row) for row in connection.execute(statement).mappings()]


def alert_by_id(
    connection: sa.Connection, alert_id: str, *, accounts: frozenset[str] | None = None
) -> AlertRecord | None:
    """None when there is none; `alert_id` has to be a UUID."""
    statement = (
        sa.select(*_alert_columns())
        .select_from(alert.join(alert_dynamic))
        .where(alert.c.id == alert_id, *_of(alert.c.account_id, accounts))
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


def comments_of(connection: sa.Connection, alert_id: str, limit: int = 200) -> list[CommentRecord]:
    """Newest first."""
    columns = [alert_comment.c[name] for name in CommentRecord.__slots__]
    statement = (
        sa.select(*columns)
        .where(alert_comment.c.alert_id == alert_id)
        .order_by(alert_comment.c.created_at.desc(), alert_comment.c.id)
        .limit(limit)
    )
    return [CommentRecord(**row) for row in connection.execute(statement).mappings()]


def notifications_of(connection: sa.Connection, alert_id: str, limit: int = 200) -> list[NotificationRecord]:
    """Newest first."""
    columns = [notification.c[name] for name in NotificationRecord.__slots__]
    statement = (
        sa.select(*columns)
        .where(notification.c.alert_id == alert_id)
        .order_by(notification.c.created_at.desc(), notification.c.id)
        .limit(limit)
    )
    rows = connection.execute(statement).mappings()
    return [NotificationRecord(**{**row, "status": NotificationStatus(row["status"])}) for row in rows]


def _trigger_conditions(wanted: TriggerFilter) -> list[sa.ColumnElement[bool]]:
    log = alert_trigger_log.c
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.alert_id:
        conditions.append(log.alert_id == wanted.alert_id)
    if wanted.outcome:
        conditions.append(log.outcome == wanted.outcome.value)
    if wanted.since:
        conditions.append(log.created_at >= wanted.since)
    if wanted.before:
        at, trigger_id = wanted.before
        conditions += [log.created_at <= at, (log.created_at < at) | (log.id < trigger_id)]
    return conditions


def _account_condition(connection: sa.Connection, account: str) -> sa.ColumnElement[bool]:
    """An account id that is known is matched exactly, by index; anything else is part of a name."""
    log = alert_trigger_log.c
    known = sa.select(sa.literal(1)).where(log.account_id == account).limit(1)
    if connection.scalar(known):
        return log.account_id == account
    name: sa.ColumnElement[str] = log.labels["merchant_name"].as_string()
    in_name: sa.ColumnElement[bool] = name.icontains(account, autoescape=True)
    return in_name | log.account_id.icontains(account, autoescape=True)


def list_triggers(
    connection: sa.Connection, wanted: TriggerFilter, limit: int = 50, *, accounts: frozenset[str] | None = None
) -> list[TriggerRecord]:
    """Newest first; ask on with `before` = (created_at, id) of the last one."""
    log = alert_trigger_log.c
    renamed = {"metrics": "metrics_data"}
    columns = [log[renamed.get(name, name)].label(name) for name in TriggerRecord.__slots__]
    statement = sa.select(*columns).where(*_trigger_conditions(wanted), *_of(log.account_id, accounts))
    if wanted.account:
        statement = statement.where(_account_condition(connection, wanted.account))
    statement = statement.order_by(log.created_at.desc(), log.id.desc()).limit(limit)
    return [TriggerRecord(**row) for row in connection.execute(statement).mappings()]


def count_suppressed(
    connection: sa.Connection, since: datetime, *, accounts: frozenset[str] | None = None
) -> Suppressed:
    """The one figure of the list's head that grows with the traffic: there may be hundreds of thousands in a day."""
    log = alert_trigger_log.c
    held_back = sa.select(sa.func.count(), sa.func.count(log.account_id.distinct())).where(
        log.created_at >= since, log.outcome == Outcome.SUPPRESSED.value, *_of(log.account_id, accounts)
    )
    return Suppressed(*connection.execute(held_back).one())


def statistics(
    connection: sa.Connection,
    day_start: datetime,
    suppressed: Suppressed | None = None,
    *,
    accounts: frozenset[str] | None = None,
) -> Statistics:
    """What the head of the list says, each statement on an index; `suppressed` where it was counted just before."""
    dynamic = alert_dynamic.c
    source = alert_dynamic if accounts is None else alert.join(alert_dynamic)
    mine = _of(alert.c.account_id, accounts)
    by_severity = (
        sa.select(dynamic.current_severity, sa.func.count())
        .select_from(source)
        .where(dynamic.status == AlertStatus.ACTIVE.value, *mine)
        .group_by(dynamic.current_severity)
    )
    counted = {Severity(severity): count for severity, count in connection.execute(by_severity)}
    resolved = (
        sa.select(sa.func.count())
        .select_from(source)
        .where(dynamic.status == AlertStatus.RESOLVED.value, _closed_since(day_start), *mine)
    )
    suppressed = suppressed or count_suppressed(connection, day_start, accounts=accounts)
    return Statistics(
        active={severity: counted.get(severity, 0) for severity in Severity},
        resolved=connection.scalar(resolved) or 0,
        suppressed=suppressed.triggers,
        suppressed_accounts=suppressed.accounts,
    )
