"""The alert store: a delivery is read, decided and written in one transaction, with statements over the whole set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import sqlalchemy as sa

from webhook.domain.ledger import Changes, IngestSettings, Known, Received
from webhook.ports import FrequencyPlaces, RepeatableRequest
from webhook.storage.database import Database
from webhook.storage.frequency import decide_within_limits, taking_places
from webhook.storage.reading import Reading, SessionsFirst
from webhook.storage.recording import record
from webhook.storage.repeats import keep_answer, look_up
from webhook.storage.transactions import transaction


class AlertStore:
    """What the pipeline writes to. Failures come as StoreConflict or StoreUnavailable."""

    def __init__(self, database: Database, places: FrequencyPlaces | None = None) -> None:
        """`places`: who else than the database says whose message is within the frequency limits."""
        self._database = database
        self._places = places

    def ingest(
        self,
        delivery: Sequence[Received],
        settings: IngestSettings,
        now: datetime,
        decide: Callable[[Known], Changes],
        request: RepeatableRequest | None = None,
    ) -> Changes:
        """Read what is known of the alerts, decide, write; all of it or nothing."""
        reading = Reading(delivery, settings, now)
        try:
            return self._ingest(reading.quiet, decide, now, request)
        except SessionsFirst:
            return self._ingest(reading.counting, decide, now, request)

    def _ingest(
        self,
        read: Callable[[sa.Connection], Known],
        decide: Callable[[Known], Changes],
        now: datetime,
        request: RepeatableRequest | None,
    ) -> Changes:
        with taking_places(self._places) as places, transaction(self._database) as connection:
            if request is not None:
                look_up(connection, request, now)
            changes = decide_within_limits(connection, places, read(connection), decide, now)
            record(connection, changes, now)
            if request is not None:
                keep_answer(connection, request, changes, now)
        return changes
