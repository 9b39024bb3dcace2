"""HTTP connections whose socket is known as soon as there is one: before the answer's headers, and before TLS."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.response import BaseHTTPResponse

Note = Callable[[socket.socket], None]


class _Noted(HTTPConnection):
    """Tells of each socket that it is about to wait for; an error raised there ends the request."""

    _sock: socket.socket | None = None

    def note(self, waited_for: socket.socket) -> None:
        """The adapter's subclass of a pool's own connection class says whom to tell."""
        raise NotImplementedError

    @property
    def sock(self) -> Any:  # noqa: ANN401 - as the base class has it: a socket, or None while there is none
        return self._sock

    @sock.setter
    def sock(self, value: socket.socket | None) -> None:
        self._sock = value
        if value is not None:
            self.note(value)

    def getresponse(self) -> BaseHTTPResponse:  # type: ignore[override]  # as urllib3 itself narrows it
        if self._sock is not None:  # kept from an earlier request, perhaps
            self.note(self._sock)
        return super().getresponse()


def noted(connection_class: type[Any], note: Note) -> type[Any]:
    """A connection class of urllib3 that calls `note` with each socket before it waits for it."""
    return type("NotedConnection", (_Noted, connection_class), {"note": lambda _, waited_for: note(waited_for)})


class ReachableAdapter(HTTPAdapter):
    """`note` is called in the requesting thread with each socket, plain or TLS, before an answer is read from it."""

    def __init__(self, note: Note) -> None:
        self._note = note
        super().__init__()

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: bool | str | None,
        proxies: Mapping[str, str] | None = None,
        cert: tuple[str, str] | str | None = None,
    ) -> HTTPConnectionPool:
        pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        assert isinstance(pool, HTTPConnectionPool)
        if not issubclass(pool.ConnectionCls, _Noted):
            pool.ConnectionCls = noted(pool.ConnectionCls, self._note)
        return pool
