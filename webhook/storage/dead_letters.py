"""Messages that were given up: sent once more, or discarded. Each change is audited."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

from webhook.domain.action import Doing
from webhook.domain.alert import AlertStatus, NotificationStatus, NotifyReason
from webhook.domain.channel_choice import Channels, channels_for, channels_of
from webhook.domain.target import target_of
from webhook.storage.access_tables import audit_log
from webhook.storage.audit import audit_row
from webhook.storage.config_rows import read_configs
from webhook.storage.database import Database
from webhook.storage.queries import notification_conditions
from webhook.storage.records import NotificationFilter
from webhook.storage.tables import alert_dynamic, notification
from webhook.storage.transactions import transaction

_FAILED, _PENDING = NotificationStatus.FAILED.value, NotificationStatus.PENDING.value
_TOLD = (notification.c.id, notification.c.account_id, notification.c.alert_id)

BATCH = 500
"""Letters queued in one transaction: their alerts are locked meanwhile."""

DISMISSED, ENDED, NO_CHANNEL = "alert_dismissed", "alert_ended", "no_channel"
WORDS: Mapping[str, str] = {
    DISMISSED: "its alert was dismissed, so nobody is told of it",
    ENDED: "its alert has ended: only the end itself can still be told",
    NO_CHANNEL: "the merchant has no such channel any more",
}
"""Why a letter stays where it is."""


@dataclass(slots=True)
class Replayed:
    """How many letters were queued, and why how many others were not: a key of WORDS each."""

    count: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


class DeadLetters:
    """What a merchant has chosen since counts for a replay; `channels` are those of who chose none."""

    def __init__(self, database: Database, channels: Channels, operations: Channels | None = None) -> None:
        self._database = database
        self._default = partial(channels_for, default=channels, operations=operations)

    def replay(self, wanted: NotificationFilter, doing: Doing, notification_id: str | None = None) -> Replayed:
        """Queue all that match, or one, with their merchants' present settings and a day's tries from now."""
        done, matching = Replayed(), _matching(wanted, notification_id)
        after: str | None = ""
        while after is not None:
            with transaction(self._database) as connection:
                after = self._replay(connection, matching, after, doing, done)
        return done

    def _replay(
        self,
        connection: sa.Connection,
        matching: list[sa.ColumnElement[bool]],
        after: str,
        doing: Doing,
        done: Replayed,
    ) -> str | None:
        """One batch; the last id that was looked at, None when there are no more."""
        letters, last = _lock(connection, matching, after)
        configs = read_configs(connection, {(row["account_id"], row["alert_type"]) for row in letters})
        rows, queued = [], []
        for row in letters:
            channels = channels_of(
                configs.get((row["account_id"], row["alert_type"])), self._default(row["account_id"])
            )
            why_not = _why_not(row, channels)
            if why_not:
                done.skipped[why_not] += 1
            else:
                settings = dict(channels[row["channel_type"]])
                content = {**row["content"], "channel_settings": settings}
                rows.append(
                    {"of_id": row["id"], "content": content, "target": target_of(row["channel_type"], settings)}
                )
                queued.append(row)
        if rows:
            again = sa.update(notification).where(notification.c.id == sa.bindparam("of_id"))
            connection.execute(again.values(**_as_new(doing.now), requested_by=doing.actor), rows)
            _audit(connection, "dead_letters_replayed", queued, doing)
        done.count += len(rows)
        return last

    def discard(self, wanted: NotificationFilter, doing: Doing, notification_id: str | None = None) -> int:
        """Delete all that match, or one; return how many."""
        gone = sa.delete(notification).where(*_matching(wanted, notification_id)).returning(*_TOLD)
        with transaction(self._database) as connection:
            letters = [dict(row) for row in connection.execute(gone).mappings()]
            _audit(connection, "dead_letters_discarded", letters, doing)
            return len(letters)


def _lock(
    connection: sa.Connection, matching: list[sa.ColumnElement[bool]], after: str
) -> tuple[list[dict[str, Any]], str | None]:
    """The next letters in order of id, and the last id that was looked at unless it is the last of all.

    Their alerts are locked first, in the order that all keep to: none ends meanwhile.
    """
    n, d = notification.c, alert_dynamic.c
    ids = sa.select(n.id, n.alert_id).where(*matching).order_by(n.id).limit(BATCH)
    found = connection.execute(ids.where(n.id > after) if after else ids).all()
    alerts = sa.select(d.alert_id, d.status).where(d.alert_id.in_({row.alert_id for row in found}))
    in_order = alerts.order_by(d.condition_fingerprint, d.last_triggered_at, d.id).with_for_update()
    status = {row.alert_id: row.status for row in connection.execute(in_order)}
    columns = (n.id, n.alert_id, n.account_id, n.alert_type, n.channel_type, n.reason, n.content)
    still = sa.select(*columns).where(n.id.in_([row.id for row in found]), n.status == _FAILED).order_by(n.id)
    rows = connection.execute(still.with_for_update()).mappings().all()
    letters = [{**row, "alert_status": status.get(row["alert_id"])} for row in rows]
    return letters, found[-1].id if len(found) == BATCH else None


def _why_not(letter: Mapping[str, Any], channels: Channels) -> str:
    """A key of WORDS; empty where it can be sent. Nobody is told that something fires which has ended."""
    if letter["alert_status"] == AlertStatus.DISMISSED.value:
        return DISMISSED
    if letter["alert_status"] != AlertStatus.ACTIVE.value and letter["reason"] != NotifyReason.RESOLVED.value:
        return ENDED
    return "" if letter["channel_type"] in channels else NO_CHANNEL


def _matching(wanted: NotificationFilter, notification_id: str | None) -> list[sa.ColumnElement[bool]]:
    one = [notification.c.id == notification_id] if notification_id is not None else []
    return [notification.c.status == _FAILED, *notification_conditions(wanted), *one]


def _as_new(now: datetime) -> dict[str, object]:
    return {
        "status": _PENDING,
        "not_before": now,
        "replayed_at": now,
        "failed_at": None,
        "error_message": None,
        "retry_count": 0,
        "lost_leases": 0,
        "group_id": None,
        "delivered_at": None,
    }


def _audit(connection: sa.Connection, action: str, letters: Iterable[Mapping[str, Any]], doing: Doing) -> None:
    """One row for each alert, so that its merchant sees it."""
    of_alert: dict[tuple[str, str], list[str]] = defaultdict(list)
    for letter in letters:
        of_alert[letter["account_id"], letter["alert_id"]].append(letter["id"])
    by = replace(doing.by, name=doing.actor)
    rows = [
        audit_row(
            by, action, doing.now, account_id=account_id, alert_id=alert_id,
            details={"count": len(ids), "notification_ids": ids},
        )
        for (account_id, alert_id), ids in of_alert.items()
    ]  # fmt: skip
    if rows:
        connection.execute(sa.insert(audit_log), rows)
