"""The door of those who deliver: the ingest token, a key, a signature.

Token and signature have no rate limit: a delivery costs one comparison before its body is read, bodies and connections
are bounded, and an attack on a merchant is when they come thick. Keys are in many hands: they count as anywhere.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from flask import g, request
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests, Unauthorized

from webhook.domain.access import MAY, Principal, Right, Role
from webhook.web.access import admit, require
from webhook.web.auth import Gate, credential_of_request, principal_of
from webhook.web.repeating import HEADER as REQUEST_ID
from webhook.web.signature import HEADER, BadSignature, Signature, Signed

INGEST_TOKEN = Principal("ingest", Role.OPS, "ingest token")
SIGNED = Principal("ingest", Role.OPS, "ingest signature")


@dataclass(frozen=True, slots=True)
class IngestSecrets:
    """`signatures`: `accepted` opens the door like the token; `required` is wanted beside the token or key."""

    token: str = field(repr=False)
    hmac_secret: str = field(default="", repr=False)
    signatures: Literal["accepted", "required"] = "accepted"


class IngestDoor:
    def __init__(self, gate: Gate, secrets: IngestSecrets, max_body_bytes: int, clock: Callable[[], datetime]) -> None:
        self._gate = gate
        self._bearer = f"Bearer {secrets.token}".encode()
        self._token = secrets.token.encode()
        self._secret = secrets.hmac_secret.encode()
        self._required = secrets.signatures == "required" and bool(self._secret)
        self._max_body_bytes = max_body_bytes
        self._clock = clock

    def admit(self, right: Right = Right.DELIVER) -> Principal:
        """Who delivers; bodies up to the limit of deliveries are taken from now on.

        Raise Unauthorized, Forbidden for a key without `right`, RequestEntityTooLarge for a signed body too long,
        TooManyRequests for a key used too often; where it delivers ServiceUnavailable, as after a 429 Alertmanager
        does not come back.
        """
        request.max_content_length = self._max_body_bytes
        signed = bool(self._secret) and self._signed()
        if self._required and not signed:
            raise Unauthorized(f"{HEADER} is wanted.")
        found = SIGNED if signed and not self._required else self._by_credential(right)
        admit(found)
        return require(*MAY[right])

    def _by_credential(self, right: Right) -> Principal:
        header = request.headers.get("Authorization", "")
        if hmac.compare_digest(header.encode(), self._bearer):
            return INGEST_TOKEN
        given = credential_of_request()
        if given is None:
            raise Unauthorized("a bearer token is wanted")
        if hmac.compare_digest(given.encode(), self._token):
            return INGEST_TOKEN
        with _come_again(right):
            self._gate.rates.take_address(request.remote_addr or "")
        found = principal_of(self._gate, given)
        with _come_again(right):
            self._gate.rates.take(found, request.method)
        return found

    def _signed(self) -> bool:
        """Whether there is a signature, and a right one; Unauthorized for a wrong one, whatever else was sent."""
        header = request.headers.get(HEADER)
        if header is None:
            return False
        try:
            signature = Signature.parse(header, self._clock())
            g.signature = signature.verify(_signed_part(), self._secret)
        except BadSignature as error:
            raise Unauthorized(f"{error}.") from error
        return True


@contextmanager
def _come_again(right: Right) -> Iterator[None]:
    try:
        yield
    except TooManyRequests as error:
        if right is not Right.DELIVER:
            raise
        raise ServiceUnavailable(error.description, retry_after=error.retry_after) from error


def _signed_part() -> Signed:
    query = request.query_string.decode("latin-1")
    target = f"{request.path}?{query}" if query else request.path
    return Signed(request.method, target, request.headers.get(REQUEST_ID, ""), request.get_data())
