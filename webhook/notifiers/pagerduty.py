"""PagerDuty's Events API v2: one incident for each alert, under the alert's id as its dedup_key.

Who acknowledges here acknowledges there, who dismisses here resolves there. The API knows no way back: an
acknowledgement that is taken back stays there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from webhook.domain.alert import NotifyReason
from webhook.domain.message import Message, one_line
from webhook.domain.severity import Severity
from webhook.notifiers.following import Behind, response
from webhook.notifiers.outgoing import timed
from webhook.notifiers.posting import call, provider_words, refusal
from webhook.ports import PermanentDeliveryError, Receipt

SEVERITIES = {Severity.P0: "critical", Severity.P1: "error", Severity.P2: "warning", Severity.P3: "info"}
_ACTIONS = {"acknowledge": "acknowledge", "close": "resolve"}
_SUMMARY, _DETAIL = 1024, 1000


class PagerDutyOptions(BaseModel):
    """`routing_key`: of the installation's own integration, for merchants without one. `timeout` in seconds."""

    model_config = ConfigDict(extra="forbid")

    routing_key: SecretStr | None = Field(
        None, description="Of the installation's own integration, for merchants without one."
    )
    api_url: str = Field(default="https://events.pagerduty.com", pattern="^https?://", description="Where events go.")
    timeout: float = Field(default=10, gt=0, le=30, description="Seconds.")


class PagerDuty:
    channel_type = "pagerduty"
    parallel = 4

    def __init__(self, options: PagerDutyOptions) -> None:
        self._url = options.api_url.rstrip("/") + "/v2/enqueue"
        self._key = options.routing_key.get_secret_value() if options.routing_key else ""
        self._timeout = options.timeout
        self._session = timed(requests.Session())
        self._behind = Behind()

    def send(self, message: Message, settings: Mapping[str, Any], before: Receipt | None = None) -> Receipt:
        """The receipt's reference is the dedup_key; its details tell what PagerDuty knows of people's actions."""
        reference = self._call(event(message), settings) or message.alert_id
        said = str(before.details.get("said", "")) if before is not None else ""
        if response(message) in (None, "", said):
            return Receipt(reference, {"said": said, "shown": message.shown})
        self._behind.add(message.alert_id)
        return Receipt(reference, {"said": said})

    def follow(self, message: Message, receipt: Receipt, settings: Mapping[str, Any]) -> Receipt:
        said, wanted = str(receipt.details.get("said", "")), response(message)
        if wanted and wanted != said:
            self._call({"event_action": _ACTIONS[wanted], "dedup_key": receipt.reference}, settings)
            said = wanted
        return Receipt(receipt.reference, {**receipt.details, "said": said, "shown": message.shown})

    def behind(self) -> set[str]:
        return self._behind.take()

    def _call(self, event: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
        """The dedup_key that PagerDuty names."""
        key = str(settings.get("routing_key") or self._key)
        if not key:
            raise PermanentDeliveryError("PagerDuty: there is no routing_key")
        body = {"routing_key": key, **event}
        reply = call("PagerDuty", self._session, "POST", self._url, timeout=self._timeout, json=body)
        said = reply.document
        errors = said.get("errors")
        why = provider_words("; ".join(map(str, errors)) if isinstance(errors, list) else said.get("message"), key)
        if (error := refusal("PagerDuty", reply, why)) is not None:
            raise error
        return str(said.get("dedup_key") or "")

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Nothing: PagerDuty shows only pictures that are open to everybody. The chart is one of the links."""

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - the port's
        return event(message)

    def check(self) -> str:
        return "a routing key can only be tried by sending" if self._key else "merchants' own keys alone"


def event(message: Message) -> dict[str, Any]:
    """All but the key. An end says no more than which incident it is."""
    if message.reason is NotifyReason.RESOLVED:
        return {"event_action": "resolve", "dedup_key": message.alert_id}
    return {
        "event_action": "trigger",
        "dedup_key": message.alert_id,
        "client": "Sentinel",
        "client_url": message.url,
        "links": [
            {"href": message.url, "text": "The alert"},
            {"href": message.chart_url, "text": "Chart"},
        ],
        "payload": {
            "summary": one_line(f"[{message.severity}] {message.title}", _SUMMARY),
            "source": one_line(message.account_id, 255),
            "severity": SEVERITIES[message.severity],
            "timestamp": message.created_at.isoformat(),
            "component": one_line(message.merchant, 255),
            "class": message.alert_type,
            "custom_details": {
                **{one_line(label, _DETAIL): one_line(value, _DETAIL) for label, value in message.facts},
                "What happened": message.text,
                "What to do": message.suggested_action,
            },
        },
    }
