"""The trigger log, searched: newest first, and never more of it read at once than one can wait for."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from webhook.storage.queries import before_place, within
from webhook.storage.records import Place, TriggerFilter, TriggerPage, TriggerRecord
from webhook.storage.tables import alert_trigger_log

LOOKED_THROUGH = 20_000
"""Rows that one request looks through for what no index finds; the next one goes on where it stopped."""


def list_triggers(connection: sa.Connection, wanted: TriggerFilter, limit: int = 50) -> TriggerPage:
    """Newest first; ask on with `before` = `next` of the page."""
    log = alert_trigger_log
    renamed = {"metrics": "metrics_data"}
    columns = [log.c[renamed.get(name, name)].label(name) for name in TriggerRecord.__slots__]
    indexed, others = _indexed(wanted), _others(wanted)
    if wanted.account:
        exact = log.c.account_id == wanted.account
        if connection.scalar(sa.select(sa.literal(1)).where(exact).limit(1)):
            indexed.append(exact)
        else:
            others.append(_named(wanted.account))
    newest = (log.c.created_at.desc(), log.c.id.desc())
    statement = sa.select(*columns).where(*indexed, *others).order_by(*newest).limit(limit + 1)
    horizon = _horizon(connection, indexed) if others else None
    if horizon is not None:
        at, row_id = horizon
        statement = statement.where(log.c.created_at >= at, (log.c.created_at > at) | (log.c.id >= row_id))
    records = [TriggerRecord(**row) for row in connection.execute(statement).mappings()]
    if len(records) > limit:
        last = records[limit - 1]
        return TriggerPage(records[:limit], (last.created_at, last.id))
    return TriggerPage(records, horizon)


def _horizon(connection: sa.Connection, indexed: list[sa.ColumnElement[bool]]) -> Place | None:
    """The last row that this request looks through; None where it can look through all."""
    log = alert_trigger_log.c
    place = (
        sa.select(log.created_at, log.id)
        .where(*indexed)
        .order_by(log.created_at.desc(), log.id.desc())
        .offset(LOOKED_THROUGH - 1)
        .limit(1)
    )
    row = connection.execute(place).one_or_none()
    return None if row is None else (row[0], row[1])


def _indexed(wanted: TriggerFilter) -> list[sa.ColumnElement[bool]]:
    log = alert_trigger_log.c
    conditions = [*within(log.account_id, wanted.accounts), *before_place(alert_trigger_log, wanted.before)]
    if wanted.alert_id:
        conditions.append(log.alert_id == wanted.alert_id)
    if wanted.outcome:
        conditions.append(log.outcome == wanted.outcome.value)
    if wanted.since:
        conditions.append(log.created_at >= wanted.since)
    if wanted.until:
        conditions.append(log.created_at <= wanted.until)
    return conditions


def _others(wanted: TriggerFilter) -> list[sa.ColumnElement[bool]]:
    log = alert_trigger_log.c
    equal: dict[sa.Column[Any], str] = {
        log.alert_type: wanted.alert_type,
        log.alert_name: wanted.alert_name,
        log.status: wanted.status or "",
        log.severity: wanted.severity or "",
    }
    conditions: list[sa.ColumnElement[bool]] = [column == str(value) for column, value in equal.items() if value]
    if wanted.reason:
        conditions.append(log.outcome_reason.icontains(wanted.reason, autoescape=True))
    if wanted.label:
        conditions.append(sa.cast(log.labels, sa.Text).icontains(wanted.label, autoescape=True))
    return conditions


def _named(account: str) -> sa.ColumnElement[bool]:
    """An account that nobody has by this id: part of a merchant's name or id."""
    log = alert_trigger_log.c
    name: sa.ColumnElement[str] = log.labels["merchant_name"].as_string()
    in_name: sa.ColumnElement[bool] = name.icontains(account, autoescape=True)
    return in_name | log.account_id.icontains(account, autoescape=True)
