"""Each request has a trace id, in every line that is logged for it and in its answer, and is counted by its route."""

from __future__ import annotations

import re
from time import perf_counter
from uuid import uuid4

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Histogram
from structlog.contextvars import bind_contextvars, clear_contextvars

HEADER = "X-Trace-Id"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""A caller may name any other: each would be a time series of its own."""

_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def trace_requests(app: Flask, registry: CollectorRegistry) -> None:
    """Take the caller's trace id where it sends one, else make one; measure each answer until it begins to be sent."""
    seconds = Histogram(
        "sentinel_http_request_seconds",
        "Time to answer, by route.",
        ["method", "route", "status"],
        buckets=_BUCKETS,
        registry=registry,
    )

    def begin() -> None:
        g.began = perf_counter()
        sent = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
        g.trace_id = sent[1] if sent else uuid4().hex
        clear_contextvars()
        bind_contextvars(trace_id=g.trace_id)

    def end(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule is not None else "unknown"
        method = request.method if request.method in _METHODS else "other"
        seconds.labels(method, route, str(response.status_code)).observe(perf_counter() - g.began)
        response.headers[HEADER] = g.trace_id
        return response

    app.before_request(begin)
    app.after_request(end)
