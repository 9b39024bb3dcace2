"""Slack's incoming webhooks: a real HTTP server that answers a POST as Slack documents.

200 `ok`; 400 `invalid_payload`, `no_text`; 403 `action_prohibited`; 404 `no_service`, `channel_not_found`;
410 `channel_is_archived`; 429 with Retry-After; 500 `rollup_error`. All of them are plain text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from fakes_slack_blocks import block_errors

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
class SlackWebhookStub:
    """`messages` are the bodies that were taken; `refusal` is how every further one is refused."""

    refusal: Refusal | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                stub._answer(self)

            def do_GET(self) -> None:
                """What a redirect that is followed would ask."""
                stub._answer(self)

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
        return f"http://127.0.0.1:{self._server.server_address[1]}{PATH}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.asked.append(request.path)
        refusal = self.refusal or self._judge(request, body)
        if refusal.hold is not None:
            refusal.hold.wait()
        if refusal.reset:
            request.close_connection = True
            request.connection.close()
            return
        answer = refusal.word.encode()
        try:
            request.send_response(refusal.status)
            for name, value in {"Content-Type": "text/html", **refusal.headers}.items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(answer)))
            request.end_headers()
            request.wfile.write(answer)
        except OSError:
            pass  # the client had no patience

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
