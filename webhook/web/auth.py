"""Who is looking: one admin token, as a login for people and as a bearer for programs.

Who is not let in is answered with 401 by the API and sent to the login page by the pages; 429 is for guessing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from math import ceil
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, current_app, redirect, render_template, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import TooManyRequests, Unauthorized
from werkzeug.wrappers import Response as AnyResponse

from webhook.domain.access import Principal, Role
from webhook.web.access import admit
from webhook.web.contracts import ADMIN_SESSION, ADMIN_TOKEN

ATTEMPTS = 10
ATTEMPT_WINDOW = timedelta(minutes=5)
REMEMBERED_ADDRESSES = 4096
SESSION_LIFETIME = timedelta(days=7)
LONGEST_BODY = 64 * 1024
"""Bytes: far more than any form or API call needs. Who is to send more raises it for that request, once let in."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: over https the CSRF check compares the referrer with the host.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class CookieOverHttps(SecureCookieSessionInterface):
    """The session cookie is Secure whenever the request came over https."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return super().get_cookie_secure(app) or request.is_secure


class LoginAttempts:
    """Failed logins per address: at most ATTEMPTS in ATTEMPT_WINDOW, kept by this process alone."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[datetime]] = OrderedDict()

    def wait(self, address: str, now: datetime) -> timedelta | None:
        """How long the address has to wait; None when it may try."""
        failures = self._failures.get(address)
        if failures is None:
            return None
        while failures and failures[0] <= now - ATTEMPT_WINDOW:
            failures.popleft()
        return failures[0] + ATTEMPT_WINDOW - now if len(failures) >= ATTEMPTS else None

    def failed(self, address: str, now: datetime) -> None:
        self._failures.setdefault(address, deque(maxlen=ATTEMPTS)).append(now)
        self._failures.move_to_end(address)
        while len(self._failures) > REMEMBERED_ADDRESSES:
            self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        self._failures.pop(address, None)


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


class Gate:
    """Lets in who knows the admin token. The session holds a digest of it: a new token ends every session."""

    def __init__(self, admin_token: str, secret: bytes, clock: Callable[[], datetime]) -> None:
        if not admin_token:
            raise ValueError("the admin token is empty")
        self._token = hashlib.sha256(admin_token.encode()).digest()
        self._mark = hmac.new(secret, self._token, hashlib.sha256).hexdigest()[:32]
        self._clock = clock
        self.attempts = LoginAttempts()

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._token)

    def check(self, token: str) -> bool:
        """Whether the token is right; raise TooManyRequests for a wrong one from an address that guesses.

        A right token always passes: behind a proxy everybody may have the address of the one who guesses.
        """
        address, now = request.remote_addr or "", self._clock()
        if self._knows(token):
            self.attempts.succeeded(address)
            return True
        wait = self.attempts.wait(address, now)
        if wait is not None:
            seconds = ceil(wait.total_seconds())
            raise TooManyRequests(
                f"Too many failed attempts. Try again in {ceil(seconds / 60)} min.", retry_after=seconds
            )
        self.attempts.failed(address, now)
        return False

    def open_session(self) -> None:
        session.clear()
        session.permanent = True
        session["mark"] = self._mark

    @property
    def has_session(self) -> bool:
        return hmac.compare_digest(str(session.get("mark", "")), self._mark)


def _secret(app: Flask, admin_token: str) -> bytes:
    """The application's own secret, or one derived from the token, equal in every process."""
    if not app.secret_key:
        app.secret_key = hmac.new(admin_token.encode(), b"sentinel session cookie", hashlib.sha256).digest()
    return app.secret_key if isinstance(app.secret_key, bytes) else app.secret_key.encode()


def secure_application(app: Flask, admin_token: str, clock: Callable[[], datetime]) -> Gate:
    """Session cookie, CSRF tokens and security headers; the CSRF check itself is `require_login`'s."""
    gate = Gate(admin_token, _secret(app, admin_token), clock)
    app.session_interface = CookieOverHttps()
    app.config.update(
        MAX_CONTENT_LENGTH=LONGEST_BODY,
        SESSION_COOKIE_NAME="sentinel_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=SESSION_LIFETIME,
        WTF_CSRF_CHECK_DEFAULT=False,  # the receiver's senders have no cookie
        WTF_CSRF_TIME_LIMIT=int(SESSION_LIFETIME.total_seconds()),
    )
    CSRFProtect(app)

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        # Pages and answers are one person's; only charts and assets say otherwise.
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return gate


def protect() -> None:
    """Raise CSRFError unless an unsafe request carries the token of its session."""
    csrf: CSRFProtect = current_app.extensions["csrf"]
    csrf.protect()


def require_login(gate: Gate) -> Callable[[], AnyResponse | None]:
    """A `before_request` for pages: to the login page and back again."""

    def check() -> AnyResponse | None:
        if not gate.has_session:
            wanted = request.full_path.rstrip("?") if request.method == "GET" else request.path
            target = wanted if request.method == "GET" else wanted.rsplit("/", 1)[0]
            return redirect(url_for("login.form", next=target or None), 303)
        protect()
        admit(Principal("admin", Role.ADMIN, ADMIN_SESSION))
        return None

    return check


def require_credentials(gate: Gate) -> Callable[[], None]:
    """A `before_request` for the API: the bearer token, or a session and, to change something, its CSRF token."""

    def check() -> None:
        header = request.headers.get("Authorization", "")
        scheme, _, token = header.partition(" ")
        if header:
            if scheme.lower() != "bearer" or not gate.check(token.strip()):
                raise Unauthorized("The bearer token is not right.")
            admit(Principal("admin", Role.ADMIN, ADMIN_TOKEN))
        elif gate.has_session:
            protect()
            admit(Principal("admin", Role.ADMIN, ADMIN_SESSION))
        else:
            raise Unauthorized("Send the admin token as `Authorization: Bearer …`, or log in.")

    return check


def login_blueprint(gate: Gate) -> Blueprint:
    """/login and /logout. A right token in the link logs in and leaves the address bar without it."""
    pages = Blueprint("login", __name__, template_folder="templates")

    @pages.get("/login")
    def form() -> AnyResponse | str | tuple[str, int]:
        target = local_path(request.args.get("next")) or url_for("pages.alerts")
        token = request.args.get("token")
        if token is not None:
            return _enter(gate, token, target)
        if gate.has_session:
            return redirect(target, 303)
        return render_template("login.html", next=target)

    @pages.post("/login")
    def submit() -> AnyResponse | str | tuple[str, int]:
        try:
            protect()
        except CSRFError:
            return render_template(
                "login.html", next=url_for("pages.alerts"), error="This form had expired. Please try again."
            ), 400
        target = local_path(request.form.get("next")) or url_for("pages.alerts")
        return _enter(gate, request.form.get("token", "").strip(), target)

    @pages.post("/logout")
    def leave() -> AnyResponse:
        protect()
        session.clear()
        return redirect(url_for("login.form"), 303)

    return pages


def _enter(gate: Gate, token: str, target: str) -> AnyResponse | tuple[str, int]:
    if not gate.check(token):
        return render_template("login.html", next=target, error="That token is not right."), 401
    gate.open_session()
    return redirect(target, 303)
