"""The principal of the request that is being handled."""

from __future__ import annotations

from collections.abc import Callable

from flask import g, request
from werkzeug.exceptions import Forbidden

from webhook.domain.access import MAY, Principal, Right, Role

READING = ("GET", "HEAD", "OPTIONS")


def admit(principal: Principal) -> None:
    """Called once, by whatever authenticated the request."""
    g.principal = principal


def principal() -> Principal:
    """Who asks; a view that is reached without one is not behind a door, which is a mistake in the wiring."""
    found: Principal = g.principal
    return found


def require(*roles: Role) -> Principal:
    """The principal, when it has one of `roles`; else Forbidden, which says what is wanted."""
    found = principal()
    if found.role not in roles:
        raise Forbidden(f"This needs the role {' or '.join(roles)}; yours is {found.role}.")
    return found


def allow(read: Right, change: Right) -> Callable[[], None]:
    """A `before_request` behind a door: who lacks the right to `read`, or to `change` something, gets Forbidden."""

    def check() -> None:
        require(*MAY[read if request.method in READING else change])

    return check
