"""Conditions that end and fire again: what the store remembers of them, and what is done when they have calmed down."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.alert import (
    AlertSession,
    AlertStatus,
    AlertTypes,
    CommentType,
    NotificationStatus,
    NotifyReason,
    Trigger,
    TriggerStatus,
)
from webhook.domain.flapping import Flapping, calmed, holds_back
from webhook.domain.severity import Severity
from webhook.storage.bulk import Write
from webhook.storage.tables import alert_comment, alert_dynamic, alert_flapping, alert_instance, notification
from webhook.storage.telling import tell_ends

FLAPPING = Write("upsert", alert_flapping, key=("condition_fingerprint",))

Attacking = dict[str, set[tuple[str, datetime]]]


def read_flapping(
    connection: sa.Connection, conditions: Collection[str], alert_types: AlertTypes, now: datetime
) -> tuple[Attacking, dict[str, Flapping]]:
    """Of conditions that fired within the longest window: the instances that still do, and what is remembered.

    One statement, without a lock: their sessions are locked already, and of those without one a constraint lets the
    first of two deliveries through.
    """
    windows = (settings.flapping_window for settings in (alert_types.default, *alert_types.by_type.values()))
    asked = {"conditions": sorted(conditions), "since": now - max(windows)}
    attacking: Attacking = {}
    states: dict[str, Flapping] = {}
    for row in connection.execute(_lately(), asked):
        keys = attacking.setdefault(row.condition_fingerprint, set())
        if row.fingerprint is not None:
            keys.add((row.fingerprint, row.starts_at))
        if row.restarts is not None:
            states[row.condition_fingerprint] = _state(row)
    return attacking, states


@cache
def _lately() -> sa.Select[Any]:
    d, i, f = alert_dynamic.c, alert_instance.c, alert_flapping.c
    return (
        sa.select(d.condition_fingerprint, i.fingerprint, i.starts_at, f.restarts, f.flapping_since, f.told_at)
        .select_from(
            alert_dynamic.outerjoin(alert_instance, _attacks(d.alert_id)).outerjoin(
                alert_flapping, f.condition_fingerprint == d.condition_fingerprint
            )
        )
        .where(
            d.condition_fingerprint.in_(sa.bindparam("conditions", expanding=True)),
            d.last_triggered_at > sa.bindparam("since", type_=d.last_triggered_at.type),
        )
    )


def _attacks(alert_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Of an instance: it fires for this alert, and was not suppressed when last heard."""
    i = alert_instance.c
    return sa.and_(i.alert_id == alert_id, i.status == TriggerStatus.FIRING.value, i.last_passed_at == i.last_heard_at)


def flapping_rows(changed: Mapping[str, tuple[Flapping, Trigger]], now: datetime) -> list[dict[str, Any]]:
    """Rows for `FLAPPING`, in order of condition."""
    return [
        {
            "condition_fingerprint": condition,
            "account_id": trigger.account_id,
            "alert_type": trigger.alert_type,
            "restarts": [time.isoformat() for time in state.restarts],
            "flapping_since": state.since,
            "told_at": state.told_at,
            "updated_at": now,
        }
        for condition, (state, trigger) in sorted(changed.items())
    ]


def held_back(connection: sa.Connection, sessions: Sequence[AlertSession]) -> set[str]:
    """Ids of alerts whose ends are not told now: their condition flaps, and they are not at P0. Locks its state."""
    f = alert_flapping.c
    query = (
        sa.select(f.condition_fingerprint)
        .where(
            f.condition_fingerprint.in_(sorted({session.condition_fingerprint for session in sessions})),
            f.flapping_since.is_not(None),
        )
        .order_by(f.condition_fingerprint)
        .with_for_update()
    )
    flapping = set(connection.scalars(query))
    return {s.alert_id for s in sessions if s.condition_fingerprint in flapping and s.severity is not Severity.P0}


def calm_down(
    connection: sa.Connection, alert_types: AlertTypes, now: datetime, after: str, limit: int
) -> tuple[int, str | None]:
    """End the flapping of conditions that have calmed down, and tell the ends that were held back meanwhile.

    Looks at `limit` conditions after the one named; returns how many calmed down, and the last looked at if there may
    be more.
    """
    f = alert_flapping.c
    flapping = (
        sa.select(alert_flapping)
        .where(f.flapping_since.is_not(None), f.condition_fingerprint > after)
        .order_by(f.condition_fingerprint)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(flapping).all()
    over = [row for row in rows if not holds_back(_state(row), alert_types[row.alert_type], now)]
    for row in over:  # few: a condition that flaps is an exception
        state = calmed(_state(row), alert_types[row.alert_type], now)
        ours = sa.update(alert_flapping).where(f.condition_fingerprint == row.condition_fingerprint)
        restarts = [time.isoformat() for time in state.restarts]
        connection.execute(ours.values(restarts=restarts, flapping_since=None, told_at=None, updated_at=now))
        _tell_calm(connection, row.condition_fingerprint, row.flapping_since, now)
    return len(over), rows[-1].condition_fingerprint if len(rows) == limit else None


def end_flapping(connection: sa.Connection, calmed: Mapping[str, datetime], now: datetime) -> None:
    """Tell what was held back of conditions that flapped since the times given, unless a sweep has done so."""
    f = alert_flapping.c
    for condition, since in sorted(calmed.items()):
        ours = sa.update(alert_flapping).where(f.condition_fingerprint == condition, f.flapping_since == since)
        if connection.execute(ours.values(flapping_since=None, told_at=None, updated_at=now)).rowcount:
            _tell_calm(connection, condition, since, now)


def _tell_calm(connection: sa.Connection, condition: str, since: datetime, now: datetime) -> None:
    """A comment on the last alert and on each whose end is owed, and those ends."""
    owed = _owed(connection, condition, since)
    d = alert_dynamic.c
    last = connection.scalar(
        sa.select(d.alert_id).where(d.condition_fingerprint == condition).order_by(d.last_triggered_at.desc()).limit(1)
    )
    comment_ids = {alert_id: str(uuid4()) for alert_id in dict.fromkeys([*owed, *([last] if last else [])])}
    comments = [
        {
            "id": comment_id,
            "alert_id": alert_id,
            "comment_type": CommentType.SYSTEM_LOG.value,
            "content": "Flapping is over"
            + (": the end of this alert, held back meanwhile, is told now" if alert_id in owed else ""),
            "metadata": {"flapping": "over", "since": since.isoformat()},
            "created_at": now,
        }
        for alert_id, comment_id in comment_ids.items()
    ]
    if comments:
        connection.execute(sa.insert(alert_comment), comments)
    tell_ends(connection, {alert_id: comment_ids[alert_id] for alert_id in owed}, now)


def _owed(connection: sa.Connection, condition: str, since: datetime) -> list[str]:
    """Alerts of which people were told that they fire, and that ended while the condition was flapping, unsaid.

    What may still be firing, and was merely not heard of within the window, has not ended.
    """
    d, n = alert_dynamic.c, notification.c
    of_alert = sa.exists().where(n.alert_id == d.alert_id, n.status != NotificationStatus.FAILED.value)
    ended = n.reason == NotifyReason.RESOLVED.value
    query = (
        sa.select(d.alert_id)
        .where(
            d.condition_fingerprint == condition,
            d.status == AlertStatus.RESOLVED.value,
            d.resolved_at >= since,
            of_alert.where(~ended),
            ~sa.exists().where(n.alert_id == d.alert_id, ended),
            ~sa.exists().where(_attacks(d.alert_id)),
        )
        .order_by(d.resolved_at)
    )
    return list(connection.scalars(query))


def _state(row: Any) -> Flapping:  # noqa: ANN401 - a row with some columns of alert_flapping
    restarts = tuple(datetime.fromisoformat(time) for time in row.restarts)
    return Flapping(restarts, row.flapping_since, row.told_at)
