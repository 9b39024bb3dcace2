"""Slack through slack-sdk: one message as blocks, the chart in its thread.

Errors: rate limits, 5xx, timeouts and broken connections are temporary; what Slack answers as a fault of the token,
the channel or the message is permanent. Slack's own retries are off: the outbox decides.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from webhook.domain.message import Message
from webhook.notifiers.outgoing import guarded_session
from webhook.notifiers.slack_blocks import blocks, fallback_text
from webhook.notifiers.slack_webhook import SlackWebhook, seconds_to_wait
from webhook.ports import DeliveryError, PermanentDeliveryError, Receipt, TemporaryDeliveryError

_TEMPORARY = frozenset(
    {
        "accesslimited",
        "fatal_error",
        "internal_error",
        "rate_limited",
        "ratelimited",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
    }
)
_SERVER_ERROR, _TOO_MANY = 500, 429


class SlackOptions(BaseModel):
    """`channel`: where messages go for merchants without a channel of their own. `timeout` in seconds.

    Without a `token` only merchants with an incoming webhook of their own are told.
    """

    model_config = ConfigDict(extra="forbid")

    token: SecretStr | None = None
    channel: str | None = None
    api_url: str = "https://slack.com/api/"
    timeout: int = Field(default=10, gt=0)


@contextmanager
def _delivery_errors() -> Iterator[None]:
    """Every failure of a call as a DeliveryError that says whether trying again can help."""
    try:
        yield
    except SlackApiError as error:
        raise _delivery_error(error) from None
    except HTTPError as error:
        with error:
            raise _by_status(error.code, error.headers.get("Retry-After"), f"HTTP {error.code}") from None
    except (SlackClientError, OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        raise TemporaryDeliveryError(f"Slack: {type(error).__name__}: {error}") from None


class Slack:
    """Posts as a bot with the scopes chat:write and files:write."""

    channel_type = "slack"
    parallel = 4

    def __init__(self, options: SlackOptions, *, insecure_webhooks: bool = False) -> None:
        self._channel = options.channel
        self._webhook = SlackWebhook(
            guarded_session(allow_private=insecure_webhooks), options.timeout, allow_http=insecure_webhooks
        )
        self._has_token = options.token is not None
        self._client = WebClient(
            token=options.token.get_secret_value() if options.token else None,
            base_url=options.api_url,
            timeout=options.timeout,
            retry_handlers=[],
        )

    def send(
        self,
        message: Message,
        settings: Mapping[str, Any],
        before: Receipt | None = None,  # noqa: ARG002 - the port's signature
    ) -> Receipt:
        """Post the text. The receipt's reference is the message's `ts`; its details name the channel's id."""
        if settings.get("webhook_url"):
            return self._webhook.send(message, str(settings["webhook_url"]))
        if not self._has_token:
            raise PermanentDeliveryError("Slack: there is no bot token, and the merchant gave no webhook")
        channel = settings.get("channel") or self._channel
        if not channel:
            raise PermanentDeliveryError("Slack: neither the merchant nor the default names a channel")
        with _delivery_errors():
            answer = self._client.chat_postMessage(
                channel=str(channel),
                text=fallback_text(message),
                blocks=blocks(message),
                mrkdwn=False,
                parse="none",
                link_names=False,
                unfurl_links=False,
                unfurl_media=False,
            )
        # Whatever the answer lacks, the message is out: an error here would send it again.
        return Receipt(str(answer.get("ts") or ""), {"channel": answer.get("channel")})

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Upload the chart into the message's thread. Incoming webhooks take text alone."""
        if settings.get("webhook_url"):
            return
        if not (receipt.reference and receipt.details.get("channel")):
            raise PermanentDeliveryError("Slack: its answer did not say where the message is")
        with _delivery_errors():
            self._client.files_upload_v2(
                channel=receipt.details["channel"],
                thread_ts=receipt.reference,
                content=chart_png,
                filename="chart.png",
                title=f"Chart: {message.title}",
                alt_txt=f"Chart of the alert: {message.title}",
            )

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        channel = None if settings.get("webhook_url") else settings.get("channel") or self._channel
        return {"channel": channel, "text": fallback_text(message), "blocks": blocks(message)}

    def check(self) -> str:
        if not self._has_token:
            return "merchants' own webhooks alone: there is no bot token"
        with _delivery_errors():
            answer = self._client.auth_test()
        return f"{answer.get('user')} in {answer.get('team')}"


def _delivery_error(error: SlackApiError) -> DeliveryError:
    response = error.response
    data = response.data if isinstance(response.data, dict) else {}
    name = str(data.get("error") or "no error named")
    if response.status_code == _TOO_MANY or name in {"ratelimited", "rate_limited"}:
        return _by_status(_TOO_MANY, _header(response.headers, "Retry-After"), "rate limited")
    if response.status_code >= _SERVER_ERROR or name in _TEMPORARY:
        return TemporaryDeliveryError(f"Slack: HTTP {response.status_code}, {name[:200]}")
    if not name.replace("_", "").isalnum():  # slack-sdk's own words for an answer that is no JSON
        return TemporaryDeliveryError(f"Slack: unexpected answer: {name[:200]}")
    return PermanentDeliveryError(f"Slack: {name}")


def _by_status(status: int, retry_after: str | None, words: str) -> DeliveryError:
    if status == _TOO_MANY:
        wait = seconds_to_wait(retry_after)
        return TemporaryDeliveryError(f"Slack: {words}, wait {wait:g} s", retry_after=wait)
    if status >= _SERVER_ERROR:
        return TemporaryDeliveryError(f"Slack: {words}")
    return PermanentDeliveryError(f"Slack: {words}")


def _header(headers: Mapping[str, Any], name: str) -> str | None:
    for key, value in headers.items():
        if key.lower() == name.lower():
            return str(value[0] if isinstance(value, list) else value)
    return None
