"""The receiver in the API's document. Its route is its own (`webhook.web.receiver`): here nothing is served."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field

from webhook.web.openapi import blueprint, problems
from webhook.web.repeating import DeliveryId


class DeliveryQuery(BaseModel):
    priority: Annotated[str, Field(description="`urgent`: each alert is at least P1.")] = ""


class DeliveredAlert(BaseModel):
    """One alert as Alertmanager sends it; unknown fields are accepted. Annotations that are numbers are its metrics."""

    status: Literal["firing", "resolved"] = "firing"
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    startsAt: datetime  # noqa: N815 - Alertmanager's
    endsAt: datetime | None = None  # noqa: N815 - Alertmanager's
    generatorURL: str = ""  # noqa: N815 - Alertmanager's
    fingerprint: str = ""
    values: dict[str, float | None] | None = Field(None, description="Grafana's: metrics by the name of their query.")


class Delivery(BaseModel):
    """A payload of Alertmanager (version 4) or of Grafana's alerting.

    An alert that cannot be read is `rejected` in the answer and harms no other.
    """

    model_config = ConfigDict(extra="allow")
    alerts: list[DeliveredAlert | Any]


class DeliveryTaken(BaseModel):
    """`processed`: how many now belong to an alert of ours; `outcomes`: one for each received, in their order."""

    received: int
    processed: int
    alert_ids: list[str]
    outcomes: list[str] = Field(examples=[["created", "duplicate", "suppressed:disabled"]])


def receiver_document() -> APIBlueprint:
    """For `describe`."""
    routes = blueprint("receiver", "Ingestion")

    @routes.post("/alerts/prometheus/webhook", responses={200: DeliveryTaken, **problems(413, 422)})
    def receive_alerts(query: DeliveryQuery, header: DeliveryId, body: Delivery) -> Response:
        """Take what Alertmanager delivers: committed, then answered. After a 503 it comes back."""
        raise NotImplementedError

    return routes
