"""A provider that is asked by HTTP: takes everything and remembers it, until it is told how to answer.

with ProviderStub() as stub:
    …  stub.url; stub.answers.append(Answer(429, headers={"Retry-After": "7"}))
    stub.calls   # method, path, headers and body of each, oldest first
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl

from stub_server import StubServer, body_of, reset, respond, respond_json


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
class ProviderStub(StubServer):
    """`usual` answers what `answers` has no answer for."""

    usual: Callable[[Call], Answer] = lambda _: Answer()
    calls: list[Call] = field(default_factory=list)
    answers: deque[Answer] = field(default_factory=deque)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        call = Call(request.command, request.path, dict(request.headers), body_of(request))
        self.calls.append(call)
        answer = self.answers.popleft() if self.answers else self.usual(call)
        request.close_connection = True
        if answer.hold is not None:
            answer.hold.wait()
        if answer.reset:
            reset(request)
        elif answer.raw is not None:
            request.wfile.write(answer.raw)
        elif isinstance(answer.body, bytes):
            respond(request, answer.status, answer.body, {"Content-Type": "application/json", **answer.headers})
        else:
            respond_json(request, answer.status, answer.body or {}, answer.headers)
