"""Slack for a drill: it says when it took which message, fails when told to, and tells when a call is under way."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.fakes_slack import Failure, SlackStub

FAILURES = (Failure(status=500), Failure(reset=True), Failure(status=429, retry_after=2))


@dataclass(frozen=True)
class Taken:
    """A message that Slack took, `at` a time of time.monotonic."""

    at: float
    notification_id: str
    reply: bool


@dataclass
class Slack(SlackStub):
    """`slow`: seconds that each call takes. `under_way` is called once, in the middle of a call that Slack took."""

    taken: list[Taken] = field(default_factory=list)
    failing: bool = False
    failed: int = 0
    slow: float = 0.0
    under_way: Callable[[], None] | None = None
    _turn: Any = field(default_factory=lambda: itertools.cycle(FAILURES))
    _own: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        with self._own:
            if self.failing and "chat." in request.path:
                self.failed += 1
                method = request.path.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
                self._failures[method].append(next(self._turn))
        if self.slow:
            time.sleep(self.slow)
        super().answer(request)

    def _judged(self, method: str, token: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer = super()._judged(method, token, parameters)
        if method == "chat.postMessage" and answer.get("ok"):
            payload = (parameters.get("metadata") or {}).get("event_payload") or {}
            taken = Taken(time.monotonic(), str(payload.get("notification_id", "")), "thread_ts" in parameters)
            with self._own:
                self.taken.append(taken)
                told, self.under_way = self.under_way, None
            if told is not None:
                told()  # it took the message, and nobody has heard so
        return answer

    def forget(self) -> None:
        """For a run of half an hour: what was called is not kept. Messages are, since they can be asked for."""
        self.calls.clear()
