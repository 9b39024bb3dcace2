"""Ending a connection under a thread that waits for it."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any


def shut_down(connection: Any) -> None:  # noqa: ANN401 - a socket, or what TLS inside TLS wraps one in
    """Shut it down from any thread; the one that waits for it sees a closed connection.

    By the object, which knows when it was closed: the number of its descriptor may be of another connection by then.
    Below TLS, whose own `shutdown` changes what the waiting thread works with.
    """
    while not isinstance(connection, socket.socket):
        connection = connection.socket  # urllib3's own, behind a proxy that is reached over TLS
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def another(descriptor: int) -> socket.socket:
    """The connection behind a descriptor that its library keeps open now; it lasts until this one is closed, too."""
    return socket.socket(fileno=os.dup(descriptor))
