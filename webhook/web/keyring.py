"""API keys as they are asked for with every request: looked up once in a few seconds by each process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from webhook.storage.database import Database
from webhook.storage.keys import USED_EVERY, KeyRecord, key_by_prefix, note_use, prefix_of

KEPT_FOR = timedelta(seconds=5)
"""So long, at most, a revoked key still opens the door of a process that has just let it in."""
KEPT = 1024

log = structlog.get_logger(__name__)


class KeyRing:
    """Finds keys that are valid. Raises SQLAlchemyError where the store is away; shared between threads."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[datetime, KeyRecord]] = OrderedDict()
        self._noted: dict[str, datetime] = {}

    def opened_by(self, key: str) -> KeyRecord | None:
        """The valid key that this is; None for what is none, or no more. Counts as a use."""
        prefix = prefix_of(key)
        if prefix is None:
            return None
        found = self.valid(prefix)
        if found is None or not found.opens(key):
            return None
        self._note_use(found)
        return found

    def valid(self, prefix: str) -> KeyRecord | None:
        """The key with this prefix, while it is valid."""
        now = self._clock()
        with self._lock:
            at, found = self._kept.get(prefix, (now, None))
        if found is None or now - at >= KEPT_FOR:
            found = self._read(prefix, now)
        return found if found is not None and found.valid(now) else None

    def _read(self, prefix: str, now: datetime) -> KeyRecord | None:
        with self._database.read() as connection:
            found = key_by_prefix(connection, prefix)
        with self._lock:
            self._kept.pop(prefix, None)
            if found is not None:  # guesses are not kept: they would push out what is in use
                self._kept[prefix] = (now, found)
            while len(self._kept) > KEPT:
                forgotten, _ = self._kept.popitem(last=False)
                self._noted.pop(forgotten, None)
        return found

    def _note_use(self, found: KeyRecord) -> None:
        """The request does not fail because this cannot be written now."""
        now = self._clock()
        with self._lock:
            noted = self._noted.get(found.prefix) or found.last_used_at
            if noted is not None and now - noted < USED_EVERY:
                return
            self._noted[found.prefix] = now
        try:
            with self._database.write() as connection:
                note_use(connection, found.id, now)
        except SQLAlchemyError as error:
            log.warning("key_use_not_noted", key=found.prefix, error=type(error).__name__)
