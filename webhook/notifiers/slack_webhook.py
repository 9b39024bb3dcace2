"""Slack's incoming webhooks: an address of the merchant's own, which is a secret and may lead anywhere."""

from __future__ import annotations

from http import HTTPStatus

import requests

from webhook.domain.message import Message
from webhook.notifiers.outgoing import ForbiddenAddress, check_url
from webhook.notifiers.slack_blocks import blocks, fallback_text
from webhook.notifiers.slack_errors import seconds_to_wait
from webhook.ports import DeliveryError, PermanentDeliveryError, Receipt, TemporaryDeliveryError


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
            with self._session.post(
                url, json=body, timeout=self._timeout, allow_redirects=False, stream=True
            ) as response:
                error = _error(response)
        except ForbiddenAddress as forbidden:
            raise PermanentDeliveryError(f"Slack webhook: {forbidden}") from None
        except requests.RequestException as failure:
            raise TemporaryDeliveryError(f"Slack webhook: {type(failure).__name__}") from None
        if error is not None:
            raise error
        return Receipt("", {"webhook": True})


def _error(response: requests.Response) -> DeliveryError | None:
    status = response.status_code
    words = f"Slack webhook: HTTP {status}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = seconds_to_wait(response.headers.get("Retry-After"))
        return TemporaryDeliveryError(f"{words}, wait {wait:g} s", retry_after=wait)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TemporaryDeliveryError(words)
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        return PermanentDeliveryError(f"{words}: the merchant's webhook is not there any more, or redirects")
    return None
