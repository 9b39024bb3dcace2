"""Who may read /metrics: everybody, or who brings the token that SENTINEL_METRICS_TOKEN sets."""

from __future__ import annotations

import hmac
from http import HTTPStatus

from werkzeug.wrappers import Response


def refused(authorization: str, token: str) -> Response | None:
    """None for who may read; an empty `token` is none. As bearer, which is what Prometheus sends."""
    scheme, _, given = authorization.partition(" ")
    right = hmac.compare_digest(given.strip().encode(), token.encode()) and scheme.lower() == "bearer"
    if right or not token:
        return None
    challenge = {"WWW-Authenticate": 'Bearer realm="sentinel metrics"'}
    return Response("the metrics token is wanted\n", HTTPStatus.UNAUTHORIZED, challenge, mimetype="text/plain")
