"""What Twilio documents of its messages: error codes in words, statuses, and the signature of its callbacks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Literal

RATE_LIMITED = 20429
CREDENTIALS = frozenset({20003, 20005, 20008, 20404, 21212, 21603, 21606, 21659, 21705})
"""Faults of the account, its sender or its service: of no number, and mended by the operator."""

WORDS: Mapping[int, str] = {
    20003: "the account or its token is refused",
    20429: "too many requests",
    21211: "this is not a phone number",
    21212: "the sender's number is not valid",
    21408: "the account may not send to this country",
    21606: "the sender's number cannot send messages",
    21610: "the recipient has unsubscribed (STOP)",
    21612: "this number cannot be reached from the sender's",
    21614: "this number cannot receive SMS",
    21705: "the messaging service does not exist",
    30001: "the queue was full",
    30002: "the account is suspended",
    30003: "the phone is switched off or out of reach",
    30004: "the recipient blocks messages",
    30005: "the number is unknown or not in use any more",
    30006: "this is a landline, or its carrier takes no SMS",
    30007: "the carrier filtered it as unwanted",
    30008: "the carrier gave no reason",
    30034: "the sender's number is not registered with US carriers",
}

Ending = Literal["DELIVERED", "FAILED"]
ENDINGS: Mapping[str, Ending] = {
    "delivered": "DELIVERED",
    "read": "DELIVERED",
    "undelivered": "FAILED",
    "failed": "FAILED",
    "canceled": "FAILED",
}
"""Statuses after which no other comes. Those before them (accepted, queued, sending, sent) change nothing here."""


def words_of(code: object) -> str:
    """`30003: the phone is switched off or out of reach`."""
    number = int(code) if isinstance(code, int | str) and str(code).isdigit() else 0
    if not number:
        return "no reason was given"
    return f"{number}: {WORDS.get(number, 'see twilio.com/docs/api/errors')}"


def signature(url: str, parameters: Iterable[tuple[str, str]], token: str) -> str:
    """As in X-Twilio-Signature: over the whole address, and each distinct name and value in order."""
    text = url + "".join(name + value for name, value in sorted(set(parameters)))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def signed(given: str, url: str, parameters: Iterable[tuple[str, str]], token: str) -> bool:
    return hmac.compare_digest(given.encode(), signature(url, parameters, token).encode())
