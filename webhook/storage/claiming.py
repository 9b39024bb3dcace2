"""Which messages are sent next: the gravest first, merchants in turn, and nothing that would have to wait.

What waits for a provider is no candidate: a target that is not free (table `pace`) holds up nobody else. A claim takes
a paced target for as long as its lease; whoever records what came of the message says when the next may follow. So
limits hold over all workers, for the row of a target can be taken by one of them at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from webhook.domain.alert import NotificationStatus, NotifyReason
from webhook.domain.message import Companion
from webhook.storage.tables import notification, pace

MAX_LOST_LEASES = 5
TOGETHER_FROM = 6
"""As many first messages of one merchant in one place, waiting at once, are one message; ends likewise."""

MOST_TOGETHER = 5_000
CANDIDATES = 20_000
"""The gravest and oldest of what waits, among which merchants take turns."""

CATCH_UP = timedelta(seconds=0.1)
"""Of its rate a channel may make up for so long after a pause."""

_PENDING, _SENDING = NotificationStatus.PENDING.value, NotificationStatus.SENDING.value
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_TOGETHER = (NotifyReason.FIRST.value, NotifyReason.RESOLVED.value)


@dataclass(frozen=True, slots=True)
class Paces:
    """What providers allow: between two messages to one target, and between two messages of a channel at all."""

    targets: Mapping[str, timedelta] = field(default_factory=dict)
    channels: Mapping[str, timedelta] = field(default_factory=dict)


class Lease(NamedTuple):
    since: datetime
    until: datetime


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


def choose(connection: sa.Connection, limit: int, room: Mapping[str, int], paces: Paces, during: Lease) -> Chosen:
    """Lock up to `limit` messages, of a channel in `room` no more than that; paced targets are taken for the lease."""
    now = during.since
    room = _within_rates(connection, room, paces, limit, now)
    asked = {"now": now, "limit": limit, **{f"room_{name}": number for name, number in room.items()}}
    channels, paced = tuple(sorted(room)), tuple(sorted(paces.targets))
    rows = list(connection.execute(_due(channels, paced), asked).mappings())
    rows = _take_targets(connection, rows, paces, during)
    chosen = _together(connection, rows, now)
    _use_rates(connection, [row for row in rows if row["id"] in set(chosen.ids)], paces, now)
    return chosen


def free_from(connection: sa.Connection, target: str, at: datetime) -> None:
    """The next message may go there then, whatever was said before."""
    _set_pace(connection, [(target, at)])


def _within_rates(
    connection: sa.Connection, room: Mapping[str, int], paces: Paces, limit: int, now: datetime
) -> dict[str, int]:
    left = dict(room)
    for channel, free_at in _rated(connection, paces, lock=False).items():
        between, since = paces.channels[channel], max(free_at, now - CATCH_UP)
        slots = int((now - since) / between) + 1 if since <= now else 0
        left[channel] = min(left.get(channel, limit), slots)
    return left


def _use_rates(connection: sa.Connection, rows: Sequence[sa.RowMapping], paces: Paces, now: datetime) -> None:
    used: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        if row["channel_type"] in paces.channels:
            used[row["channel_type"]] += 1
    if used:
        known = _rated(connection, paces, lock=True)
        later = {
            name: max(known[name], now - CATCH_UP) + number * paces.channels[name] for name, number in used.items()
        }
        _set_pace(connection, sorted(later.items()))


def _rated(connection: sa.Connection, paces: Paces, *, lock: bool) -> dict[str, datetime]:
    """When each channel with a rate is free next; long ago where it was never used."""
    if not paces.channels:
        return {}
    query = sa.select(pace.c.target, pace.c.free_at).where(pace.c.target.in_(sorted(paces.channels)))
    known = {row.target: row.free_at for row in connection.execute(query.with_for_update() if lock else query)}
    return {name: known.get(name, _LONG_AGO) for name in paces.channels}


def _take_targets(
    connection: sa.Connection, rows: Sequence[sa.RowMapping], paces: Paces, during: Lease
) -> list[sa.RowMapping]:
    """Those whose target no other worker has taken meanwhile."""
    wanted = sorted({row["target"] for row in rows if row["channel_type"] in paces.targets})
    if not wanted:
        return list(rows)
    taken = set(_set_pace(connection, [(target, during.until) for target in wanted], free_by=during.since))
    return [row for row in rows if row["channel_type"] not in paces.targets or row["target"] in taken]


def _set_pace(
    connection: sa.Connection, times: Sequence[tuple[str, datetime]], free_by: datetime | None = None
) -> Sequence[str]:
    """The targets that were set; only those that are free by then, where that is asked."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    wanted = insert(pace).values([{"target": target, "free_at": at} for target, at in times])
    free = pace.c.free_at <= free_by if free_by is not None else None
    update = wanted.on_conflict_do_update(
        index_elements=["target"], set_={"free_at": wanted.excluded.free_at}, where=free
    )
    return connection.scalars(update.returning(pace.c.target)).all()


def _together(connection: sa.Connection, rows: Sequence[sa.RowMapping], now: datetime) -> Chosen:
    """Where too many wait for one place, one message for all of them; it waits for nobody who is yet to come."""
    ids: list[str] = []
    groups: dict[str, list[tuple[str, Companion]]] = {}
    told: set[str] = set()
    for row in rows:
        if row["id"] in told:
            continue
        ids.append(row["id"])
        if row["peers"] >= TOGETHER_FROM and row["reason"] in _TOGETHER:
            place = {f"of_{name}": row[name] for name in _PLACE}
            peers = connection.execute(_peers(), {**place, "now": now, "but": row["id"]}).all()
            groups[row["id"]] = [(peer.id, Companion(peer.alert_id, peer.alert_type)) for peer in peers]
            told |= {peer.id for peer in peers}
    return Chosen(ids, groups)


# Built once: an idle worker asks ten times a second, and building takes longer than asking.
@cache
def _ripe() -> sa.Select[int]:
    return sa.select(sa.literal(1)).select_from(notification).where(_ready(notification.c)).limit(1)


_PLACE = ("account_id", "target", "reason", "priority")


@cache
def _due(channels: tuple[str, ...], paced: tuple[str, ...]) -> sa.Select[Any]:
    """Parameters: `now`, `limit`, and `room_<channel>` for each of `channels`."""
    n = notification.c
    order = (n.priority.desc(), n.created_at, n.id)
    waiting = (
        sa.select(n.id, n.channel_type, n.created_at, n.account_id, n.target, n.reason, n.priority)
        .where(_ready(n), ~_unsent_before(), ~_busy())
        .order_by(*order)
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
        sa.select(n.id, n.channel_type, n.account_id, n.target, n.reason, n.priority, p.peers)
        .join(placed, p.id == n.id)
        .where(p.place <= room, _ready(n))
        .order_by(*_order(p))
        .limit(limit)
        .with_for_update(skip_locked=True, of=notification)
    )


def _order(of: Any) -> tuple[Any, ...]:  # noqa: ANN401 - the columns of a subquery
    return of.priority.desc(), of.turn, of.created_at, of.id


@cache
def _peers() -> sa.Select[Any]:
    n = notification.c
    same = [n[name] == sa.bindparam(f"of_{name}", type_=n[name].type) for name in _PLACE]
    but = n.id != sa.bindparam("but", type_=n.id.type)
    return (
        sa.select(n.id, n.alert_id, n.alert_type)
        .where(_ready(n), ~_unsent_before(), but, *same)
        .order_by(n.created_at, n.id)
        .limit(MOST_TOGETHER)
        .with_for_update(skip_locked=True, of=notification)
    )


def _unsent_before() -> sa.Exists:
    """Of one alert and channel only the earliest can be claimed, so order is kept."""
    n, earlier = notification.c, notification.alias("earlier")
    return sa.exists().where(
        earlier.c.alert_id == n.alert_id,
        earlier.c.channel_type == n.channel_type,
        earlier.c.status.in_((_PENDING, _SENDING)),
        # Told in one instant: the milder first, as severity rises.
        sa.tuple_(earlier.c.created_at, earlier.c.priority, earlier.c.id) < sa.tuple_(n.created_at, n.priority, n.id),
    )


def _busy() -> sa.Exists:
    """Where the provider wants no message now; P0 too, for it would only be refused."""
    return sa.exists().where(pace.c.target == notification.c.target, pace.c.free_at > _now())


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
