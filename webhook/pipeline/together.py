"""Deliveries that arrive at the same time are stored together: one read, one fold, one commit for all of them.

Whoever finds nobody at work stores what waits, its own delivery first; whoever comes meanwhile waits for the next
turn. Nobody waits for others to come: a delivery that is alone goes at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import accumulate, chain, pairwise

from webhook.domain.alert import Trigger
from webhook.domain.ledger import Changes, IngestSettings, Received
from webhook.domain.payload import Rejected
from webhook.pipeline.ingest import IngestMetrics, account_for, condition_of, store_delivery
from webhook.ports import AlertStore, StoreUnavailable

_MOST_ALERTS = 500
"""In one transaction, unless a single delivery has more: what is locked is locked for all of it."""


LONGEST_TURN_S = 60.0
"""Longer than the store takes to give up on one delivery; who delivers is to come back then."""


@dataclass(slots=True, eq=False)
class _Delivery:
    """One request's alerts. `changes` is None until they are stored; `turn` is set then, or when it is to lead."""

    received: Sequence[Trigger | Rejected]
    now: datetime
    turn: threading.Event = field(default_factory=threading.Event)
    changes: Changes | None = None
    alone: bool = False  # the group it was in could not be stored


class Together:
    """The receiver's way into the store, one for all threads of a process."""

    def __init__(self, store: AlertStore, settings: IngestSettings, metrics: IngestMetrics) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: deque[_Delivery] = deque()
        self._led = False

    def ingest(self, received: Sequence[Trigger | Rejected], now: datetime) -> Changes:
        """As `pipeline.ingest.ingest`; the entries are those of `received`, the rest may be of the whole group."""
        own = _Delivery(received, now)
        with self._metrics.seconds.time():
            if self._must_wait(own) and not own.turn.wait(LONGEST_TURN_S):
                self._give_up(own)
            if own.changes is None and not own.alone:
                self._lead()
            changes = own.changes or self._store_all([own])
        account_for(changes, self._metrics)
        return changes

    def _must_wait(self, own: _Delivery) -> bool:
        with self._lock:
            self._waiting.append(own)
            led, self._led = self._led, True
            return led

    def _give_up(self, own: _Delivery) -> None:
        """Unless its turn has come in the last moment."""
        with self._lock:
            if own.turn.is_set():
                return
            if own in self._waiting:  # else its group is being stored, and may yet be
                self._waiting.remove(own)
        raise StoreUnavailable("the deliveries before this one are still not stored")

    def _lead(self) -> None:
        """Store the deliveries that wait, longest first, and hand on to the first of those that came meanwhile."""
        group = self._take()
        try:
            self._store_group(group)
        finally:
            with self._lock:
                self._led = bool(self._waiting)
                if self._led:
                    self._waiting[0].turn.set()
            for delivery in group:
                delivery.turn.set()

    def _take(self) -> list[_Delivery]:
        """The leader's own delivery is the first."""
        with self._lock:
            group = [self._waiting.popleft()]
            alerts = len(group[0].received)
            while self._waiting and alerts + len(self._waiting[0].received) <= _MOST_ALERTS:
                group.append(self._waiting.popleft())
                alerts += len(group[-1].received)
        return group

    def _store_group(self, group: list[_Delivery]) -> None:
        """One bad delivery harms no other: where a group fails, each of it is stored by its own request."""
        for delivery in group[1:]:
            delivery.alone = True
        try:
            changes = self._store_all(group)
        except Exception:
            if len(group) == 1:
                raise
            return  # whose fault it was shows when each is stored by itself
        ends = accumulate((len(delivery.received) for delivery in group), initial=0)
        for delivery, (start, end) in zip(group, pairwise(ends), strict=True):
            delivery.changes = replace(changes, entries=changes.entries[start:end])

    def _store_all(self, group: Sequence[_Delivery]) -> Changes:
        items = chain.from_iterable(delivery.received for delivery in group)
        received = [Received(item, condition_of(item, self._settings)) for item in items]
        now = max(delivery.now for delivery in group)
        return store_delivery(self._store, received, self._settings, now, metrics=self._metrics)
