"""Ending a connection under a thread that waits for it."""

from __future__ import annotations

import contextlib
import os
import socket


def shut_down(descriptor: int) -> None:
    """Shut the connection behind a file descriptor down; the thread that waits for it sees a closed connection."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
        connection.shutdown(socket.SHUT_RDWR)
