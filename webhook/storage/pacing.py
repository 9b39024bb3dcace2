"""When the next message may go: the table `pace` has a time for each target that is paced or was asked to wait.

A claim takes a paced target for as long as its lease; whoever records what came of the message says when the next may
follow. So limits hold over all workers, for the row of a target can be taken by one of them at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from webhook.storage.delivery_tables import pace

CATCH_UP = timedelta(seconds=0.1)
"""Of its rate a channel may make up for so long after a pause."""

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Lease(NamedTuple):
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Paces:
    """What providers allow: between two messages to one target, and between two messages of a channel at all."""

    targets: Mapping[str, timedelta] = field(default_factory=dict)
    channels: Mapping[str, timedelta] = field(default_factory=dict)


def free_from(connection: sa.Connection, times: Mapping[str, datetime]) -> None:
    """When the next message may go to each paced target, by whoever had taken it."""
    if times:
        _set_pace(connection, sorted(times.items()))


def pause(connection: sa.Connection, target: str, until: datetime) -> None:
    """Nothing goes there before, nor before a later time that another was told. A channel's name is one of all its."""
    _set_pace(connection, [(target, until)], free_by=until)


def within_rates(
    connection: sa.Connection, room: Mapping[str, int], paces: Paces, limit: int, now: datetime
) -> dict[str, int]:
    """What rates leave of the room. Until the commit no other worker claims on these channels: it would use it too."""
    left = dict(room)
    for channel, free_at in _rated(connection, paces).items():
        between, since = paces.channels[channel], max(free_at, now - CATCH_UP)
        slots = int((now - since) / between) + 1 if since <= now else 0
        left[channel] = min(left.get(channel, limit), slots)
    return left


def use_rates(connection: sa.Connection, rows: Sequence[sa.RowMapping], paces: Paces, now: datetime) -> None:
    used = Counter(row["channel_type"] for row in rows if row["channel_type"] in paces.channels)
    if used:
        known = _rated(connection, paces)
        later = {
            name: max(known[name], now - CATCH_UP) + number * paces.channels[name] for name, number in used.items()
        }
        _set_pace(connection, sorted(later.items()))


def _rated(connection: sa.Connection, paces: Paces) -> dict[str, datetime]:
    """When each channel with a rate is free next; long ago where it was never used. The rows are locked."""
    if not paces.channels:
        return {}
    names = sorted(paces.channels)
    query = sa.select(pace.c.target, pace.c.free_at).where(pace.c.target.in_(names)).order_by(pace.c.target)
    known = {row.target: row.free_at for row in connection.execute(query.with_for_update())}
    if missing := [name for name in names if name not in known]:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        rows = [{"target": name, "free_at": _LONG_AGO} for name in missing]
        connection.execute(insert(pace).values(rows).on_conflict_do_nothing())
        known = {row.target: row.free_at for row in connection.execute(query.with_for_update())}
    return known


def take_targets(
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
    """The targets that were set; only those that are free by then, where that is asked.

    `times` are in the order of targets: whoever sets several waits for nobody in a ring.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    wanted = insert(pace).values([{"target": target, "free_at": at} for target, at in times])
    free = pace.c.free_at <= free_by if free_by is not None else None
    update = wanted.on_conflict_do_update(
        index_elements=["target"], set_={"free_at": wanted.excluded.free_at}, where=free
    )
    return connection.scalars(update.returning(pace.c.target)).all()
