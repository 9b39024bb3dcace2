"""/login and /logout.

The admin token in a link logs in and leaves the address bar without it. Nothing else does by link, and it asks whoever
is logged in already: else a link of somebody's would make its reader act as that somebody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from flask import Blueprint, redirect, render_template, request, session, url_for
from flask_wtf.csrf import CSRFError
from werkzeug.wrappers import Response as AnyResponse

from webhook.web.auth import Gate
from webhook.web.contracts import ADMIN_SESSION
from webhook.web.people import LoginRefused
from webhook.web.security import protect

if TYPE_CHECKING:
    from webhook.web.oidc import Oidc

log = structlog.get_logger(__name__)


def local_path(target: str | None) -> str | None:
    """`target` when it is a path on this host, else None: no open redirects."""
    if not target or not target.startswith("/") or target.startswith("//") or "\\" in target:
        return None
    if any(ord(character) < ord(" ") for character in target):
        return None
    try:
        parts = urlsplit(target)
    except ValueError:
        return None
    return None if parts.scheme or parts.netloc else target


def login_blueprint(gate: Gate, oidc: Oidc | None) -> Blueprint:
    """With the provider's own two routes where one is configured."""
    pages = Blueprint("login", __name__, template_folder="templates")

    def limit() -> None:
        gate.rates.take_address(request.remote_addr or "")

    pages.before_request(limit)
    _add_form(pages, gate, oidc)
    _add_leaving(pages, oidc)
    if oidc is not None:
        _add_provider(pages, gate, oidc)
    return pages


def _add_form(pages: Blueprint, gate: Gate, oidc: Oidc | None) -> None:
    @pages.get("/login")
    def form() -> AnyResponse | str | tuple[str, int]:
        target = local_path(request.args.get("next")) or url_for("pages.alerts")
        token = request.args.get("token")
        if token is not None:
            return _by_link(gate, oidc, token, target)
        if gate.visitor() is not None:
            return redirect(target, 303)
        return _form(oidc, target)

    @pages.post("/login")
    def submit() -> AnyResponse | str | tuple[str, int]:
        try:
            protect()
        except CSRFError:
            return _form(oidc, url_for("pages.alerts"), "This form had expired. Please try again."), 400
        target = local_path(request.form.get("next")) or url_for("pages.alerts")
        return _enter(gate, oidc, request.form.get("token", "").strip(), target)


def _add_leaving(pages: Blueprint, oidc: Oidc | None) -> None:
    @pages.post("/logout")
    def leave() -> AnyResponse | str:
        protect()
        by_provider = session.get("kind") == "oidc"
        session.clear()
        elsewhere = oidc.logout_url(url_for("login.form")) if oidc is not None and by_provider else None
        if elsewhere is None:
            return redirect(url_for("login.form"), 303)
        return _form(oidc, url_for("pages.alerts"), left=elsewhere)


def _add_provider(pages: Blueprint, gate: Gate, oidc: Oidc) -> None:
    def refused(work: Callable[[], AnyResponse]) -> AnyResponse | tuple[str, int]:
        try:
            return work()
        except LoginRefused as error:
            log.warning("oidc_login_refused", reason=str(error), cause=error.cause)
            return _form(oidc, url_for("pages.alerts"), str(error)), error.status

    @pages.get("/login/oidc")
    def begin() -> AnyResponse | tuple[str, int]:
        session["next"] = local_path(request.args.get("next")) or url_for("pages.alerts")
        return refused(lambda: oidc.begin(url_for("login.arrive")))

    @pages.get("/login/oidc/callback")
    def arrive() -> AnyResponse | tuple[str, int]:
        def enter() -> AnyResponse:
            person = oidc.arrive()
            target = local_path(session.get("next")) or url_for("pages.alerts")
            gate.enter_as(person)
            log.info("oidc_login", actor=person.name, role=person.role, authenticated_as=person.credential)
            return redirect(target, 303)

        return refused(enter)


def _by_link(gate: Gate, oidc: Oidc | None, token: str, target: str) -> AnyResponse | str | tuple[str, int]:
    if not gate.right_link(token):
        return _form(oidc, target, "This link does not log in. Enter a key or token here."), 401
    visitor = gate.visitor()
    if visitor is None:
        return _enter(gate, oidc, token, target)
    if visitor.credential == ADMIN_SESSION:
        return redirect(target, 303)
    return render_template("login_switch.html", next=target, token=token)


def _enter(gate: Gate, oidc: Oidc | None, token: str, target: str) -> AnyResponse | tuple[str, int]:
    if not gate.enter(token):
        return _form(oidc, target, "That token or key is not right."), 401
    return redirect(target, 303)


def _form(oidc: Oidc | None, target: str, error: str = "", left: str = "") -> str:
    """`left` is where the provider's own session is ended."""
    return render_template("login.html", next=target, error=error, left=left, provider=oidc and oidc.name)
