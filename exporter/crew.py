"""Daemon threads that are made when there is work and no idle one.

A pool of the standard library has a bound, which as many hung sources would reach, and the end of the process waits
for its threads. Here the sources are the bound: none has more than one collection at a time.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

_IDLE_FOR = 30.0  # seconds after which an idle thread ends


class Crew:
    """Runs each piece of work at once, in a thread of its own for as long as it takes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._made = 0

    def run(self, work: Callable[[], None]) -> None:
        """Hand `work`, which raises nothing, to the thread that was busy last, or to a new one."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
            if worker is None:
                self._made += 1
                worker = _Worker(f"{self._name}-{self._made}", self._return)
        worker.take(work)

    def _return(self, worker: _Worker, *, ends: bool) -> bool:
        """An idle worker comes back, or wants to end: False when it has got work meanwhile."""
        with self._lock:
            if not ends:
                self._idle.append(worker)
                return True
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            return True


class _Worker:
    def __init__(self, name: str, come_back: Callable[..., bool]) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._come_back = come_back
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def take(self, work: Callable[[], None]) -> None:
        self._work.put(work)
        if not self._thread.ident:
            self._thread.start()

    def _loop(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=_IDLE_FOR)
            except queue.Empty:
                if self._come_back(self, ends=True):
                    return
                continue
            work()
            del work  # what it refers to is not kept while idle
            self._come_back(self, ends=False)
