"""What was held back, summed up: one message an hour at most for each merchant, on each of its channels.

A trigger counts until a message about its alert goes out after it, whatever the message's reason: that one tells of it
too. What is still snoozed waits, however long, also where others of its merchant are told meanwhile: `digested` says of
each alert up to when it was told. The row of the merchant in `digest` is taken by one of all workers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from webhook.domain.alert import AlertStatus, NotifyReason, Withheld
from webhook.domain.channel_choice import Channels, channels_of
from webhook.domain.gathered import SINGLY, HeldBack, digest_content
from webhook.domain.severity import Severity
from webhook.domain.throttle import NotificationPolicy
from webhook.storage.announcements import notification_row, state_of
from webhook.storage.config_rows import read_configs
from webhook.storage.delivery_tables import digest, digested
from webhook.storage.sessions import session_of
from webhook.storage.tables import alert, alert_dynamic, alert_trigger_log, notification

EVERY = timedelta(hours=1)
LOOK_BACK = timedelta(hours=26)
"""Held back longer ago than this, as after a long outage, it is no news any more, unless a person had snoozed it."""

_SUMMED_UP = (Withheld.FREQUENCY, Withheld.STRATEGY, Withheld.SNOOZED, Withheld.FLAPPING)
_PREFIX = "withheld:"


def tell_held_back(
    connection: sa.Connection, default: Callable[[str], Channels], now: datetime, after: str, limit: int
) -> tuple[int, str | None]:
    """Queue the digests that are due of up to `limit` merchants after `after`; how many are told, and the last one.

    `default`: the channels of an account that chose none. The last is None when no more are left.
    """
    accounts = _due(connection, now, after, limit)
    told = sum(_tell(connection, account_id, default(account_id), now) for account_id in accounts)
    return told, accounts[-1] if len(accounts) == limit else None


def _due(connection: sa.Connection, now: datetime, after: str, limit: int) -> list[str]:
    """Merchants of whom something was held back an hour ago or earlier that nobody was told of since."""
    log = alert_trigger_log.c
    query = (
        sa.select(log.account_id)
        .where(*_untold(now), log.account_id > after, log.created_at <= now - EVERY, ~_told_lately(log.account_id, now))
        .group_by(log.account_id)
        .order_by(log.account_id)
        .limit(limit)
    )
    return list(connection.scalars(query))


def _untold(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """Withheld triggers, since the last message about their alert and the last digest that told of it."""
    log, n, d = alert_trigger_log.c, notification.c, alert_dynamic.alias("asleep").c
    told = sa.exists().where(
        n.alert_id == log.alert_id, n.created_at >= log.created_at, n.reason != NotifyReason.MENTION.value
    )
    summed_up = sa.exists().where(digested.c.alert_id == log.alert_id, digested.c.told_at >= log.created_at)
    silent = sa.or_(d.snoozed_until > now, d.status == AlertStatus.DISMISSED.value)
    snoozed = log.notify == f"{_PREFIX}{Withheld.SNOOZED}"
    return (
        sa.or_(log.created_at > now - LOOK_BACK, snoozed),
        log.notify != "",
        log.notify.in_([f"{_PREFIX}{why}" for why in _SUMMED_UP]),
        log.alert_id.is_not(None),
        ~told,
        ~summed_up,
        ~sa.exists().where(d.alert_id == log.alert_id, silent),
    )


def _told_lately(account_id: sa.ColumnElement[str], now: datetime) -> sa.Exists:
    return sa.exists().where(digest.c.account_id == account_id, digest.c.told_at > now - EVERY)


def _tell(connection: sa.Connection, account_id: str, default: Channels, now: datetime) -> bool:
    """Each channel hears of what it would have heard of; a merchant that wants no digest has had its turn.

    What is of a type that the merchant snoozed waits.
    """
    held = _held_back(connection, account_id, now)
    configs = read_configs(connection, {(account_id, one.alert_type) for one in held})
    policies = {one.alert_type: NotificationPolicy.of(configs.get((account_id, one.alert_type))) for one in held}
    awake = [one for one in held if not _snoozed(policies[one.alert_type], now)]
    if not awake:
        return False
    of_channel: dict[str, tuple[Mapping[str, Any], list[HeldBack]]] = {}
    for one in awake:
        if policies[one.alert_type].digest:
            wanted = channels_of(configs.get((account_id, one.alert_type)), default, one.severity)
            for channel, settings in wanted.items():
                if channel not in SINGLY:
                    of_channel.setdefault(channel, (settings, []))[1].append(one)
    if not _take(connection, account_id, now):
        return False
    _note_told(connection, [one.alert_id for one in awake], now)
    if not of_channel:
        return False
    rows = [_row(connection, channel, settings, of, now) for channel, (settings, of) in of_channel.items()]
    connection.execute(sa.insert(notification), rows)
    return True


def _snoozed(policy: NotificationPolicy, now: datetime) -> bool:
    return policy.snoozed_until is not None and policy.snoozed_until > now


def _held_back(connection: sa.Connection, account_id: str, now: datetime) -> list[HeldBack]:
    """By alert, the gravest first."""
    log, d = alert_trigger_log.c, alert_dynamic.c
    query = (
        sa.select(log.alert_id, log.alert_type, log.notify, log.created_at, d.current_severity)
        .join(alert_dynamic, d.alert_id == log.alert_id)
        .where(*_untold(now), log.account_id == account_id)
        .order_by(log.created_at)
    )
    reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
    first: dict[str, Any] = {}
    for row in connection.execute(query):
        first.setdefault(row.alert_id, row)
        reasons[row.alert_id][row.notify.removeprefix(_PREFIX)] += 1
    held = [
        HeldBack(id_, row.alert_type, Severity(row.current_severity), reasons[id_], row.created_at)
        for id_, row in first.items()
    ]
    return sorted(held, key=lambda one: (-one.severity.rank, one.since, one.alert_id))


def _take(connection: sa.Connection, account_id: str, now: datetime) -> bool:
    """False where another worker has told this merchant within the hour."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    wanted = insert(digest).values(account_id=account_id, told_at=now)
    taken = wanted.on_conflict_do_update(
        index_elements=["account_id"], set_={"told_at": now}, where=digest.c.told_at <= now - EVERY
    )
    return connection.scalar(taken.returning(digest.c.account_id)) is not None


def _note_told(connection: sa.Connection, alert_ids: Sequence[str], now: datetime) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    told = insert(digested).values([{"alert_id": alert_id, "told_at": now} for alert_id in sorted(alert_ids)])
    connection.execute(told.on_conflict_do_update(index_elements=["alert_id"], set_={"told_at": now}))


def _row(
    connection: sa.Connection,
    channel: str,
    settings: Mapping[str, Any],
    held: Sequence[HeldBack],
    now: datetime,
) -> dict[str, Any]:
    """It hangs on the gravest alert and is as urgent; what it says it brings along."""
    query = (
        sa.select(alert_dynamic, alert.c.account_id, alert.c.alert_type, alert.c.merchant_name)
        .join(alert, alert.c.id == alert_dynamic.c.alert_id)
        .where(alert.c.id == held[0].alert_id)
    )
    row = connection.execute(query).mappings().one()
    session = session_of(row)
    content = {
        **state_of(session, NotifyReason.DIGEST),
        "merchant_name": row["merchant_name"],
        "metrics": row["latest_metrics"],
        "thresholds": {},
        "channel_settings": dict(settings),
        "digest": digest_content(held),
    }
    return notification_row(session, NotifyReason.DIGEST, channel, content, comment_id=None, now=now)
