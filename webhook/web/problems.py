"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Response


def problem(status: HTTPStatus, detail: str, members: Mapping[str, Any] | None = None, **headers: str) -> Response:
    """A response with `title`, `status`, `detail` and more members; header names are given with underscores."""
    body: dict[str, Any] = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    body |= members or {}
    response = Response(json.dumps(body), status=status.value, mimetype="application/problem+json")
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response
