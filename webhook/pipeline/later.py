"""Work that waits for its time in this process, and is lost with it: nothing that anybody is owed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime


class Later:
    """At most `most` pieces wait; from any thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: list[tuple[datetime, Callable[[], None]]] = []
        self._lock = threading.Lock()

    def add(self, at: datetime, work: Callable[[], None]) -> bool:
        """Whether there was room for it."""
        with self._lock:
            if len(self._waiting) >= self._most:
                return False
            self._waiting.append((at, work))
            return True

    def due(self, now: datetime) -> list[Callable[[], None]]:
        """What is to be done now; each is given once."""
        with self._lock:
            ripe = [work for at, work in self._waiting if at <= now]
            self._waiting = [(at, work) for at, work in self._waiting if at > now]
        return ripe
