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
from webhook.pipeline.ingest import IngestMetrics
from webhook.pipeline.together import Together
from webhook.ports import AlertStore, StoreUnavailable
from webhook.web.ingest_door import IngestDoor
from webhook.web.problems import problem

log = structlog.get_logger(__name__)

PATH = "/api/v1/alerts/prometheus/webhook"
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

    def receive() -> Response:
        try:
            door.admit()
            received = _parse(request)
        except RequestEntityTooLarge:
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {max_body_bytes} bytes are taken")
        except PayloadError as error:
            return problem(HTTPStatus.BAD_REQUEST, str(error))
        try:
            changes = together.ingest(received, clock())
        except StoreUnavailable as error:
            log.warning("store_unavailable", reason=str(error), alerts=len(received))
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), Retry_After=_RETRY_AFTER)
        return Response(json.dumps(_answer(changes)), mimetype="application/json")

    app.add_url_rule(PATH, "receive_alerts", receive, methods=["POST"])


def _parse(request: Request) -> list[Trigger | Rejected]:
    """Raise PayloadError for what is no payload, RequestEntityTooLarge for what is too long."""
    try:
        payload = json.loads(request.get_data(cache=False))
    except RecursionError as error:
        raise PayloadError("the body is not JSON: nested too deeply") from error
    except ValueError as error:
        raise PayloadError(f"the body is not JSON: {error}") from error
    if isinstance(payload, dict) and payload.get("truncatedAlerts"):
        log.warning("alerts_truncated", by="the sender's max_alerts", truncated=payload["truncatedAlerts"])
    return parse_payload(payload, urgent=request.args.get("priority") == "urgent")


def _answer(changes: Changes) -> dict[str, object]:
    """`processed`: alerts that now belong to an alert of ours; `outcomes`: one for each received, in order."""
    touched = [entry.alert_id for entry in changes.entries if entry.alert_id is not None]
    return {
        "received": len(changes.entries),
        "processed": len(touched),
        "alert_ids": list(dict.fromkeys(touched)),
        "outcomes": [entry.label for entry in changes.entries],
    }
