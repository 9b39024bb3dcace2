"""A webhook of the merchant's own: a stable JSON document, signed so that the receiver knows it is ours.

`X-Sentinel-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">`; `Idempotency-Key` is the notification's
id, the same over all tries.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from webhook.domain.message import Message
from webhook.notifiers.outgoing import ForbiddenAddress, check_url, guarded_session
from webhook.notifiers.posting import call, refusal
from webhook.ports import PermanentDeliveryError, Receipt

VERSION = 1
_WORDS: Mapping[int, str] = {
    HTTPStatus.GONE: "the receiver wants no more messages",
    HTTPStatus.UNAUTHORIZED: "the receiver refused it",
}


class WebhookOptions(BaseModel):
    """`webhook_url` and `secret`: of the installation's own, for merchants without one. `timeout` in seconds."""

    model_config = ConfigDict(extra="forbid")

    webhook_url: SecretStr | None = Field(None, description="Of the installation's own, for merchants without one.")
    secret: SecretStr | None = Field(None, description="With which its messages are signed.")
    timeout: float = Field(default=10, gt=0, le=30, description="Seconds.")

    @model_validator(mode="after")
    def _both(self) -> WebhookOptions:
        if (self.webhook_url is None) != (self.secret is None):
            raise ValueError("webhook_url and secret belong together")
        return self


class SignedWebhook:
    channel_type = "webhook"
    parallel = 4

    def __init__(
        self, options: WebhookOptions, *, insecure_webhooks: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._url = options.webhook_url.get_secret_value() if options.webhook_url else ""
        self._secret = options.secret.get_secret_value() if options.secret else ""
        self._timeout = options.timeout
        self._insecure = insecure_webhooks
        self._clock = clock
        self._session = guarded_session(allow_private=insecure_webhooks)

    def send(
        self,
        message: Message,
        settings: Mapping[str, Any],
        before: Receipt | None = None,  # noqa: ARG002 - each document stands by itself
    ) -> Receipt:
        own = bool(settings.get("webhook_url"))
        url, secret = (
            (str(settings["webhook_url"]), str(settings.get("secret") or "")) if own else (self._url, self._secret)
        )
        if not (url and secret):
            raise PermanentDeliveryError("webhook: webhook_url and secret must both be set")
        try:
            check_url(url, allow_http=self._insecure)
        except ForbiddenAddress as error:
            raise PermanentDeliveryError(f"webhook: {error}") from None
        body = json.dumps(document(message), separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Sentinel-Webhook/1",
            "Idempotency-Key": message.notification_id,
            "X-Sentinel-Signature": signature(secret, body, int(self._clock())),
        }
        reply = call(
            "webhook", self._session, "POST", url, timeout=self._timeout, read=False, data=body, headers=headers
        )
        if (refused := refusal("webhook", reply, _WORDS.get(reply.status, ""))) is not None:
            raise refused
        return Receipt("", {"status": reply.status})

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Nothing: the document names the chart's address."""

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - the port's
        return {"headers": {"Idempotency-Key": message.notification_id}, "body": document(message)}

    def check(self) -> str:
        return "a webhook can only be tried by sending" if self._url else "merchants' own webhooks alone"


def signature(secret: str, body: bytes, at: int) -> str:
    """Of `body` as it is sent, at unix time `at`."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


def document(message: Message) -> dict[str, Any]:
    """The body, as docs/channels.md describes it. Within a version fields are only added."""
    return {
        "version": VERSION,
        "notification_id": message.notification_id,
        "reason": message.reason.value,
        "created_at": message.created_at.isoformat(),
        "alert": {
            "id": message.alert_id,
            "account_id": message.account_id,
            "merchant": message.merchant,
            "type": message.alert_type,
            "severity": message.severity.value,
            "status": message.status.value,
            "began_at": message.began_at.isoformat(),
            "ended_at": message.ended_at.isoformat() if message.ended_at else None,
            "url": message.url,
            "chart_url": message.chart_url,
        },
        "title": message.title,
        "text": message.text,
        "suggested_action": message.suggested_action,
        "facts": [{"label": label, "value": value} for label, value in message.facts],
    }
