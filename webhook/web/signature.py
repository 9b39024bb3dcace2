"""Signed deliveries: `X-Sentinel-Signature: t=<unix seconds>,v1=<hex>`, an HMAC-SHA256 over `<t>.<body>`."""

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

    def verify(self, body: bytes, secret: bytes) -> None:
        right = sign(body, secret, self.at).encode()
        if not any([hmac.compare_digest(given.encode(), right) for given in self.digests]):  # noqa: C419 - all, always
            raise BadSignature(f"{HEADER} does not fit the body")


def sign(body: bytes, secret: bytes, at: int) -> str:
    return hmac.new(secret, b"%d." % at + body, hashlib.sha256).hexdigest()
