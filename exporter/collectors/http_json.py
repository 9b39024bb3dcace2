"""JSON over HTTP GET: retries inside the deadline, a cap on the size, and errors that say what came instead."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
import tenacity
import urllib3
from requests.auth import AuthBase

from exporter.collectors.base import Collection
from exporter.collectors.reachable_http import ReachableAdapter
from exporter.collectors.sockets import shut_down
from exporter.environment import Secrets
from exporter.errors import (
    BadAnswer,
    BudgetExceeded,
    CollectError,
    Denied,
    RateLimited,
    SecretMissing,
    ServerFailed,
    TimedOut,
    Unreachable,
)

_ATTEMPTS = 4
_CHUNK = 256 * 1024
_LONGEST_CONNECT = 10.0
_EXCERPT = 80
_LOOKED_AT = 16 * 1024
_PASSING_STATUS = {408, 425}
_backoff = tenacity.wait_exponential_jitter(multiplier=0.5, max=8, jitter=0.25)


class BearerAuth(AuthBase):
    """Sets the header itself, so that no `.netrc` entry for the host replaces it. `origin` names the token's source."""

    def __init__(self, token: str, origin: str) -> None:
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise SecretMissing(
                f"the token from {origin} is empty or has characters that no token has, such as a space"
            )
        self._token = token
        self.origin = origin

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class JsonClient:
    """One session for one source; `get` is called from one thread, `cancel` from any."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._session = requests.Session()
        self._session.headers.update({"Accept": "application/json", "User-Agent": "sentinel-exporter"})
        adapter = ReachableAdapter(self._waits_for)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._collection: Collection | None = None
        self._socket: socket.socket | None = None

    def get(self, url: str, params: Mapping[str, str], auth: BearerAuth | None, collection: Collection) -> object:
        """The decoded answer. 429, 5xx and broken connections are tried again while time is left."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, CollectError) and error.retryable),
            wait=_wait,
            stop=lambda state: (
                state.attempt_number >= _ATTEMPTS
                or isinstance(_failure(state), TimedOut)
                or collection.clock() + state.upcoming_sleep >= collection.deadline
            ),
            sleep=collection.sleep,
            reraise=True,
        )
        return attempts(self._once, url, params, auth, collection)

    def cancel(self) -> None:
        waited_for = self._socket
        if waited_for is not None:
            shut_down(waited_for.fileno())

    def _waits_for(self, waited_for: socket.socket) -> None:
        """Keep the socket for `cancel`. One that came before there was a socket to shut down ends the request here."""
        self._socket = waited_for
        if self._collection is not None:
            self._collection.remaining()

    def _once(self, url: str, params: Mapping[str, str], auth: BearerAuth | None, collection: Collection) -> object:
        place = _place(url)
        left = collection.remaining()
        self._collection = collection
        try:
            with self._session.get(
                url, params=params, auth=auth, stream=True, timeout=(min(left, _LONGEST_CONNECT), left)
            ) as response:
                body = self._body(response, collection)
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise TimedOut(f"{place} did not answer in time") from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            collection.remaining()  # a connection that was cancelled is a timeout
            raise Unreachable(f"{place}: {_cause(error)}") from None
        except (requests.exceptions.ContentDecodingError, urllib3.exceptions.HTTPError) as error:
            raise BadAnswer(f"{place}: the answer's compression is damaged ({type(error).__name__})") from None
        except requests.RequestException as error:
            raise BadAnswer(f"{place}: {type(error).__name__}: {error}") from None
        finally:
            self._collection = self._socket = None
        excerpt = _excerpt(body, collection.secrets)
        _check_status(response, excerpt, place, auth)
        return _decoded(response, body, place, excerpt)

    def _body(self, response: requests.Response, collection: Collection) -> bytes:
        """The whole body, decompressed; BudgetExceeded as soon as it is longer than allowed."""
        chunks, size = [], 0
        for chunk in response.iter_content(_CHUNK):
            size += len(chunk)
            if size > self._max_bytes:
                raise BudgetExceeded(f"the answer is larger than max_response_bytes ({self._max_bytes})")
            collection.remaining()
            chunks.append(chunk)
        collection.remaining()  # an answer that was cut off by `cancel` may look like one that ended
        return b"".join(chunks)


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


def _wait(state: tenacity.RetryCallState) -> float:
    failure = _failure(state)
    asked = failure.retry_after if isinstance(failure, CollectError) else None
    return _backoff(state) if asked is None else asked


def _failure(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _check_status(response: requests.Response, excerpt: str, place: str, auth: BearerAuth | None) -> None:
    status, said = response.status_code, f"{place} answered {response.status_code} {response.reason}"
    if status < 300:  # noqa: PLR2004 - redirects were followed
        return
    if status == 401:  # noqa: PLR2004 - the number is the name
        which = f"the token from {auth.origin} was refused" if auth else "it wants a token: set auth"
        raise Denied(f"{said}: {which}")
    if status == 403:  # noqa: PLR2004 - the number is the name
        raise Denied(f"{said}: the token may not read this" if auth else f"{said}: set auth")
    asked = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    if status == 429:  # noqa: PLR2004 - the number is the name
        raise RateLimited(said, retry_after=asked)
    if status >= 500 or status in _PASSING_STATUS:  # noqa: PLR2004 - all server errors
        raise ServerFailed(said, retry_after=asked)
    raise BadAnswer(f"{said}: is the endpoint right? {excerpt}")


def _decoded(response: requests.Response, body: bytes, place: str, excerpt: str) -> object:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        if kind == "text/html" or body.lstrip()[:1] == b"<":
            what = "HTML, not JSON: is the endpoint right, or is there a login page in between?"
        else:
            what = f"something that is no JSON ({kind or 'no content type'})."
        raise BadAnswer(f"{place} answered {response.status_code} with {what} {excerpt}") from None


def _excerpt(body: bytes, secrets: Secrets) -> str:
    """How the answer starts. Secrets go before it is cut, for half a secret would not be recognised."""
    text = " ".join(secrets.redact(body[:_LOOKED_AT].decode("utf-8", "replace")).split())
    return f"It starts with {text[:_EXCERPT]!r}" if text else "It is empty"


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _cause(error: Exception) -> str:
    """The innermost reason of a connection failure, such as `Connection refused`."""
    inner: BaseException = error
    while isinstance(cause := getattr(inner, "reason", None) or (inner.args or (None,))[0], BaseException):
        inner = cause
    text = str(inner)
    return text.rpartition(": ")[2] or type(inner).__name__
