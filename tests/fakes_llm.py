"""An OpenAI-compatible server with one endpoint; `answers` are given in turn, the last one for ever."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests import stub_server
from tests.stub_server import StubServer, body_of, respond

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
    return lambda request: respond(request, status, body, {"Content-Type": "application/json", **(headers or {})})


def failure(status: int, message: str = "no", *, retry_after: str = "") -> Answer:
    body = json.dumps({"error": {"message": message, "type": "error", "code": None}}).encode()
    return raw(body, status, {"Retry-After": retry_after} if retry_after else None)


def reset() -> Answer:
    """The connection is reset before a byte is said."""
    return stub_server.reset


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
class LlmStub(StubServer):
    answers: list[Answer] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = json.loads(body_of(request))
        self.requests.append({"path": request.path, "authorization": request.headers.get("Authorization"), **asked})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer(request)
