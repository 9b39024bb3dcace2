"""A push service and the browsers that it reaches: a real HTTP server that answers as RFC 8030 says.

201 with the message's Location, after it has checked what a push service checks: encoding, TTL, Topic, Urgency, size,
and the VAPID signature against the key of the subscription. Each browser has keys of its own and decrypts its messages.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import http_ece
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from stub_server import StubServer, body_of, reset, respond

from webhook.notifiers.web_push import decoded, encoded

LARGEST_BODY = 4096
HEADERS_OF_TOPIC = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@dataclass(frozen=True)
class Refusal:
    """`hold`: it is answered when the event is set; `reset`: the connection breaks instead."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hold: threading.Event | None = None
    reset: bool = False


class FakeBrowser:
    """`subscription` is what its `PushSubscription.toJSON()` gives; `messages` what it was told, decrypted."""

    def __init__(self, base: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._auth = secrets.token_bytes(16)
        self.path = f"/push/{secrets.token_urlsafe(16)}"
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.subscription: dict[str, Any] = {
            "endpoint": base + self.path,
            "expirationTime": None,
            "keys": {"p256dh": encoded(point), "auth": encoded(self._auth)},
        }
        self.messages: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refusal: Refusal | None = None
        self.asked = 0

    def open(self, body: bytes) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(http_ece.decrypt(body, private_key=self._key, auth_secret=self._auth))
        return found


@dataclass
class PushStub(StubServer):
    """`public_key`: the VAPID key that subscriptions were made with."""

    public_key: str
    browsers: dict[str, FakeBrowser] = field(default_factory=dict)

    def browser(self) -> FakeBrowser:
        made = FakeBrowser(self.url)
        self.browsers[made.path] = made
        return made

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = body_of(request)
        browser = self.browsers.get(request.path)
        if browser is not None:
            browser.asked += 1
        refusal = Refusal(404) if browser is None else browser.refusal or self._judge(request, browser, body)
        if refusal.hold is not None:
            refusal.hold.wait()
        if refusal.reset:
            reset(request)
            return
        respond(request, refusal.status, refusal.body, refusal.headers)

    def _judge(self, request: BaseHTTPRequestHandler, browser: FakeBrowser, body: bytes) -> Refusal:
        headers = request.headers
        if len(body) > LARGEST_BODY:
            return Refusal(413)
        topic, ttl = headers.get("Topic", ""), headers.get("TTL", "")
        plain = headers.get("Content-Encoding") == "aes128gcm" and ttl.isdecimal()
        if not plain or len(topic) > 32 or not set(topic) <= HEADERS_OF_TOPIC:
            return Refusal(400)
        if headers.get("Urgency") not in ("very-low", "low", "normal", "high"):
            return Refusal(400)
        if not self._signed(headers.get("Authorization", "")):
            return Refusal(403)
        browser.messages.append(browser.open(body))
        browser.headers.append(dict(headers))
        return Refusal(201, {"Location": f"{self.url}/message/{len(browser.messages)}"})

    def _signed(self, authorization: str) -> bool:
        """VAPID as RFC 8292 has it: `vapid t=<JWT>, k=<key>`, for this very origin."""
        scheme, _, rest = authorization.partition(" ")
        given = dict(part.strip().split("=", 1) for part in rest.split(","))
        if scheme.lower() != "vapid" or given.get("k") != self.public_key:
            return False
        signed, _, signature = given["t"].rpartition(".")
        raw = decoded(signature)
        pair = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decoded(self.public_key))
            key.verify(pair, signed.encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        claims = json.loads(decoded(signed.split(".")[1]))
        return bool(claims["aud"] == self.url and claims["sub"].startswith("mailto:") and urlsplit(self.url).port)
