"""Whether who asked is still there."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any


def never() -> bool:
    return False


def peer_left(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """Whether the client has closed its connection, which a stream would else notice at its second heartbeat.

    A browser opens a new stream with every page; the servers used here hand out the connection.
    """
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket):
        return never

    def left() -> bool:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    return left
