"""Results that take a while, made once: for those who ask while it is being made, and for those who ask later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future

from cachetools import LRUCache


class SharedResults:
    """At most `size` bytes, the least asked for first to go. What failed is told to those who waited, and not kept."""

    def __init__(self, size: int) -> None:
        self._kept: LRUCache[Hashable, bytes] = LRUCache(size, getsizeof=len)
        self._made: dict[Hashable, Future[bytes]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Raise whatever `make` raises."""
        with self._lock:
            if (known := self._kept.get(key)) is not None:
                return known
            waiting = self._made.get(key)
            if waiting is None:
                ours = self._made[key] = Future[bytes]()
        if waiting is not None:
            return waiting.result()
        try:
            result = make()
        except BaseException as error:
            self._done(key, None)
            ours.set_exception(error)
            raise
        self._done(key, result)
        ours.set_result(result)
        return result

    def _done(self, key: Hashable, result: bytes | None) -> None:
        with self._lock:
            del self._made[key]
            if result is not None and len(result) <= self._kept.maxsize:
                self._kept[key] = result
