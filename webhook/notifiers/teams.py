"""Microsoft Teams through a workflow's webhook: one Adaptive Card of at most 28 KB, which takes no picture of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from webhook.domain.alert import NotifyReason
from webhook.domain.message import SEVERITY_WORDS, Message, one_line
from webhook.domain.severity import Severity
from webhook.notifiers.outgoing import ForbiddenAddress, check_url, guarded_session
from webhook.notifiers.posting import call, refusal
from webhook.ports import PermanentDeliveryError, Receipt

LONGEST = 28 * 1024
"""Bytes of a message that Teams takes."""

_TEXT_LENGTHS = (4000, 1500, 400)
_FACTS, _FACT_LENGTH = 20, 200
_COLOURS = {Severity.P0: "Attention", Severity.P1: "Attention", Severity.P2: "Warning", Severity.P3: "Accent"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#~|])")


class TeamsOptions(BaseModel):
    """`webhook_url`: of the installation's own, for merchants without one. `timeout` in seconds."""

    model_config = ConfigDict(extra="forbid")

    webhook_url: SecretStr | None = Field(None, description="Of the installation's own, for merchants without one.")
    timeout: float = Field(default=10, gt=0, le=30, description="Seconds.")


class Teams:
    """202 says that the workflow has begun; what becomes of the card only its owner sees, in its run history."""

    channel_type = "teams"
    parallel = 4

    def __init__(self, options: TeamsOptions, *, insecure_webhooks: bool = False) -> None:
        self._url = options.webhook_url.get_secret_value() if options.webhook_url else ""
        self._timeout = options.timeout
        self._insecure = insecure_webhooks
        self._session = guarded_session(allow_private=insecure_webhooks)

    def send(
        self,
        message: Message,
        settings: Mapping[str, Any],
        before: Receipt | None = None,  # noqa: ARG002 - a workflow cannot change what it has posted
    ) -> Receipt:
        url = str(settings.get("webhook_url") or self._url)
        if not url:
            raise PermanentDeliveryError("Teams: there is no webhook_url")
        try:
            check_url(url, allow_http=self._insecure)
        except ForbiddenAddress as error:
            raise PermanentDeliveryError(f"Teams: {error}") from None
        reply = call(
            "Teams",
            self._session,
            "POST",
            url,
            timeout=self._timeout,
            read=False,
            blind=True,
            data=encoded(message),
            headers={"Content-Type": "application/json"},
        )
        if (refused := refusal("Teams", reply, blind=True)) is not None:
            raise refused
        return Receipt()

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Nothing: a card can only show a picture that is open to everybody. Its button leads to the chart."""

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - the port's
        shown: Mapping[str, Any] = json.loads(encoded(message))
        return shown

    def check(self) -> str:
        return "a webhook can only be tried by sending" if self._url else "merchants' own webhooks alone"


def encoded(message: Message) -> bytes:
    """The body, its text cut until it fits."""
    bodies = (json.dumps(_body(message, length), ensure_ascii=False).encode() for length in _TEXT_LENGTHS)
    return next((body for body in bodies if len(body) <= LONGEST), b"") or json.dumps(_body(message, 100)).encode()


def _body(message: Message, length: int) -> dict[str, Any]:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "fallbackText": one_line(message.title, _FACT_LENGTH),
        "body": _blocks(message, length),
        "actions": [{"type": "Action.OpenUrl", "title": "View the alert", "url": message.url}],
    }
    content_type = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": content_type, "contentUrl": None, "content": card}]}


def _blocks(message: Message, length: int) -> list[dict[str, Any]]:
    ended = message.reason is NotifyReason.RESOLVED
    state = "Ended" if ended else SEVERITY_WORDS[message.severity]
    colour = "Good" if ended else _COLOURS[message.severity]
    facts = [("Merchant", message.merchant), *message.facts][:_FACTS]
    return [
        _plain(f"{message.severity} {state}", weight="Bolder", color=colour),
        _plain(message.title, size="Large", weight="Bolder"),
        {
            "type": "FactSet",
            "facts": [
                {"title": escaped(one_line(label, _FACT_LENGTH)), "value": escaped(one_line(value, _FACT_LENGTH))}
                for label, value in facts
            ],
        },
        _plain(_cut(message.text, length)),
        _plain(f"What to do: {_cut(message.suggested_action, length)}", weight="Bolder"),
    ]


def _plain(text: str, **style: str) -> dict[str, Any]:
    """Text that Teams does not read as Markdown."""
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}


def escaped(text: str) -> str:
    """For facts, which are read as Markdown."""
    return _MARKDOWN.sub(r"\\\1", text)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"
