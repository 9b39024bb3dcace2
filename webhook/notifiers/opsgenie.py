"""OpsGenie's Alert API v2: one alert for each of ours, under our alert's id as its alias.

Told again it is the same alert there (OpsGenie deduplicates by alias); a rise in severity is a priority and a note, an
end closes it. Who acknowledges here, or takes that back, does so there; who dismisses here closes it there. OpsGenie
answers 202 and works later: what it then does can be asked for with the receipt's reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import requests
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from webhook.domain.alert import NotifyReason
from webhook.domain.message import Message, one_line
from webhook.domain.severity import Severity
from webhook.notifiers.following import Behind, response
from webhook.notifiers.outgoing import timed
from webhook.notifiers.posting import Reply, call, provider_words, refusal
from webhook.ports import PermanentDeliveryError, Receipt

REGIONS = {"us": "https://api.opsgenie.com", "eu": "https://api.eu.opsgenie.com"}
PRIORITIES = {Severity.P0: "P1", Severity.P1: "P2", Severity.P2: "P3", Severity.P3: "P4"}
_MESSAGE, _DESCRIPTION, _NOTE, _ENTITY, _DETAIL = 130, 15_000, 25_000, 512, 1000
_CALLS = 2
_BY = "?identifierType=alias"


class OpsGenieOptions(BaseModel):
    """`api_key`: of the installation's own account, for merchants without one. `timeout`: of a message, in seconds.

    `api_url` takes the place of both regions' addresses.
    """

    model_config = ConfigDict(extra="forbid")

    api_key: SecretStr | None = Field(None, description="Of the installation's own account, for merchants without one.")
    region: str = Field(default="us", pattern="^(us|eu)$", description="`us` or `eu`.")
    api_url: str | None = Field(
        default=None, pattern="^https?://", description="Takes the place of both regions' addresses."
    )
    timeout: float = Field(default=10, gt=0, le=30, description="Seconds of a message.")


class OpsGenie:
    channel_type = "opsgenie"
    parallel = 4

    def __init__(self, options: OpsGenieOptions) -> None:
        self._options = options
        self._key = options.api_key.get_secret_value() if options.api_key else ""
        self._session = timed(requests.Session())
        self._behind = Behind()

    def send(self, message: Message, settings: Mapping[str, Any], before: Receipt | None = None) -> Receipt:
        """The receipt's reference is the last call's request id; its details tell what OpsGenie knows of people."""
        request_id = self._all(calls(message, told=before is not None), settings) or message.alert_id
        said = str(before.details.get("said", "")) if before is not None else ""
        details = {"alias": message.alert_id, "said": said}
        if response(message) in (None, said):
            return Receipt(request_id, {**details, "shown": message.shown})
        self._behind.add(message.alert_id)
        return Receipt(request_id, details)

    def follow(self, message: Message, receipt: Receipt, settings: Mapping[str, Any]) -> Receipt:
        said, wanted = str(receipt.details.get("said", "")), response(message)
        if wanted is not None and wanted != said:
            self._all(responses(message, wanted, said), settings)
            said = wanted
        return Receipt(receipt.reference, {**receipt.details, "said": said, "shown": message.shown})

    def behind(self) -> set[str]:
        return self._behind.take()

    def _all(self, wanted: Sequence[tuple[str, str, dict[str, Any]]], settings: Mapping[str, Any]) -> str:
        """The last call's request id."""
        key, base = self._account(settings)
        if not key:
            raise PermanentDeliveryError("OpsGenie: there is no api_key")
        request_id = ""
        for method, path, body in wanted:
            reply = self._call(method, f"{base}{path}", key, json=body)
            request_id = str(reply.document.get("requestId") or "")
        return request_id

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Nothing: the alert's details name the chart's address."""

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - the port's
        sent = [{"method": method, "path": path, "body": body} for method, path, body in calls(message, told=False)]
        return {"calls": sent}

    def check(self) -> str:
        if not self._key:
            return "merchants' own keys alone: there is no api_key"
        key, base = self._account({})
        self._call("GET", f"{base}/v2/alerts?limit=1", key)
        return f"the key is known at {base}"

    def _account(self, settings: Mapping[str, Any]) -> tuple[str, str]:
        """Key and address: a merchant's own, else the installation's."""
        if key := settings.get("api_key"):
            region = str(settings.get("region") or "us")
            return str(key), self._options.api_url or REGIONS[region]
        return self._key, self._options.api_url or REGIONS[self._options.region]

    def _call(self, method: str, url: str, key: str, **body: Any) -> Reply:  # noqa: ANN401 - requests' arguments
        headers = {"Authorization": f"GenieKey {key}"}
        timeout = self._options.timeout / _CALLS
        reply = call("OpsGenie", self._session, method, url, timeout=timeout, headers=headers, **body)
        why = provider_words(reply.document.get("message"), key)
        if (error := refusal("OpsGenie", reply, why)) is not None:
            raise error
        return reply


def calls(message: Message, *, told: bool) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and body of each call, those first that can be repeated without a trace."""
    alias, by = _alias(message), _BY
    note = f"{message.title}\n{message.text}\n{message.url}"[:_NOTE]
    if message.reason is NotifyReason.RESOLVED:
        return [("POST", f"{alias}/close{by}", {"source": "Sentinel", "note": note})]
    if message.reason is NotifyReason.ESCALATED and told:
        priority = {"priority": PRIORITIES[message.severity]}
        return [("PUT", f"{alias}/priority{by}", priority), ("POST", f"{alias}/notes{by}", {"note": note})]
    return [("POST", "/v2/alerts", created(message))]


def responses(message: Message, wanted: str, said: str) -> list[tuple[str, str, dict[str, Any]]]:
    """What people did since OpsGenie was told of `said`."""
    closed = message.attention.closed_by, message.attention.closing_note
    who = ": ".join(part for part in closed if part) if wanted == "close" else message.attention.acknowledged_by
    body = {"source": "Sentinel", "note": f"{who}, in Sentinel"[:_NOTE] if who else "In Sentinel"}
    verb = wanted or f"un{said}"
    return [("POST", f"{_alias(message)}/{verb}{_BY}", body)]


def _alias(message: Message) -> str:
    return f"/v2/alerts/{quote(message.alert_id, safe='')}"


def created(message: Message) -> dict[str, Any]:
    return {
        "message": one_line(message.title, _MESSAGE),
        "alias": message.alert_id,
        "description": f"{message.text}\n\nWhat to do: {message.suggested_action}\n\n{message.url}"[:_DESCRIPTION],
        "priority": PRIORITIES[message.severity],
        "source": "Sentinel",
        "entity": one_line(message.merchant, _ENTITY),
        "tags": ["sentinel", one_line(message.alert_type, 50)],
        "details": {
            **{one_line(label, _DETAIL): one_line(value, _DETAIL) for label, value in message.facts},
            "account_id": message.account_id,
            "alert": message.url,
            "chart": message.chart_url,
        },
    }
