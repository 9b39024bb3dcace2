"""A few threads for work of one kind, whose failures are logged and stay their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec

import structlog

P = ParamSpec("P")
log = structlog.get_logger()


class Lane:
    """At most `width` pieces of work run at once; more are queued."""

    def __init__(self, name: str, width: int, done: Callable[[], object] | None = None) -> None:
        """`done` is called when a piece of work has ended."""
        self._name, self.width, self._tell = name, width, done
        self._threads = ThreadPoolExecutor(width, thread_name_prefix=name)
        self._open: set[Future[None]] = set()
        self._lock = threading.Condition()

    def free(self, within: float = 0) -> int:
        """How many more pieces would begin at once; where none would, wait up to `within` seconds until one does."""
        with self._lock:
            self._lock.wait_for(lambda: len(self._open) < self.width, within)
            return max(0, self.width - len(self._open))

    @property
    def open(self) -> int:
        """How many pieces run or are queued."""
        with self._lock:
            return len(self._open)

    def submit(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        with self._lock:
            future = self._threads.submit(work, *args, **kwargs)
            self._open.add(future)
        future.add_done_callback(self._done)

    def finish(self, timeout: float | None = None) -> None:
        """Wait until nothing is running or queued, `timeout` seconds at most."""
        with self._lock:
            waiting = set(self._open)
        wait(waiting, timeout)

    def close(self, timeout: float | None = None, *, drop_queued: bool = False) -> None:
        """Take nothing more, and wait for what runs, `timeout` seconds at most."""
        self._threads.shutdown(wait=False, cancel_futures=drop_queued)
        self.finish(timeout)

    def _done(self, future: Future[None]) -> None:
        with self._lock:
            self._open.discard(future)
            self._lock.notify_all()
        if self._tell is not None:
            self._tell()
        if not future.cancelled() and (error := future.exception()) is not None:
            log.error("work_failed", lane=self._name, error=repr(error), exc_info=error)
