"""The socket that a client library waits for, so that another thread can end the wait."""

from __future__ import annotations

import socket

from exporter.collectors.base import Collection
from exporter.collectors.sockets import shut_down


class WaitedSocket:
    """One per client: `note` is called in the source's thread for each socket, `cancel` from any."""

    def __init__(self) -> None:
        self.collection: Collection | None = None
        self._socket: socket.socket | None = None

    def note(self, waited_for: socket.socket) -> None:
        """Keep the socket for `cancel`. One that came before there was a socket to shut down ends the request here."""
        self._socket = waited_for
        if self.collection is not None:
            self.collection.remaining()

    def cancel(self) -> None:
        waited_for = self._socket
        if waited_for is not None and self.collection is not None:
            shut_down(waited_for)
