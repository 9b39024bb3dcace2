"""Figures that many readers ask for: counted once in a few seconds by each process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime, timedelta

import sqlalchemy as sa

from webhook.storage import queries
from webhook.storage.records import Statistics, Suppressed

COUNTED_FOR = timedelta(seconds=5)
KEPT = 256
"""Sets of accounts: staff sees all, each merchant its own."""


class Figures:
    """The head of the alert list.

    Only what is suppressed is kept: what concerns alerts must be right in the very refresh that a change causes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[frozenset[str] | None, tuple[datetime, datetime, Suppressed]] = OrderedDict()

    def statistics(
        self, connection: sa.Connection, day_start: datetime, now: datetime, accounts: frozenset[str] | None
    ) -> Statistics:
        suppressed = self._suppressed(connection, day_start, now, accounts)
        return queries.statistics(connection, day_start, suppressed, accounts)

    def _suppressed(
        self, connection: sa.Connection, day_start: datetime, now: datetime, accounts: frozenset[str] | None
    ) -> Suppressed:
        with self._lock:
            if accounts in self._kept:
                day, at, counted = self._kept[accounts]
                if day == day_start and now - at < COUNTED_FOR:
                    return counted
            counted = queries.count_suppressed(connection, day_start, accounts)
            self._kept.pop(accounts, None)
            self._kept[accounts] = (day_start, now, counted)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return counted
