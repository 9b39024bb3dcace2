"""Deliveries that arrive at the same time are stored together: one read, one fold, one commit for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

from webhook.domain.alert import Trigger
from webhook.domain.ledger import Changes, IngestSettings, Received
from webhook.domain.payload import Rejected
from webhook.pipeline.ingest import IngestMetrics, account_for, condition_of, store_delivery
from webhook.ports import AlertStore, StoreUnavailable
from webhook.turns import TurnMissed, Turns

_MOST_ALERTS = 500
"""In one transaction, unless a single delivery has more: what is locked is locked for all of it."""

LONGEST_TURN_S = 60.0
"""Longer than the store takes to give up on one delivery; who delivers is to come back then."""


class _Delivery(NamedTuple):
    """One request's alerts."""

    received: Sequence[Trigger | Rejected]
    now: datetime


class Together:
    """The receiver's way into the store, one for all threads of a process."""

    def __init__(self, store: AlertStore, settings: IngestSettings, metrics: IngestMetrics) -> None:
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._turns = Turns(self._store_all, most=_MOST_ALERTS, weight=lambda delivery: len(delivery.received))

    def ingest(self, received: Sequence[Trigger | Rejected], now: datetime) -> Changes:
        """As `pipeline.ingest.ingest`; the entries are those of `received`, the rest may be of the whole group."""
        try:
            with self._metrics.seconds.time():
                changes = self._turns(_Delivery(received, now), LONGEST_TURN_S)
        except TurnMissed:
            raise StoreUnavailable("the deliveries before this one are still not stored") from None
        account_for(changes, self._metrics)
        return changes

    @property
    def waiting(self) -> int:
        """How many deliveries wait for those that are being stored."""
        return self._turns.waiting

    def _store_all(self, group: Sequence[_Delivery]) -> Sequence[Changes]:
        items = chain.from_iterable(delivery.received for delivery in group)
        received = [Received(item, condition_of(item, self._settings)) for item in items]
        now = max(delivery.now for delivery in group)
        changes = store_delivery(self._store, received, self._settings, now, metrics=self._metrics)
        ends = accumulate((len(delivery.received) for delivery in group), initial=0)
        return [replace(changes, entries=changes.entries[start:end]) for start, end in pairwise(ends)]
