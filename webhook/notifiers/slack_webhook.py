"""Slack's incoming webhooks: an address of the merchant's own, which is a secret and may lead anywhere."""

from __future__ import annotations

import requests

from webhook.domain.message import Message
from webhook.notifiers.outgoing import ForbiddenAddress, check_url
from webhook.notifiers.posting import call, refusal
from webhook.notifiers.slack_blocks import blocks, fallback_text
from webhook.ports import PermanentDeliveryError, Receipt


class SlackWebhook:
    """Posts text. Errors never hold the address: whoever knows it can post there."""

    def __init__(self, session: requests.Session, timeout: float, *, allow_http: bool = False) -> None:
        self._session = session
        self._timeout = timeout
        self._allow_http = allow_http

    def send(self, message: Message, url: str) -> Receipt:
        body = {"text": fallback_text(message), "blocks": blocks(message)}
        try:
            check_url(url, allow_http=self._allow_http)
        except ForbiddenAddress as forbidden:
            raise PermanentDeliveryError(f"Slack webhook: {forbidden}") from None
        reply = call(
            "Slack webhook", self._session, "POST", url, timeout=self._timeout, read=False, blind=True, json=body
        )
        if (error := refusal("Slack webhook", reply, blind=True)) is not None:
            raise error
        return Receipt("", {"webhook": True})
