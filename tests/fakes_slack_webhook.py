"""Slack's incoming webhooks: a real HTTP server that answers a POST as Slack documents.

200 `ok`; 400 `invalid_payload`, `no_text`; 403 `action_prohibited`; 404 `no_service`, `channel_not_found`;
410 `channel_is_archived`; 429 with Retry-After; 500 `rollup_error`. All of them are plain text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from fakes_slack_blocks import block_errors
from stub_server import StubServer, body_of, reset, respond

PATH = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"


@dataclass(frozen=True)
class Refusal:
    """`hold`: it is answered when the event is set; `reset`: the connection breaks instead."""

    status: int = 200
    word: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    reset: bool = False


@dataclass
class SlackWebhookStub(StubServer):
    """`messages` are the bodies that were taken; `refusal` is how every further one is refused."""

    refusal: Refusal | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.origin + PATH

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = body_of(request)
        self.asked.append(request.path)
        refusal = self.refusal or self._judge(request, body)
        if refusal.hold is not None:
            refusal.hold.wait()
        if refusal.reset:
            reset(request)
            return
        respond(request, refusal.status, refusal.word.encode(), {"Content-Type": "text/html", **refusal.headers})

    def _judge(self, request: BaseHTTPRequestHandler, body: bytes) -> Refusal:
        if request.path != PATH:
            return Refusal(404, "no_service")
        try:
            message = json.loads(body)
        except ValueError:
            return Refusal(400, "invalid_payload")
        if not message.get("text") and not message.get("blocks"):
            return Refusal(400, "no_text")
        if block_errors(message.get("blocks") or []):
            return Refusal(400, "invalid_blocks")
        self.messages.append(message)
        return Refusal(200, "ok")
