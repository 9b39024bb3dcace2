"""Which messages are sent next: the gravest first, merchants in turn, and nothing that would have to wait.

What waits for a provider is no candidate: a target that is not free (see `pacing`) holds up nobody else.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from time import monotonic
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotificationStatus, NotifyReason
from webhook.domain.gathered import SINGLY
from webhook.domain.message import Companion
from webhook.storage.delivery_tables import pace
from webhook.storage.pacing import Lease, Paces, take_targets, use_rates, within_rates
from webhook.storage.tables import alert_dynamic, notification

MAX_LOST_LEASES = 5
TOGETHER_FROM = 6
"""As many first messages of one merchant in one place, waiting at once, are one message; rises and ends likewise."""

MOST_TOGETHER = 5_000
CANDIDATES = 20_000
"""The gravest and oldest of what waits, among which merchants take turns."""

AHEAD = 8
"""So many times what there is room for is looked for at once."""

SHARE = 5.0
"""And used for so many times as long as it took to find."""

_PENDING, _SENDING = NotificationStatus.PENDING.value, NotificationStatus.SENDING.value
_TOGETHER = (NotifyReason.FIRST.value, NotifyReason.ESCALATED.value, NotifyReason.RESOLVED.value)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows under lock, in the order of sending; `groups`: id of a message → those that it tells of too."""

    ids: list[str]
    groups: dict[str, list[tuple[str, Companion]]]

    @property
    def all_ids(self) -> list[str]:
        return [*self.ids, *(id_ for group in self.groups.values() for id_, _ in group)]


def anything_ripe(connection: sa.Connection, now: datetime) -> bool:
    """Whether any time has come, be it for a row that has to wait for another: one look into an index."""
    return connection.execute(_ripe(), {"now": now}).first() is not None


class Choice:
    """One worker's view of what is next.

    What was found is used up for a moment before it is looked for again:
    putting thousands in order for each handful that can be sent would take longer than sending them.
    """

    def __init__(self, paces: Paces) -> None:
        self._paces = paces
        self._found: list[sa.RowMapping] = []
        self._fresh_until = 0.0
        self._lock = threading.Lock()

    def choose(self, connection: sa.Connection, limit: int, room: Mapping[str, int], during: Lease) -> Chosen:
        """Lock up to `limit` messages, of a channel in `room` no more than that; paced targets are taken."""
        room = within_rates(connection, room, self._paces, limit, during.since)
        rows: list[sa.RowMapping] = []
        with self._lock:
            if monotonic() < self._fresh_until:
                rows = self._next(connection, limit, room, during)
            if not rows:
                self._find(connection, limit, room, during.since)
                rows = self._next(connection, limit, room, during)
        chosen = _together(connection, rows, during.since)
        use_rates(connection, [row for row in rows if row["id"] in set(chosen.ids)], self._paces, during.since)
        return chosen

    def _find(self, connection: sa.Connection, limit: int, room: Mapping[str, int], now: datetime) -> None:
        began = monotonic()
        more = {f"room_{name}": number * AHEAD for name, number in room.items()}
        statement = _due(tuple(sorted(room)), tuple(sorted(self._paces.targets)))
        asked = {"now": now, "limit": limit * AHEAD, **more}
        self._found = list(connection.execute(statement, asked).mappings())
        self._fresh_until = monotonic() + SHARE * (monotonic() - began)

    def _next(
        self, connection: sa.Connection, limit: int, room: Mapping[str, int], during: Lease
    ) -> list[sa.RowMapping]:
        left, wanted, kept = dict(room), list[sa.RowMapping](), list[sa.RowMapping]()
        for row in self._found:
            channel = row["channel_type"]
            if len(wanted) < limit and left.get(channel, limit) > 0:
                left[channel] = left.get(channel, limit) - 1
                wanted.append(row)
            else:
                kept.append(row)
        self._found = kept
        return take_targets(connection, _lock(connection, wanted, during.since), self._paces, during)


def _lock(
    connection: sa.Connection, rows: Sequence[sa.RowMapping], now: datetime, *, taken: bool = False
) -> list[sa.RowMapping]:
    """Without those that a worker was sending, and died over, when a person dismissed their alert: nobody is told.

    `taken`: their place is ours by now, and so not free to others.
    """
    if not rows:
        return []
    found = connection.execute(_locked(taken=taken), {"ids": [row["id"] for row in rows], "now": now}).all()
    if over := [row.id for row in found if row.over]:
        connection.execute(sa.delete(notification).where(notification.c.id.in_(over)))
    ours = {row.id for row in found if not row.over}
    return [row for row in rows if row["id"] in ours]


def _together(connection: sa.Connection, rows: Sequence[sa.RowMapping], now: datetime) -> Chosen:
    """Where too many wait for one place, one message for all of them; it waits for nobody who is yet to come."""
    ids: list[str] = []
    groups: dict[str, list[tuple[str, Companion]]] = {}
    told: set[str] = set()
    for row in rows:
        if row["id"] in told:
            continue
        ids.append(row["id"])
        if row["peers"] >= TOGETHER_FROM and row["reason"] in _TOGETHER and row["channel_type"] not in SINGLY:
            place = {f"of_{name}": row[name] for name in _PLACE}
            found = connection.execute(_peers(), {**place, "now": now}).mappings().all()
            if row["reason"] == NotifyReason.RESOLVED.value:
                found = _without_own(connection, found, row["channel_type"])
                if row["id"] not in {peer["id"] for peer in found}:
                    continue
            peers = _lock(connection, [peer for peer in found if peer["id"] != row["id"]], now, taken=True)
            groups[row["id"]] = [(peer["id"], Companion(peer["alert_id"], peer["alert_type"])) for peer in peers]
            told |= {peer["id"] for peer in peers}
    return Chosen(ids, groups)


def _without_own(
    connection: sa.Connection, rows: Sequence[sa.RowMapping], channel_type: str
) -> Sequence[sa.RowMapping]:
    """Ends of alerts that have no message of their own: one that stands somewhere is brought up to date by itself."""
    n = notification.c
    sent = sa.select(n.alert_id, n.metadata).where(
        n.alert_id.in_({row["alert_id"] for row in rows}), n.channel_type == channel_type, n.sent_at.is_not(None)
    )
    own = {alert_id for alert_id, kept in connection.execute(sent) if (kept.get("provider") or {}).get("reference")}
    return [row for row in rows if row["alert_id"] not in own]


# Built once: an idle worker asks ten times a second, and building takes longer than asking.
@cache
def _ripe() -> sa.Select[int]:
    return sa.select(sa.literal(1)).select_from(notification).where(_ready(notification.c)).limit(1)


_PLACE = ("account_id", "target", "reason", "priority")


@cache
def _due(channels: tuple[str, ...], paced: tuple[str, ...]) -> sa.Select[Any]:
    """Parameters: `now`, `limit`, and `room_<channel>` for each of `channels`."""
    h = _heads().c
    waiting = (
        sa.select(h.id, h.channel_type, h.created_at, h.account_id, h.target, h.reason, h.priority)
        .where(h.nth == 1, _ready(h), ~_busy(h))
        .order_by(h.priority.desc(), h.created_at, h.id)
        .limit(CANDIDATES)
        .subquery("waiting")
    )
    w, count = waiting.c, sa.func.count()
    turns = sa.select(
        waiting,
        sa.func.row_number()
        .over(partition_by=(w.account_id, w.channel_type, w.priority), order_by=(w.created_at, w.id))
        .label("turn"),
        count.over(partition_by=[w[name] for name in _PLACE]).label("peers"),
    ).subquery("turns")
    t = turns.c
    one_each = sa.case((t.channel_type.in_(paced), t.target), else_=sa.cast(t.id, sa.String))
    firsts = sa.select(
        turns,
        sa.func.row_number().over(partition_by=one_each, order_by=_order(t)).label("at_target"),
    ).subquery("firsts")
    f = firsts.c
    placed = (
        sa.select(firsts, sa.func.row_number().over(partition_by=f.channel_type, order_by=_order(f)).label("place"))
        .where(f.at_target == 1)
        .subquery("placed")
    )
    p, limit = placed.c, sa.bindparam("limit", type_=sa.Integer)
    rooms = [(p.channel_type == name, sa.bindparam(f"room_{name}", type_=sa.Integer)) for name in channels]
    room: Any = sa.case(*rooms, else_=limit) if rooms else limit
    return (
        sa.select(p.id, p.channel_type, p.account_id, p.target, p.reason, p.priority, p.peers)
        .where(p.place <= room)
        .order_by(*_order(p))
        .limit(limit)
    )


def _order(of: Any) -> tuple[Any, ...]:  # noqa: ANN401 - the columns of a subquery
    return of.priority.desc(), of.turn, of.created_at, of.id


@cache
def _peers() -> sa.Select[Any]:
    n, h = notification.c, _heads().c
    same = [h[name] == sa.bindparam(f"of_{name}", type_=n[name].type) for name in _PLACE]
    query = sa.select(h.id, h.alert_id, h.alert_type).where(h.nth == 1, _ready(h), *same)
    return query.order_by(h.created_at, h.id).limit(MOST_TOGETHER)


TELLS_MORE = (NotifyReason.DIGEST.value, NotifyReason.MENTION.value)
"""Of other alerts too, or of what a person said afterwards: these outlive the dismissal of their alert."""


@cache
def _locked(*, taken: bool) -> sa.Select[Any]:
    """Of what was found, all that nobody else has taken meanwhile; apart from finding, which would be done again."""
    n, d = notification.c, alert_dynamic.c
    ids = n.id.in_(sa.bindparam("ids", expanding=True, type_=n.id.type))
    dismissed = sa.exists().where(d.alert_id == n.alert_id, d.status == AlertStatus.DISMISSED.value)
    over = sa.and_(n.reason.not_in(TELLS_MORE), dismissed).label("over")
    query = sa.select(n.id, over).where(ids, _ready(n), sa.true() if taken else ~_busy(n))
    return query.with_for_update(skip_locked=True, of=notification)


def _heads() -> sa.Subquery:
    """What is unsent, numbered within its alert and channel: only the first can be claimed, so order is kept.

    By a window, for the time that takes grows with the number of rows whatever the planner believes of them.
    """
    n = notification.c
    # Told in one instant: the milder first, as severity rises.
    order = (n.created_at, n.priority, n.id)
    nth = sa.func.row_number().over(partition_by=(n.alert_id, n.channel_type), order_by=order)
    times = (n.status, n.not_before, n.lease_until, n.lost_leases)
    columns = (
        n.id,
        n.alert_id,
        n.alert_type,
        n.channel_type,
        n.created_at,
        n.account_id,
        n.target,
        n.reason,
        n.priority,
        *times,
    )
    open_ones = n.status.in_((_PENDING, _SENDING))
    return sa.select(*columns, nth.label("nth")).where(open_ones).subquery("heads")


def _busy(of: Any) -> sa.Exists:  # noqa: ANN401 - the columns of the table
    """Where the provider wants no message now; P0 too, for it would only be refused."""
    return sa.exists().where(pace.c.target.in_((of.target, of.channel_type)), pace.c.free_at > _now())


def _ready(n: Any) -> sa.ColumnElement[bool]:  # noqa: ANN401 - the columns of the table
    return sa.and_(
        n.status.in_((_PENDING, _SENDING)),
        sa.or_(
            sa.and_(n.status == _PENDING, n.not_before <= _now()),
            sa.and_(n.status == _SENDING, n.lease_until < _now(), n.lost_leases + 1 < MAX_LOST_LEASES),
        ),
    )


def _now() -> sa.BindParameter[datetime]:
    return sa.bindparam("now", type_=notification.c.not_before.type)


def lost_lease() -> dict[str, Any]:
    """What a row remembers of a worker that died or hung while it held the lease."""
    n = notification.c
    lost = sa.case((n.status == _SENDING, 1), else_=0)
    broken_off = sa.case((sa.and_(n.status == _SENDING, n.handed_over_at.is_not(None)), 1), else_=0)
    return {
        "retry_count": n.retry_count + lost,
        "lost_leases": n.lost_leases + lost,
        "maybe_repeated": n.maybe_repeated + broken_off,
        "handed_over_at": None,
        "group_id": None,
    }


def lease_rows(connection: sa.Connection, chosen: Chosen, name: str, until: datetime) -> None:
    ids: Collection[str] = chosen.all_ids
    values = {"status": _SENDING, "lease_owner": name, "lease_until": until}
    connection.execute(sa.update(notification).where(notification.c.id.in_(ids)).values({**lost_lease(), **values}))
    for lead, group in chosen.groups.items():
        told = [id_ for id_, _ in group]
        connection.execute(sa.update(notification).where(notification.c.id.in_(told)).values(group_id=lead))
