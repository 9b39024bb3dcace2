"""Figures that many readers ask for: counted once in a few seconds by each process."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import sqlalchemy as sa

from webhook.storage import queries
from webhook.storage.records import Statistics, Suppressed

COUNTED_FOR = timedelta(seconds=5)


class Figures:
    """The head of the alert list.

    Only what is suppressed is kept: what concerns alerts must be right in the very refresh that a change causes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[datetime, datetime, Suppressed] | None = None

    def statistics(
        self, connection: sa.Connection, day_start: datetime, now: datetime, accounts: frozenset[str] | None
    ) -> Statistics:
        """Those of some `accounts` are counted each time: they are few."""
        suppressed = self._suppressed(connection, day_start, now) if accounts is None else None
        return queries.statistics(connection, day_start, suppressed, accounts)

    def _suppressed(self, connection: sa.Connection, day_start: datetime, now: datetime) -> Suppressed:
        with self._lock:
            if self._kept is not None:
                day, at, counted = self._kept
                if day == day_start and now - at < COUNTED_FOR:
                    return counted
            counted = queries.count_suppressed(connection, day_start)
            self._kept = (day_start, now, counted)
            return counted
