"""What every answer and every cookie carries, and how much may be sent to us."""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta

from flask import Flask, Response, current_app, request
from flask.sessions import SecureCookieSessionInterface
from flask_wtf.csrf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

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
    """The session cookie is Secure whenever the request came over https, or people are told to come so.

    Behind a proxy that ends TLS the request itself does not say it, unless the proxy is trusted.
    """

    def get_cookie_secure(self, app: Flask) -> bool:
        return super().get_cookie_secure(app) or request.is_secure


def session_secret(app: Flask, admin_token: str) -> bytes:
    """The application's own secret, or one derived from the token, equal in every process."""
    if not app.secret_key:
        app.secret_key = hmac.new(admin_token.encode(), b"sentinel session cookie", hashlib.sha256).digest()
    return app.secret_key if isinstance(app.secret_key, bytes) else app.secret_key.encode()


def secure_application(app: Flask, public_url: str) -> None:
    """Session cookie, CSRF tokens and security headers; the CSRF check itself is `require_login`'s."""
    app.session_interface = CookieOverHttps()
    app.config.update(
        MAX_CONTENT_LENGTH=LONGEST_BODY,
        SESSION_COOKIE_NAME="sentinel_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=public_url.startswith("https:"),
        PERMANENT_SESSION_LIFETIME=SESSION_LIFETIME,
        # Only an answer that changes the session carries it: one that was under way would undo a change made meanwhile.
        SESSION_REFRESH_EACH_REQUEST=False,
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


def trust_proxies(app: Flask, proxies: int) -> None:
    """Take address and scheme from the headers of so many proxies in front; of none where there is none."""
    if proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=0)  # type: ignore[method-assign]


def protect() -> None:
    """Raise CSRFError unless an unsafe request carries the token of its session."""
    csrf: CSRFProtect = current_app.extensions["csrf"]
    csrf.protect()
