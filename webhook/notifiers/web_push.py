"""Web push (RFC 8030): one message to one browser, encrypted for it (RFC 8291) and signed by us (VAPID, RFC 8292).

Push services are named by browsers, so their addresses are asked through the guard of `outgoing` alone.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import urlsplit

import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from webhook.notifiers.deadline import Deadline, deadline
from webhook.notifiers.outgoing import ForbiddenAddress, check_url
from webhook.reader_ports import PushTarget

LARGEST = 3993
"""Bytes: what RFC 8291 leaves of the 4,096 that every push service takes."""

SIGNED_FOR = timedelta(hours=12)
USUAL_WAIT = timedelta(seconds=30)
"""Where a push service asks to wait and does not say how long."""

LONGEST_WAIT = timedelta(minutes=10)
"""A push service that asks us to wait longer is asked again after this."""

_POINT, _AUTH, _SCALAR = 65, 16, 32


class Urgency(StrEnum):
    """How much battery of a phone a message is worth."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class Outcome(StrEnum):
    SENT = "sent"
    GONE = "gone"  # for good: the browser does not want messages any more
    REFUSED = "refused"  # the same again cannot help
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Answer:
    """`words` hold no address; `not_before` is when the push service wants to be asked again."""

    outcome: Outcome
    words: str = ""
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """`topic`: at the push service it takes the place of an older one that waits for the same browser."""

    payload: bytes
    topic: str
    urgency: Urgency
    ttl: timedelta


def decoded(text: str) -> bytes:
    """Base64url, padded or not; raise ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("must be base64url") from None


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def check_keys(p256dh: str, auth: str) -> None:
    """Raise ValueError for what no browser gives."""
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decoded(p256dh))
    except ValueError:
        raise ValueError("p256dh must be a point of P-256 in base64url") from None
    if len(decoded(p256dh)) != _POINT or len(decoded(auth)) != _AUTH:
        raise ValueError("p256dh must be 65 bytes and auth 16, in base64url")


def new_key() -> str:
    """A private VAPID key."""
    scalar = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
    return encoded(scalar.to_bytes(_SCALAR, "big"))


def public_key(private_key: str) -> str:
    """As browsers take it (`applicationServerKey`); raise ValueError for what is no VAPID key."""
    scalar = decoded(private_key)
    if len(scalar) != _SCALAR:
        raise ValueError("must be 32 bytes in base64url")
    point = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1()).public_key()
    return encoded(point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


@dataclass(frozen=True, slots=True)
class Service:
    """Which push services are asked: those of `hosts` and below them, of none any public one; and how long."""

    hosts: Sequence[str] = ()
    timeout: float = 5
    allow_http: bool = False

    def check(self, endpoint: str) -> str:
        """The endpoint; raise ForbiddenAddress. Its host is looked up when it is asked."""
        check_url(endpoint, allow_http=self.allow_http)
        host = (urlsplit(endpoint).hostname or "").lower()
        if self.hosts and not any(host == known or host.endswith(f".{known}") for known in self.hosts):
            raise ForbiddenAddress("is none of the push services that are allowed here")
        return endpoint


class WebPush:
    """Raises ImportError without the extra `push`."""

    def __init__(
        self,
        private_key: str,
        subject: str,
        service: Service,
        session: requests.Session,
        clock: Callable[[], datetime],
    ) -> None:
        from http_ece import ECEException  # noqa: PLC0415 - an extra
        from py_vapid import Vapid02, VapidException  # noqa: PLC0415 - as above
        from pywebpush import WebPusher  # noqa: PLC0415 - as above

        self._refused = (ValueError, ECEException, VapidException)  # what cannot be encrypted for, or signed to
        self._vapid = Vapid02.from_raw(private_key.encode())
        self._pusher = WebPusher
        self._subject = subject
        self._service = service
        self._session = session
        self._clock = clock

    def push(self, target: PushTarget, push: Push) -> Answer:
        """Ask the target's push service to take it. Raises nothing."""
        until: Deadline | None = None
        try:
            self._service.check(target.endpoint)
            headers, body = self._headers(target, push), self._encrypted(target, push.payload)
            with deadline(self._service.timeout) as until:
                return self._ask(target.endpoint, headers, body)
        except requests.RequestException as failure:
            late = until is not None and until.passed
            return Answer(Outcome.LATER, "Timeout" if late else type(failure).__name__)
        except ForbiddenAddress as error:
            return Answer(Outcome.REFUSED, str(error))
        except self._refused as error:
            return Answer(Outcome.REFUSED, type(error).__name__)

    def _ask(self, endpoint: str, headers: Mapping[str, str], body: bytes) -> Answer:
        with self._session.post(
            endpoint,
            data=body,
            headers=headers,
            timeout=self._service.timeout,
            allow_redirects=False,
            stream=True,  # what it says besides is not read
        ) as response:
            return self._judge(response)

    def _encrypted(self, target: PushTarget, payload: bytes) -> bytes:
        keys = {"p256dh": target.p256dh, "auth": target.auth}
        body: bytes = self._pusher({"endpoint": target.endpoint, "keys": keys}).encode(payload)["body"]
        return body

    def _headers(self, target: PushTarget, push: Push) -> dict[str, str]:
        parts = urlsplit(target.endpoint)
        expires = int((self._clock() + SIGNED_FOR).timestamp())
        claims = {"aud": f"{parts.scheme}://{parts.netloc}", "exp": expires, "sub": self._subject}
        return {
            **self._vapid.sign(claims),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(int(push.ttl.total_seconds())),
            "Topic": push.topic,
            "Urgency": push.urgency.value,
        }

    def _judge(self, response: requests.Response) -> Answer:
        status, words = response.status_code, f"HTTP {response.status_code}"
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return Answer(Outcome.SENT)
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return Answer(Outcome.GONE, words)
        asked = response.headers.get("Retry-After", "")
        if status == HTTPStatus.TOO_MANY_REQUESTS or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and asked):
            return Answer(Outcome.LATER, words, self._again_at(asked))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Answer(Outcome.LATER, words)
        return Answer(Outcome.REFUSED, words)

    def _again_at(self, asked: str) -> datetime:
        """By a Retry-After in seconds, or as a date."""
        now = self._clock()
        try:
            at = (
                now + timedelta(seconds=int(asked)) if (asked or "").isdecimal() else parsedate_to_datetime(asked or "")
            )
        except (ValueError, OverflowError):
            return now + USUAL_WAIT
        return max(now, min(at if at.tzinfo else at.replace(tzinfo=UTC), now + LONGEST_WAIT))
