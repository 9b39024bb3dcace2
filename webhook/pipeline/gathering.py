"""Work that may wait a moment for more of its kind, so that it is done together."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Gathering(Generic[T]):
    """Of one key: what arrives within `wait` seconds of the first, `size` at most."""

    def __init__(self, size: int, wait: float) -> None:
        self._size, self._wait = size, wait
        self._open: dict[str, list[T]] = {}
        self._changed = threading.Condition()

    def join(self, key: str, item: T) -> list[T]:
        """All that came together, for the first of them after its wait; nothing for those that joined it."""
        with self._changed:
            group = self._open.get(key)
            if group is not None and len(group) < self._size:
                group.append(item)
                self._changed.notify_all()
                return []
            group = self._open[key] = [item]
            self._changed.wait_for(lambda: len(group) >= self._size, self._wait)
            if self._open.get(key) is group:
                del self._open[key]
            return group
