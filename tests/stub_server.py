"""What the stubs of providers share: a real HTTP server between `with` and its end, and ways to answer."""

from __future__ import annotations

import json
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from tests.servers_http import served


class StubServer(ABC):
    """Every request goes to `answer`, in a thread of its own; a client that has gone meanwhile is no fault."""

    def __enter__(self) -> Self:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                with suppress(OSError):
                    stub.answer(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - http.server's names

            def log_message(self, *args: object) -> None:
                pass

        self._running = ExitStack()
        self.origin = self._running.enter_context(served(Handler))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def url(self) -> str:
        """What the settings of the provider are given."""
        return self.origin

    @abstractmethod
    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""


def body_of(request: BaseHTTPRequestHandler) -> bytes:
    return request.rfile.read(int(request.headers.get("Content-Length") or 0))


def respond(
    request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    request.send_response(status)
    for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


def respond_json(
    request: BaseHTTPRequestHandler, status: int, answer: Any, headers: Mapping[str, str] | None = None
) -> None:
    respond(request, status, json.dumps(answer).encode(), {"Content-Type": "application/json", **(headers or {})})


def reset(request: BaseHTTPRequestHandler) -> None:
    """The connection breaks before a byte is said."""
    request.close_connection = True
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()
