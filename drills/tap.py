"""What stands between Alertmanager and the receiver and writes down what passes: who said what, and the answer.

Alertmanager counts calls, not alerts. Here each alert is counted that was delivered and answered with 200.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.stub_server import StubServer, body_of, reset, respond

Rewrite = Callable[[dict[str, Any]], dict[str, Any]]
PATH = "/api/v1/alerts/prometheus/webhook"
_PATIENCE_S = 120


@dataclass(frozen=True)
class Passed:
    """One call: `status` is the receiver's, None where it broke off, and then nobody knows what became of it."""

    at: float
    alerts: int
    status: int | None
    took: float


@dataclass
class Tap(StubServer):
    """`rewrite` changes what passes, as a sender with other ideas would."""

    port: int = 0
    rewrite: Rewrite | None = None
    passed: list[Passed] = field(default_factory=list)
    under_way: int = 0
    """Alerts that the receiver has been given and has not answered yet."""

    in_call: Callable[[], None] | None = None
    """Called once, when the next call has been handed on and is not answered."""

    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def delivered(self) -> int:
        """Alerts that were answered with 200."""
        return sum(one.alerts for one in self.passed if one.status == http.client.OK)

    @property
    def doubtful(self) -> int:
        """Alerts whose call broke off before the answer, or was answered with an error that may come late."""
        return sum(one.alerts for one in self.passed if one.status != http.client.OK)

    @property
    def refused(self) -> int:
        """Calls that were answered, and not with 200."""
        return sum(one.status not in (None, http.client.OK) for one in self.passed)

    @property
    def calls(self) -> int:
        return sum(one.status == http.client.OK for one in self.passed)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = body_of(request)
        payload = json.loads(body)
        if self.rewrite is not None:
            body = json.dumps(self.rewrite(payload)).encode()
        number = len(payload["alerts"])
        with self._lock:
            self.under_way += number
        began = time.monotonic()
        status, answer, headers = self._forward(request, body)
        with self._lock:
            self.passed.append(Passed(time.monotonic(), number, status, time.monotonic() - began))
            self.under_way -= number
        if status is None:
            reset(request)
        else:
            respond(request, status, answer, headers)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int | None, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers}
        try:
            connection.request("POST", request.path, body, headers)
            with self._lock:
                told, self.in_call = self.in_call, None
            if told is not None:
                told()
            answer = connection.getresponse()
            kept = {"Content-Type": answer.headers.get("Content-Type", "text/plain")}
            return answer.status, answer.read(), kept
        except (OSError, http.client.HTTPException):
            return None, b"", {}
        finally:
            connection.close()
