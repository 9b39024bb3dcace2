"""Signed deliveries: `X-Sentinel-Signature: t=<unix seconds>,v1=<hex>`, an HMAC-SHA256 over all that says what to do.

That is five parts with a line feed between them: the seconds, the method, the path with its query, the X-Request-ID or
nothing, the body.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

HEADER = "X-Sentinel-Signature"
LARGEST_SKEW = timedelta(minutes=5)


class BadSignature(Exception):  # noqa: N818 - an answer to the sender
    """Says what is wrong with it, but not what would be right."""


@dataclass(frozen=True, slots=True)
class Signature:
    """`digests` are several while the sender changes its secret."""

    at: int
    digests: Sequence[str]

    @classmethod
    def parse(cls, header: str, now: datetime) -> Signature:
        """Raise BadSignature for what cannot be read or is not of these minutes: before any body is read."""
        parts = [part.strip().partition("=") for part in header.split(",")]
        times = [value for name, _, value in parts if name == "t"]
        digests = [value.lower() for name, _, value in parts if name == "v1"]
        if len(times) != 1 or not digests or not (times[0].isascii() and times[0].isdigit()):
            raise BadSignature(f"{HEADER} has to read t=<unix seconds>,v1=<hex>")
        at = int(times[0][:12])
        if abs(now.timestamp() - at) > LARGEST_SKEW.total_seconds():
            minutes = int(LARGEST_SKEW.total_seconds() // 60)
            raise BadSignature(f"{HEADER} is more than {minutes} minutes off: check the clocks")
        return cls(at, digests)

    def verify(self, signed: Signed, secret: bytes) -> str:
        """The right digest, which is this request's own; BadSignature when it is not among those given."""
        right = signed.digest(secret, self.at)
        given = [hmac.compare_digest(digest.encode(), right.encode()) for digest in self.digests]
        if not any(given):
            raise BadSignature(f"{HEADER} does not fit the request: see docs/access.md for what is signed")
        return right


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature covers. `target` is the path, with `?` and the query where there is one; text as WSGI has it."""

    method: str
    target: str
    request_id: str
    body: bytes

    def digest(self, secret: bytes, at: int) -> str:
        head = "\n".join((str(at), self.method, self.target, self.request_id, ""))
        return hmac.new(secret, head.encode("latin-1") + self.body, hashlib.sha256).hexdigest()
