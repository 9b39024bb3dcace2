"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus

from flask import Response


def problem(status: HTTPStatus, detail: str, **headers: str) -> Response:
    """A response with `title`, `status` and `detail`; header names are given with underscores."""
    body = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    response = Response(json.dumps(body), status=status.value, mimetype="application/problem+json")
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response
