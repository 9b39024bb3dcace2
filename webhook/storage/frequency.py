"""Frequency limits that hold whatever else is being delivered: who gets the last place is decided here.

A delivery is decided on what others have committed. Only if it would then tell somebody something are places asked
for: from Redis where there is one, else under locks of the database, after which it is decided again on what was
committed meanwhile. A delivery that tells nobody waits for nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import UNLIMITED
from webhook.domain.ledger import Changes, Claim, Known
from webhook.domain.throttle import LONGEST_WINDOW
from webhook.ports import FrequencyPlaces, Taken
from webhook.storage.columns import among
from webhook.storage.tables import notification

Key = tuple[str, str]
"""Account id and alert type."""


class Places:
    """The places of one delivery: given back where its transaction does not come about."""

    def __init__(self, shared: FrequencyPlaces | None) -> None:
        self._shared = shared
        self._taken: list[Taken] = []

    def take(self, claims: Sequence[Claim]) -> Sequence[bool] | None:
        """Whether each claim has its place; None where nobody but the database can say."""
        if self._shared is None:
            return None
        taken = self._shared.take(claims)
        if taken is None:
            return None
        self._taken.append(taken)
        return taken.granted

    def give_back(self) -> None:
        for taken in self._taken:
            taken.give_back()


@contextmanager
def taking_places(shared: FrequencyPlaces | None) -> Iterator[Places]:
    """Around a transaction; `shared` are the places in Redis."""
    places = Places(shared)
    try:
        yield places
    except BaseException:
        places.give_back()
        raise


def decide_within_limits(
    connection: sa.Connection, places: Places, known: Known, decide: Callable[[Known], Changes], now: datetime
) -> Changes:
    """The decisions, with no more messages than the limits leave places for."""
    changes = decide(known)
    limited = {claim.key for claim in changes.claims if claim.limited}
    if not changes.claims:
        return changes
    granted = places.take(changes.claims)
    if granted is not None:
        return changes if all(granted) else decide(replace(known, places=_granted(changes.claims, granted)))
    if not limited or connection.dialect.name == "sqlite":  # SQLite lets one writer in at a time
        return changes
    lock_places(connection, limited)
    notified = {key: times for key, times in read_notified(connection, limited, now).items() if key in limited}
    if all(sorted(notified.get(key, ())) == sorted(known.notified.get(key, ())) for key in limited):
        return changes
    return decide(replace(known, notified={**known.notified, **notified}))


def _granted(claims: Sequence[Claim], granted: Sequence[bool]) -> dict[Key, int]:
    """How many limited messages go for each key that was refused one."""
    refused = {claim.key for claim, had in zip(claims, granted, strict=True) if not had}
    places = Counter(claim.key for claim, had in zip(claims, granted, strict=True) if had and claim.limited)
    return {key: places[key] for key in refused}


def lock_places(connection: sa.Connection, keys: Collection[Key]) -> None:
    """Wait for other deliveries that tell the same merchants of the same types, in one order; until the commit."""
    connection.execute(_LOCKS, {"keys": sorted(_number(key) for key in keys)})


_LOCKS = sa.text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")


def _number(key: Key) -> int:
    digest = hashlib.blake2b("\x00".join(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def read_notified(connection: sa.Connection, keys: Collection[Key], now: datetime) -> dict[Key, list[datetime]]:
    """When people were told, one time per decision however many channels it took; ends and digests are not counted."""
    asked = {
        "accounts": sorted({account for account, _ in keys}),
        "alert_types": sorted({alert_type for _, alert_type in keys}),
        "since": now - LONGEST_WINDOW,
    }
    notified: dict[Key, list[datetime]] = {}
    for account_id, alert_type, _, created_at in connection.execute(_notified(connection.dialect.name), asked):
        notified.setdefault((account_id, alert_type), []).append(created_at)
    return notified


@cache
def _notified(dialect: str) -> sa.Select[Any]:
    n = notification.c
    return (
        sa.select(n.account_id, n.alert_type, n.alert_id, n.created_at)
        .where(
            among(n.account_id, "accounts", dialect),
            among(n.alert_type, "alert_types", dialect),
            n.created_at > sa.bindparam("since", type_=n.created_at.type),
            n.reason.not_in([reason.value for reason in UNLIMITED]),
        )
        .distinct()
    )
