"""One HTTP call to a provider, its failures as DeliveryErrors: never with the address, which may be a secret.

408, 425, 429 and 5xx are temporary, as are timeouts and broken connections; other 4xx and redirects are permanent.
Whatever breaks off after we began to speak leaves it unsure whether the message was taken, and so does a 5xx, but 503:
it says that nothing was done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from webhook.notifiers.deadline import deadline
from webhook.notifiers.outgoing import ForbiddenAddress
from webhook.ports import DeliveryError, PermanentDeliveryError, TemporaryDeliveryError

_LONGEST_ANSWER = 64 * 1024
_DEFAULT_WAIT_S = 30.0
"""When a rate limit names no time."""

_TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    retry_after: str | None
    body: bytes

    @property
    def taken(self) -> bool:
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def document(self) -> Mapping[str, Any]:
        """The JSON object in it; empty for what is none."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def call(
    who: str,
    session: requests.Session,
    method: str,
    url: str,
    *,
    timeout: float,
    read: bool = True,
    blind: bool = False,
    **request: Any,  # noqa: ANN401 - requests' arguments
) -> Reply:
    """What the provider `who` answers, whatever its status; raise TemporaryDeliveryError when there is no status.

    All of it takes `timeout` seconds at most, whatever the other side does; `session` is one of `outgoing`. Not to
    `read` is for hosts of merchants, whose words we do not need. `blind` as in the error.
    """
    with deadline(timeout) as until:
        try:
            with session.request(
                method, url, timeout=timeout, allow_redirects=False, stream=True, **request
            ) as response:
                body = _body(response) if read else b""
                return Reply(response.status_code, response.headers.get("Retry-After"), body)
        except ForbiddenAddress as forbidden:
            raise PermanentDeliveryError(f"{who}: {forbidden}") from None
        except (requests.RequestException, HTTPError, OSError) as failure:
            words = f"Timeout after {timeout:g} s" if until.passed else type(failure).__name__
            unsure = until.handed_over and method != "GET"
            raise TemporaryDeliveryError(f"{who}: {words}", unsure=unsure, blind=blind) from None


def _body(response: requests.Response) -> bytes:
    """Whatever comes after the status: a message that was taken is not sent again for it."""
    try:
        return response.raw.read(_LONGEST_ANSWER, decode_content=True) or b""
    except (HTTPError, OSError):
        return b""


def refusal(who: str, reply: Reply, why: str = "", *, blind: bool = False) -> DeliveryError | None:
    """What the status says; None when the message was taken. `why`: the provider's words, without secrets.

    `blind` as in the error.
    """
    if reply.taken:
        return None
    words = f"{who}: HTTP {reply.status}" + (f", {why}" if why else "")
    asked = reply.status == HTTPStatus.SERVICE_UNAVAILABLE and reply.retry_after
    if asked or reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = seconds_to_wait(reply.retry_after)
        return TemporaryDeliveryError(f"{words}, wait {wait:g} s", retry_after=wait)
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TemporaryDeliveryError(words, unsure=perhaps_taken(reply.status), blind=blind)
    if reply.status in _TRY_AGAIN:
        return TemporaryDeliveryError(words)
    return PermanentDeliveryError(words)


def perhaps_taken(status: int) -> bool:
    """Whether a server that answers so may have done what it was asked."""
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.SERVICE_UNAVAILABLE


def seconds_to_wait(retry_after: str | None, now: datetime | None = None) -> float:
    """Of a rate limit's header, in seconds or as a date; whoever waits bounds it."""
    if retry_after is None:
        return _DEFAULT_WAIT_S
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return _DEFAULT_WAIT_S
    return max((until - (now or datetime.now(UTC))).total_seconds(), 1.0) if until.tzinfo else _DEFAULT_WAIT_S


def provider_words(text: object, *secrets: str) -> str:
    """At most 200 printable characters of what a provider said, without the secrets that it may repeat."""
    words = " ".join(str(text or "").split())
    for secret in filter(None, secrets):
        words = words.replace(secret, "…")
    return "".join(c for c in words if c.isprintable())[:200]
