"""What Alertmanager calls. No network call but the database: committed, then 200; else 503, and it comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

import structlog
from flask import Flask, Request, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from webhook.domain.alert import Trigger
from webhook.domain.ledger import Changes, IngestSettings
from webhook.domain.payload import PayloadError, Rejected, parse_payload
from webhook.pipeline.ingest import IngestMetrics, ingest
from webhook.pipeline.together import Together
from webhook.ports import AlertStore, AlreadyAnswered, Answer, RepeatableRequest, StoreUnavailable
from webhook.web.depth import load_json
from webhook.web.ingest_door import IngestDoor
from webhook.web.problems import problem
from webhook.web.repeating import BadRequestId, again, ignored, repeatable_delivery

log = structlog.get_logger(__name__)

PATH = "/api/v1/alerts/prometheus/webhook"
ROUTE = "prometheus_webhook"
_RETRY_AFTER = "5"  # seconds


def register_receiver(
    app: Flask,
    store: AlertStore,
    settings: IngestSettings,
    *,
    door: IngestDoor,
    max_body_bytes: int,
    metrics: IngestMetrics,
    clock: Callable[[], datetime],
) -> None:
    """Add the route. `door` says who may deliver; bodies above `max_body_bytes` get 413."""
    together = Together(store, settings, metrics)

    def take(received: list[Trigger | Rejected], repeatable: RepeatableRequest | None) -> Changes:
        """One whose answer is kept has a transaction of its own. Alertmanager would not come again after an error."""
        try:
            if repeatable is not None:
                return ingest(store, received, settings, clock(), metrics=metrics, request=repeatable)
        except AlreadyAnswered as answered:
            if answered.same or not ignored("it was another delivery's within the last 24 hours"):
                raise
        return together.ingest(received, clock())

    def receive() -> Response:
        try:
            repeatable = repeatable_delivery(request, ROUTE, door.admit().credential, _answered)
            received = _parse(request)
        except RequestEntityTooLarge:
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {max_body_bytes} bytes are taken")
        except (PayloadError, BadRequestId) as error:
            return problem(HTTPStatus.BAD_REQUEST, str(error))
        try:
            changes = take(received, repeatable)
        except AlreadyAnswered as answered:
            return again(answered)
        except StoreUnavailable as error:
            return _come_again(error, len(received))
        return Response(json.dumps(_answer(changes)), mimetype="application/json")

    app.add_url_rule(PATH, "receive_alerts", receive, methods=["POST"])


def _come_again(error: StoreUnavailable, alerts: int) -> Response:
    log.warning("store_unavailable", reason=str(error), alerts=alerts)
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), Retry_After=_RETRY_AFTER)


def _parse(request: Request) -> list[Trigger | Rejected]:
    """Raise PayloadError for what is no payload, RequestEntityTooLarge for what is too long."""
    try:
        payload = load_json(request.get_data())
    except ValueError as error:
        raise PayloadError(f"the body is not JSON: {error}") from error
    if isinstance(payload, dict) and payload.get("truncatedAlerts"):
        log.warning("alerts_truncated", by="the sender's max_alerts", truncated=payload["truncatedAlerts"])
    urgent = bool(request.query_string) and request.args.get("priority") == "urgent"
    return parse_payload(payload, urgent=urgent)


def _answered(changes: Changes) -> Answer:
    return Answer(HTTPStatus.OK, _answer(changes))


def _answer(changes: Changes) -> dict[str, object]:
    """`processed`: alerts that now belong to an alert of ours; `outcomes`: one for each received, in order."""
    touched = [entry.alert_id for entry in changes.entries if entry.alert_id is not None]
    return {
        "received": len(changes.entries),
        "processed": len(touched),
        "alert_ids": list(dict.fromkeys(touched)),
        "outcomes": [entry.label for entry in changes.entries],
    }
