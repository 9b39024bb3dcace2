"""One deadline for all that a thread does in a call, whatever the other side does: reads that drip, or never end.

Time-outs of sockets are of each read, and start anew with every byte. So whoever connects under a deadline says on
which socket, and when the time is up that is shut down under whoever waits for it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from time import monotonic
from typing import TypeVar

LONGEST_CALL = 15
"""Seconds of one call to a provider."""

LONGEST_SEND = 3 * LONGEST_CALL
"""Seconds of all calls for one message: a worker's lease on it is longer."""

T = TypeVar("T")
_thread = threading.local()
_open: set[Deadline] = set()
_lock = threading.Lock()


class Deadline:
    """`end` in monotonic seconds. `handed_over`: whether the provider may have got what we sent."""

    def __init__(self, end: float) -> None:
        self.end = end
        self.handed_over = False
        self._sockets: list[socket.socket] = []
        self._timer: threading.Timer | None = None

    @property
    def left(self) -> float:
        return self.end - monotonic()

    @property
    def passed(self) -> bool:
        return self.left <= 0

    def note(self, connection: socket.socket) -> None:
        """Shut it down at the end, whatever becomes of the object; past the end, close it and raise TimeoutError."""
        copy = socket.socket(fileno=os.dup(connection.fileno()))
        with _lock:
            self._sockets.append(copy)
            if not self.passed:
                return
        self.cut_short()
        connection.close()  # whoever has just made it does not hold it yet
        raise TimeoutError("the time of this call is up")

    def cut_short(self) -> None:
        """End what is under way now."""
        with _lock:
            self.end = min(self.end, monotonic())
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def begin(self) -> None:
        self._timer = threading.Timer(max(self.left, 0), self.cut_short)
        self._timer.daemon = True
        self._timer.start()
        with _lock:
            _open.add(self)

    def finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with _lock:
            _open.discard(self)
            while self._sockets:
                self._sockets.pop().close()


@contextmanager
def deadline(seconds: float) -> Iterator[Deadline]:
    """For what this thread does inside; within another deadline the earlier end counts."""
    outer, end = current(), monotonic() + seconds
    own = Deadline(end if outer is None else min(end, outer.end))
    own.begin()
    _thread.deadline = own
    try:
        yield own
    finally:
        _thread.deadline = outer
        own.finish()


def current() -> Deadline | None:
    """The deadline that this thread is under."""
    found: Deadline | None = getattr(_thread, "deadline", None)
    return found


def seconds_left(otherwise: float | None = None) -> float | None:
    """Until the end, never 0, which would mean for ever to a socket; raise TimeoutError after it."""
    until = current()
    if until is None:
        return otherwise
    if until.passed:
        raise TimeoutError("the time of this call is up")
    return until.left if otherwise is None else min(until.left, otherwise)


def cut_all_short() -> None:
    """End every call of this process now: it stops, and what is not answered yet is not waited for."""
    with _lock:
        found = list(_open)
    for each in found:
        each.cut_short()


def resolved(lookup: Callable[[str, int], Sequence[str]], host: str, port: int) -> Sequence[str]:
    """`lookup` within the deadline: a name server that hangs is waited for by a thread of its own."""
    if _is_address(host):
        return lookup(host, port)  # nobody is asked
    return within(lambda: lookup(host, port), seconds_left())


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def within(work: Callable[[], T], seconds: float | None) -> T:
    """What `work` returns or raises; TimeoutError when that takes longer, and its end is nobody's concern any more."""
    if seconds is None:
        return work()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="within")
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError("no answer in time")
    return results[0]
