"""Grafana as far as Sentinel uses it: a real HTTP server that answers as Grafana documents.

with GrafanaStub() as grafana:
    …  url=grafana.url, token=grafana.token
    grafana.rendered      # what was asked of the renderer, oldest first
    grafana.annotations   # by id, as they are now
    grafana.fail_next("/render", Failure(status=500))
"""

from __future__ import annotations

import io
import json
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from PIL import Image, ImageDraw
from stub_server import StubServer, body_of, reset, respond, respond_json

UID, PANEL, ROW_PANEL = "sentinel-merchants", 2, 5
DASHBOARD = {
    "meta": {"slug": "merchants"},
    "dashboard": {"uid": UID, "panels": [{"id": PANEL}, {"id": 4, "type": "row", "panels": [{"id": ROW_PANEL}]}]},
}


@dataclass(frozen=True)
class Failure:
    """How one call fails: a status, a body, an event to wait for, a broken connection, a body or head without end."""

    status: int = 200
    body: bytes | None = None
    content_type: str = "application/json; charset=UTF-8"
    headers: dict[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    reset: bool = False
    drip: threading.Event | None = None
    crawl: threading.Event | None = None


def login() -> Failure:
    return Failure(302, b'<a href="/login">Found</a>', "text/html; charset=utf-8", {"Location": "/login"})


def renderer_missing() -> Failure:
    """Grafana sends a picture of its own, with status 200, which says that the renderer is not installed."""
    return Failure(200, picture(800, 400), "image/png")


def picture(width: int, height: int, *, lines: int = 60) -> bytes:
    """A PNG with something to see; without `lines` nothing."""
    image = Image.new("RGB", (width, height), "#111217")
    drawing = ImageDraw.Draw(image)
    for n in range(lines):
        drawing.line((0, n * 7, width, height - n * 5), fill=(40 + n, 120, 200), width=2)
    output = io.BytesIO()
    image.save(output, format="PNG")
    return output.getvalue()


@dataclass
class GrafanaStub(StubServer):
    """All lists may be read while the stub runs."""

    token: str = "glsa_secret-token-of-a-service-account"
    prefix: str = "/grafana"
    rendered: list[dict[str, str]] = field(default_factory=list)
    annotations: dict[int, dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    _failures: defaultdict[str, deque[Failure]] = field(default_factory=lambda: defaultdict(deque))

    @property
    def url(self) -> str:
        return self.origin + self.prefix

    def fail_next(self, path: str, *failures: Failure) -> None:
        self._failures[path].extend(failures)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(body_of(request) or b"null")
        parts = urlsplit(request.path)
        path = parts.path.removeprefix(self.prefix)
        self.calls.append((request.command, path))
        for beginning, failures in self._failures.items():
            if path.startswith(beginning) and failures:
                _fail(request, failures.popleft())
                return
        if not parts.path.startswith(f"{self.prefix}/"):
            respond_json(request, 404, {"message": "Not found"})
        elif request.headers.get("Authorization") != f"Bearer {self.token}":
            respond_json(
                request, 401, {"message": "Invalid API key", "messageId": "api-key.invalid", "statusCode": 401}
            )
        elif path.startswith("/render/d-solo/"):
            asked = dict(parse_qsl(parts.query), path=path)
            self.rendered.append(asked)
            drawn = picture(int(asked["width"]), int(asked["height"]))
            respond(request, 200, drawn, {"Content-Type": "image/png"})
        elif path.startswith("/api/dashboards/uid/"):
            known = path.endswith(f"/{UID}")
            respond_json(request, 200 if known else 404, DASHBOARD if known else {"message": "Dashboard not found"})
        elif path == "/api/org":
            respond_json(request, 200, {"id": 1, "name": "Main Org."})
        else:
            self._annotate(request, path, parse_qs(parts.query), body)

    def _annotate(
        self, request: BaseHTTPRequestHandler, path: str, query: dict[str, list[str]], body: dict[str, Any] | None
    ) -> None:
        if path == "/api/annotations" and request.command == "GET":
            wanted = set(query.get("tags", []))
            found = [{"id": id_, **one} for id_, one in self.annotations.items() if wanted <= set(one["tags"])]
            respond_json(request, 200, found)
        elif path == "/api/annotations" and not (body and body.get("text")):
            respond_json(request, 400, {"message": "Failed to save annotation, err: text field should not be empty"})
        elif path == "/api/annotations":
            new = max(self.annotations, default=0) + 1
            self.annotations[new] = dict(body or {})
            respond_json(request, 200, {"message": "Annotation added", "id": new})
        else:
            known = int(path.rpartition("/")[2])
            if known not in self.annotations:
                respond_json(request, 404, {"message": "Annotation not found"})
                return
            self.annotations[known] |= {name: value for name, value in (body or {}).items() if value is not None}
            respond_json(request, 200, {"message": "Annotation patched"})


def _fail(request: BaseHTTPRequestHandler, failure: Failure) -> None:
    if failure.hold:
        failure.hold.wait()
    if failure.reset:
        reset(request)
        return
    if failure.drip is not None:
        _without_end(request, b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n", failure.drip)
        return
    if failure.crawl is not None:
        _without_end(request, b"HTTP/1.1 200 OK\r\nX-Long: ", failure.crawl)
        return
    body = failure.body if failure.body is not None else b'{"message": "Rendering failed."}'
    respond(request, failure.status, body, {"Content-Type": failure.content_type, **failure.headers})


def _without_end(request: BaseHTTPRequestHandler, beginning: bytes, enough: threading.Event) -> None:
    request.close_connection = True
    try:
        request.wfile.write(beginning)
        while not enough.wait(0.05):
            request.wfile.write(b".")
            request.wfile.flush()
    except OSError:
        pass  # nobody listens any more
