"""A provider that is asked by HTTP: takes everything and remembers it, until it is told how to answer.

with ProviderStub() as stub:
    …  stub.url; stub.answers.append(Answer(429, headers={"Retry-After": "7"}))
    stub.calls   # method, path, headers and body of each, oldest first
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl


@dataclass(frozen=True)
class Answer:
    """`hold`: nothing is said until it is set; `reset`: the connection breaks; `raw`: bytes that are no HTTP."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    reset: bool = False
    raw: bytes | None = None


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True))


@dataclass
class ProviderStub:
    """`usual` answers what `answers` has no answer for."""

    usual: Callable[[Call], Answer] = lambda _: Answer()
    calls: list[Call] = field(default_factory=list)
    answers: deque[Answer] = field(default_factory=deque)

    def __enter__(self) -> Self:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                call = Call(self.command, self.path, dict(self.headers), body)
                stub.calls.append(call)
                _say(self, stub.answers.popleft() if stub.answers else stub.usual(call))

            do_GET = do_POST = do_PUT = _any  # noqa: N815 - the server's names

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


def _say(request: BaseHTTPRequestHandler, answer: Answer) -> None:
    request.close_connection = True
    if answer.hold is not None:
        answer.hold.wait()
    if answer.reset:
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.connection.close()
        return
    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body or {}).encode()
    try:
        if answer.raw is not None:
            request.wfile.write(answer.raw)
            return
        request.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
    except OSError:
        pass  # the client had no patience
