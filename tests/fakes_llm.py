"""An OpenAI-compatible server with one endpoint; `answers` are given in turn, the last one for ever."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Answer = Callable[[BaseHTTPRequestHandler], None]


def completion(content: str | None) -> Answer:
    """A chat completion as documented."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1763719200,
        "model": "stub",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 90, "total_tokens": 390},
    }
    return raw(json.dumps(body).encode())


def words(**changes: Any) -> dict[str, Any]:
    """An answer that is true for `notes.make_note()`."""
    good = {
        "title": "Card testing at Northwind Books",
        "summary": "35.0 % of payments were blocked, above the limit of 20 %.",
        "severity": "P1",
        "suggested_action": "Ask for 3-D Secure on new cards.",
    }
    return {**good, **changes}


def good(**changes: Any) -> Answer:
    return completion(json.dumps(words(**changes)))


def together(*answers: dict[str, Any]) -> Answer:
    """Of several alerts that were asked about in one call."""
    return completion(json.dumps({"answers": list(answers)}))


def raw(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def failure(status: int, message: str = "no", *, retry_after: str = "") -> Answer:
    body = json.dumps({"error": {"message": message, "type": "error", "code": None}}).encode()
    return raw(body, status, {"Retry-After": retry_after} if retry_after else None)


def reset() -> Answer:
    """The connection is reset before a byte is said."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.connection.close()
        request.close_connection = True

    return answer


def held(until: threading.Event, then: Answer) -> Answer:
    """An answer that waits for the event."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        until.wait()
        then(request)

    return answer


def hanging() -> Answer:
    """No answer at all, for ever."""
    return held(threading.Event(), failure(500))


def dripping(pause: float) -> Answer:
    """An answer without an end that never pauses long enough for a read timeout."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.end_headers()
        while True:  # until the client has gone
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(pause)

    return answer


def broken() -> Answer:
    """The connection breaks in the middle of the body."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b'{"id"')
        request.wfile.flush()
        request.close_connection = True

    return answer


@dataclass
class LlmStub:
    answers: list[Answer] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Self:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stub.requests.append(
                    {"path": self.path, "authorization": self.headers.get("Authorization"), **json.loads(body)}
                )
                answer = stub.answers.pop(0) if len(stub.answers) > 1 else stub.answers[0]
                with contextlib.suppress(OSError):  # the client had no patience
                    answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"
