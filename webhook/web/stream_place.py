"""Where a reader of the stream is, what it missed since, and the messages that come after.

A place is `<time>/<position>`: the newest change of an alert that it heard of, and the last message. Both are the
store's, so any process can go on from a place that another one gave, before a restart or after it. Messages are read
by position alone, whether missed or new: none is lost or told twice where the one ends and the other begins. A change
of an alert names what to look at again; it may be named twice, for a transaction commits after the time that it wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from webhook.storage.database import Database
from webhook.storage.stream import events_after, first_position, last_position, position_at

MOST = 200
"""Messages told one by one at once; of more than these a reader is told to load anew."""


@dataclass(slots=True)
class Place:
    """`position` is None where only a time is known: of a page, when it was rendered."""

    at: datetime
    position: int | None = None

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%dT%H:%M:%S.%fZ}/{self.position or 0}"


def parse_place(text: str) -> Place:
    """Raise ValueError."""
    time, slash, position = text.partition("/")
    if slash and not (position.isascii() and position.isdecimal() and len(position) < 19):  # noqa: PLR2004 - of 64 bits
        raise ValueError("this is no position")
    try:
        return Place(datetime.fromisoformat(time).astimezone(UTC), int(position) if slash else None)
    except OverflowError:
        raise ValueError("this time is not in our calendar") from None


def event(name: str, place: Place, data: Mapping[str, Any]) -> str:
    """One event of the stream; the browser names `place` when it comes back."""
    return f"id: {place}\nevent: {name}\ndata: {json.dumps(data)}\n\n"


@dataclass(slots=True)
class Messages:
    """What one reader is told, in the order in which it became visible. Raises SQLAlchemyError.

    `wanted` is the newest position that is known of anybody's messages.
    """

    database: Database
    accounts: frozenset[str] | None
    place: Place
    wanted: int = field(default=0)

    def start(self, *, known: bool) -> bool:
        """Take the place that was given, or the end where it is not `known`; False when nobody can go on from it."""
        with self.database.read() as connection:
            first, last = first_position(connection), last_position(connection)
            if known and self.place.position is None:
                self.place.position = position_at(connection, self.place.at)
        self.wanted = last
        given = self.place.position
        lost = known and given is not None and not first - 1 <= given <= last
        if lost or given is None:
            self.place.position = last
        return not lost

    def new(self) -> Iterator[str]:
        """Events of all that came since; a `reset` instead, where these are too many."""
        position = self.place.position or 0
        if position >= self.wanted:
            return
        with self.database.read() as connection:
            found = events_after(connection, position, MOST + 1, self.accounts)
            # Read in the same order as they became visible: whatever is missing below `wanted` is another account's.
            newest = last_position(connection) if len(found) > MOST else self.wanted
        if len(found) > MOST:
            self.place.position = newest
            yield self.reset()
            return
        for one in found:
            self.place.position = one.position
            yield event("notification", self.place, one.payload)
        self.place.position = max(newest, self.place.position or 0)

    def reset(self) -> str:
        """What tells a page to load anew: it has missed more than it can be told."""
        return event("reset", self.place, {"reason": "missed"})
