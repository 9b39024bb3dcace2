"""One client's connection: reading that ends in time and at a size, and sending that copies little."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Iterable, Iterator
from time import monotonic

_SMALL = 256 * 1024
_LINGER = 1.0
_DRAINED, _MOST_DRAINED = 64 * 1024, 1024 * 1024


class TooMuch(Exception):  # noqa: N818 - named for what happened
    """A request is longer than it may be."""


class Reader(io.RawIOBase):
    """Bytes from a socket, until a deadline for all of them together and up to a number of them.

    A timeout of the socket alone would begin anew with each byte that a slow client drips.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline = 0.0
        self._left = 0

    def expect(self, seconds: float, size: int) -> None:
        """From now on, at most `size` bytes within `seconds`."""
        self._deadline = monotonic() + seconds
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what BufferedReader passes
        """TimeoutError at the deadline, TooMuch beyond the size."""
        if self._left <= 0:
            raise TooMuch
        wait_at_most(self._connection, self._deadline)
        count = self._connection.recv_into(buffer[: self._left])
        self._left -= count
        return count


def wait_at_most(connection: socket.socket, deadline: float) -> None:
    """Let the next call on the socket end by `deadline`, on the monotonic clock; TimeoutError when it has passed."""
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def send(connection: socket.socket, parts: Iterable[bytes], deadline: float) -> None:
    """All parts; TimeoutError when the client has not taken them by `deadline`."""
    for part in gathered(parts):
        wait_at_most(connection, deadline)
        connection.sendall(part)


def gathered(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, with small parts joined and large ones not copied: few writes, little copying."""
    small: list[bytes] = []
    size = 0
    for part in parts:
        if len(part) < _SMALL:
            small.append(part)
            size += len(part)
        if size and (len(part) >= _SMALL or size >= _SMALL):
            yield b"".join(small)
            small, size = [], 0
        if len(part) >= _SMALL:
            yield part
    if size:
        yield b"".join(small)


def drain(connection: socket.socket) -> None:
    """Say that nothing more comes, and read what the client still sends, for a moment.

    Closing with bytes unread makes the kernel reset the connection, and the client would not see why it was refused.
    """
    deadline = monotonic() + _LINGER
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        for _ in range(_MOST_DRAINED // _DRAINED):
            wait_at_most(connection, deadline)
            if not connection.recv(_DRAINED):
                return
