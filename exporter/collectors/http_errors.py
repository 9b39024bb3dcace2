"""What went wrong over HTTP, as the errors of this project: the status of an answer, or why there was none."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from exporter.collectors.http_auth import Credentials
from exporter.environment import Secrets
from exporter.errors import (
    BadAnswer,
    CollectError,
    Denied,
    RateLimited,
    ServerFailed,
    Unauthorized,
    Unreachable,
)

LOOKED_AT = 16 * 1024  # bytes of an answer that messages are made from
_EXCERPT = 80
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _PROXY_UNAUTHORIZED, _TOO_MANY = 400, 401, 403, 407, 429
_PASSING_STATUS = {408, 425}
_SERVER_ERRORS = 500
_NOT_TRUSTED = "the server's certificate is not trusted; if it is right, name its authority in tls.ca_file"
_WANTS_CERTIFICATE = "the server wants a client certificate that it knows: set tls.cert_file and tls.key_file"
_TLS_ADVICE = {
    "CERTIFICATE_VERIFY_FAILED": _NOT_TRUSTED,
    "doesn't match": _NOT_TRUSTED,
    "CERTIFICATE_REQUIRED": _WANTS_CERTIFICATE,
    "UNKNOWN_CA": _WANTS_CERTIFICATE,
    "HANDSHAKE_FAILURE": _WANTS_CERTIFICATE,
}


class Untrusted(Unreachable):
    """TLS did not come about; asking again at once cannot help."""

    retryable = False


def refusal(
    response: requests.Response, words: str, excerpt: str, auth: Credentials | None, bad_request: type[CollectError]
) -> CollectError:
    """The error for a status of 300 or more. `words` are the server's own about it, where it is known to have any."""
    status = response.status_code
    said = f"{place(response.url)} answered {status} {response.reason}" + (f" ({words})" if words else "")
    asked = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    if status in (_UNAUTHORIZED, _FORBIDDEN, _PROXY_UNAUTHORIZED):
        return _denied(status, said, auth)
    if status == _TOO_MANY:
        return RateLimited(said, retry_after=asked)
    if status >= _SERVER_ERRORS or status in _PASSING_STATUS:
        return ServerFailed(said, retry_after=asked)
    if status == _BAD_REQUEST and words:
        return bad_request(said)
    return BadAnswer(f"{said}: is the endpoint right? {excerpt}")


def _denied(status: int, said: str, auth: Credentials | None) -> Denied:
    if status == _PROXY_UNAUTHORIZED:
        return Denied(f"{said}: the proxy refused its user or password")
    if status == _UNAUTHORIZED:
        return Unauthorized(f"{said}: {auth.what} was refused" if auth else f"{said}: it wants credentials: set auth")
    return Denied(f"{said}: {auth.what} may not read this" if auth else f"{said}: set auth")


def no_connection(error: Exception, where: str) -> CollectError:
    """Why there was no answer, or none to its end."""
    cause = _cause(error)
    if isinstance(error, requests.exceptions.ProxyError):
        if str(_PROXY_UNAUTHORIZED) in cause:
            return Denied(f"{where}: the proxy refused its user or password: {cause}")
        return Unreachable(f"{where}: the proxy did not connect: {cause}")
    text = str(error)
    for sign, advice in _TLS_ADVICE.items():
        if sign in text:
            return Untrusted(f"{where}: {advice}: {cause}")
    if isinstance(error, requests.exceptions.SSLError):
        if "EOF" in text:  # most often passing; but a server that wants a certificate may hang up before it says so
            return Unreachable(
                f"{where}: the server broke TLS off; if it wants a certificate, set tls.cert_file: {cause}"
            )
        return Untrusted(f"{where}: TLS failed: {cause}")
    return Unreachable(f"{where}: {cause}")


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, given as seconds or as a date; None when absent or unreadable."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def excerpt_of(body: bytes, secrets: Secrets) -> str:
    """How the answer starts. Secrets go before it is cut, for half a secret would not be recognised."""
    text = " ".join(secrets.redact(body[:LOOKED_AT].decode("utf-8", "replace")).split())
    return f"It starts with {text[:_EXCERPT]!r}" if text else "It is empty"


def place(url: str) -> str:
    """A URL without its query, which may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def server_of(url: str) -> str:
    """Scheme, host and port of a URL, the port always said; ValueError for one that has none."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"


def _cause(error: Exception) -> str:
    """The innermost reason of a connection failure, such as `Connection refused`."""
    inner: BaseException = error
    while isinstance(cause := getattr(inner, "reason", None) or (inner.args or (None,))[0], BaseException):
        inner = cause
    text = str(inner)
    return text.rpartition(": ")[2] or type(inner).__name__
