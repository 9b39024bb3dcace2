"""The trigger log, searched: newest first, and never more of it read at once than one can wait for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from webhook.storage.queries import before_place, containing, within
from webhook.storage.records import Place, TriggerFilter, TriggerPage, TriggerRecord
from webhook.storage.tables import alert_trigger_log

LOOKED_THROUGH = 20_000
"""Rows that one request looks through for what no index finds; the next one goes on where it stopped."""

MOST_ACCOUNTS = 5_000
"""Accounts whose names one request looks through; where there are more, it looks through rows instead."""

MERGED = 20
"""Accounts whose triggers are read each from its index and merged; those of more are met on the way."""


def list_triggers(connection: sa.Connection, wanted: TriggerFilter, limit: int = 50) -> TriggerPage:
    """Newest first; ask on with `before` = `next` of the page."""
    log = alert_trigger_log
    renamed = {"metrics": "metrics_data"}
    columns = [log.c[renamed.get(name, name)].label(name) for name in TriggerRecord.__slots__]
    statement = sa.select(*columns).order_by(log.c.created_at.desc(), log.c.id.desc()).limit(limit + 1)
    indexed, others = _indexed(wanted), _others(wanted)
    accounts = _accounts(connection, wanted)
    horizon = None
    if accounts is not None and len(accounts) != 1 and len(accounts) <= MERGED and not others:
        statement = statement.where(log.c.id.in_(_merged(accounts, indexed, limit + 1)))
    else:
        indexed += within(log.c.account_id, wanted.accounts)
        if accounts is not None and len(accounts) == 1:
            indexed.append(log.c.account_id == accounts[0])
        elif wanted.account:
            others.append(_named(wanted.account) if accounts is None else log.c.account_id.in_(accounts))
        horizon = _horizon(connection, indexed) if others else None
        statement = statement.where(*indexed, *others, *_from(horizon))
    records = [TriggerRecord(**row) for row in connection.execute(statement).mappings()]
    if len(records) > limit:
        last = records[limit - 1]
        return TriggerPage(records[:limit], (last.created_at, last.id))
    return TriggerPage(records, horizon)


def _accounts(connection: sa.Connection, wanted: TriggerFilter) -> list[str] | None:
    """Those that are meant; None where that is all, or where they are too many to be looked through."""
    if not wanted.account:
        return None if wanted.accounts is None else sorted(wanted.accounts)
    exact = sa.select(sa.literal(1)).where(alert_trigger_log.c.account_id == wanted.account).limit(1)
    if connection.scalar(exact):
        return [wanted.account] if wanted.accounts is None or wanted.account in wanted.accounts else []
    return _accounts_named(connection, wanted.account, wanted.accounts)


def _accounts_named(connection: sa.Connection, text: str, accounts: frozenset[str] | None) -> list[str] | None:
    """With `text` in their id or in the name that they were last received by; each costs two looks at an index."""
    known = _known_accounts() if accounts is None else _these(accounts)
    log = alert_trigger_log.alias("latest")
    latest = (
        sa.select(log.c.labels["merchant_name"].as_string())
        .where(log.c.account_id == known.c.account_id, log.c.source != "sweep")  # whose entries have no labels
        .order_by(log.c.created_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    named = containing(known.c.account_id, text) | sa.func.coalesce(containing(latest, text), sa.false())
    query = sa.select(known.c.account_id, named).where(known.c.account_id.is_not(None)).limit(MOST_ACCOUNTS + 1)
    rows = connection.execute(query).all()
    return None if len(rows) > MOST_ACCOUNTS else [row[0] for row in rows if row[1]]


def _known_accounts() -> sa.CTE:
    """All accounts of the log in order, each found from the one before it in the index; a NULL ends them."""
    log = alert_trigger_log.c
    known = sa.select(sa.func.min(log.account_id).label("account_id")).cte("known", recursive=True)
    following = sa.select(sa.func.min(log.account_id)).where(log.account_id > known.c.account_id)
    return known.union_all(sa.select(following.scalar_subquery()).where(known.c.account_id.is_not(None)))


def _these(accounts: Collection[str]) -> sa.CTE:
    named = [sa.select(sa.literal(account, sa.String).label("account_id")) for account in sorted(accounts)]
    return sa.union_all(*(named or [sa.select(sa.null().label("account_id"))])).cte("known")


def _merged(accounts: Collection[str], indexed: list[sa.ColumnElement[bool]], limit: int) -> sa.Select[tuple[str]]:
    """Ids of the newest triggers of all these accounts: the newest of each."""
    log = alert_trigger_log.c
    if not accounts:
        return sa.select(log.id).where(sa.false())
    newest = [
        sa.select(log.id, log.created_at)
        .where(log.account_id == account, *indexed)
        .order_by(log.created_at.desc(), log.id.desc())
        .limit(limit)
        .subquery()
        .select()
        for account in accounts
    ]
    each = sa.union_all(*newest).subquery()
    return sa.select(each.c.id).order_by(each.c.created_at.desc(), each.c.id.desc()).limit(limit)


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


def _from(horizon: Place | None) -> list[sa.ColumnElement[bool]]:
    log = alert_trigger_log.c
    if horizon is None:
        return []
    at, row_id = horizon
    return [log.created_at >= at, (log.created_at > at) | (log.id >= row_id)]


def _indexed(wanted: TriggerFilter) -> list[sa.ColumnElement[bool]]:
    log = alert_trigger_log.c
    conditions = before_place(alert_trigger_log, wanted.before)
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
        conditions.append(containing(log.outcome_reason, wanted.reason))
    if wanted.label:
        conditions.append(containing(sa.cast(log.labels, sa.Text), wanted.label))
    return conditions


def _named(account: str) -> sa.ColumnElement[bool]:
    """An account that nobody has by this id: part of a merchant's name or id."""
    log = alert_trigger_log.c
    return containing(log.labels["merchant_name"].as_string(), account) | containing(log.account_id, account)
