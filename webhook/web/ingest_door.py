"""The door of those who deliver: the ingest token, a key, a signature.

No rate limit stands here: a delivery costs one comparison before its body is read, bodies and connections are bounded,
and an attack on a merchant is when they come thick.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from flask import request
from werkzeug.exceptions import Unauthorized

from webhook.domain.access import MAY, Principal, Right, Role
from webhook.web.access import admit, require
from webhook.web.auth import Gate, credential_of_request, principal_of
from webhook.web.signature import HEADER, BadSignature, Signature

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

        Raise Unauthorized, Forbidden for a key without `right`, RequestEntityTooLarge for a signed body too long.
        """
        request.max_content_length = self._max_body_bytes
        signed = bool(self._secret) and self._signed()
        if self._required and not signed:
            raise Unauthorized(f"{HEADER} is wanted.")
        found = SIGNED if signed and not self._required else self._by_credential()
        admit(found)
        return require(*MAY[right])

    def _by_credential(self) -> Principal:
        header = request.headers.get("Authorization", "")
        if hmac.compare_digest(header.encode(), self._bearer):
            return INGEST_TOKEN
        given = credential_of_request()
        if given is None:
            raise Unauthorized("a bearer token is wanted")
        if hmac.compare_digest(given.encode(), self._token):
            return INGEST_TOKEN
        return principal_of(self._gate, given)

    def _signed(self) -> bool:
        """Whether there is a signature, and a right one; Unauthorized for a wrong one, whatever else was sent."""
        header = request.headers.get(HEADER)
        if header is None:
            return False
        try:
            signature = Signature.parse(header, self._clock())
            signature.verify(request.get_data(), self._secret)
        except BadSignature as error:
            raise Unauthorized(f"{error}.") from error
        return True
