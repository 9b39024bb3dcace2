"""The alert API: thin over the read side and the actions. Every error is a problem detail (RFC 9457)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from pydantic import ValidationError
from werkzeug.exceptions import BadRequest, HTTPException, NotFound

from webhook.domain.alert import AlertStatus
from webhook.domain.session import IllegalChange
from webhook.ports import AlertNotFound, HistoryUnavailable
from webhook.storage import queries
from webhook.storage.database import Database
from webhook.storage.records import AlertRecord, NotificationRecord, TriggerRecord
from webhook.web.contracts import ADMIN_SESSION, ADMIN_TOKEN, Actions, Charts, ImageFormat
from webhook.web.parameters import (
    AlertQuery,
    ChartQuery,
    DismissBody,
    Parameters,
    ResolveBody,
    TriggerQuery,
    cursor,
)
from webhook.web.problems import problem
from webhook.web.readings import Reading, readings

CHART_SECONDS = 15
MAX_BODY = 64 * 1024
IMAGE_TYPES: Mapping[ImageFormat, str] = {"png": "image/png", "svg": "image/svg+xml"}

P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True, slots=True)
class Api:
    """What the views share."""

    database: Database
    clock: Callable[[], datetime]
    actions: Actions
    charts: Charts | None


def http_problem(error: HTTPException) -> Response:
    """Any HTTP error as a problem, with the headers it carries (Retry-After, Allow)."""
    status = HTTPStatus(error.code or 500)
    response = problem(status, error.description or "")
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="sentinel"'
    return response


def invalid(error: ValidationError) -> Response:
    errors = [
        {"field": ".".join(str(part) for part in entry["loc"]), "message": entry["msg"]}
        for entry in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    detail = "; ".join(f"{entry['field']}: {entry['message']}" for entry in errors)
    return problem(HTTPStatus.BAD_REQUEST, detail, {"errors": errors})


def _body(model: type[P]) -> P:
    request.max_content_length = MAX_BODY
    given = request.get_json(silent=True)
    if not isinstance(given, dict):
        raise BadRequest("Send a JSON object with Content-Type: application/json.")
    return model.model_validate(given)


def _credential() -> str:
    """By what the request was let in: a bearer is judged first, see `require_credentials`."""
    return ADMIN_TOKEN if request.headers.get("Authorization") else ADMIN_SESSION


def _time(at: datetime | None) -> str | None:
    return None if at is None else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def api_blueprint(api: Api) -> Blueprint:
    pages = Blueprint("api", __name__, url_prefix="/api/v1")
    _add_alerts(pages, api)
    _add_triggers(pages, api)
    _add_actions(pages, api)
    _add_charts(pages, api)
    pages.register_error_handler(ValidationError, invalid)
    pages.register_error_handler(AlertNotFound, lambda _: problem(HTTPStatus.NOT_FOUND, "There is no such alert."))
    pages.register_error_handler(IllegalChange, lambda error: problem(HTTPStatus.CONFLICT, f"{error}."))
    return pages


def _add_alerts(pages: Blueprint, api: Api) -> None:
    @pages.get("/alerts")
    def alerts() -> Response:
        asked = AlertQuery.strictly(request.args)
        with api.database.read() as connection:
            total = queries.count_alerts(connection, asked.wanted())
            found = queries.list_alerts(
                connection,
                asked.wanted(),
                sort=asked.sort_by,
                descending=asked.sort_order == "desc",
                limit=asked.page_size,
                offset=(asked.page - 1) * asked.page_size,
            )
            channels = queries.channels_of(connection, [record.id for record in found])
        pagination = {
            "page": asked.page,
            "page_size": asked.page_size,
            "total_count": total,
            "total_pages": -(-total // asked.page_size),
        }
        data = [_alert_entry(record, channels[record.id]) for record in found]
        return jsonify(data=data, pagination=pagination)

    @pages.get("/alerts/<uuid:alert_id>")
    def alert(alert_id: UUID) -> Response:
        with api.database.read() as connection:
            record = queries.alert_by_id(connection, str(alert_id))
            if record is None:
                raise AlertNotFound
            shown = readings_of(record, queries.latest_verdicts(connection, [record.id])[record.id])
            notifications = queries.notifications_of(connection, record.id)
        return jsonify(_alert_detail(record, shown, notifications))


def _add_triggers(pages: Blueprint, api: Api) -> None:
    @pages.get("/triggers")
    def triggers() -> Response:
        asked = TriggerQuery.strictly(request.args)
        with api.database.read() as connection:
            found = queries.list_triggers(connection, asked.wanted(), asked.limit)
        more = len(found) == asked.limit
        following = cursor(found[-1].created_at, found[-1].id) if more else None
        return jsonify(data=[_trigger_entry(record) for record in found], next=following)


def _add_actions(pages: Blueprint, api: Api) -> None:
    @pages.post("/alerts/<uuid:alert_id>/resolve")
    def resolve(alert_id: UUID) -> Response:
        body, now = _body(ResolveBody), api.clock()
        api.actions.resolve(
            str(alert_id), note=body.resolution_note, actor=body.resolved_by, authenticated_as=_credential(), now=now
        )
        return jsonify(
            alert_id=str(alert_id),
            status=AlertStatus.RESOLVED,
            resolved_at=_time(now),
            message="Alert marked as resolved",
        )

    @pages.post("/alerts/<uuid:alert_id>/dismiss")
    def dismiss(alert_id: UUID) -> Response:
        body, now = _body(DismissBody), api.clock()
        api.actions.dismiss(
            str(alert_id), reason=body.dismiss_reason, actor=body.dismissed_by, authenticated_as=_credential(), now=now
        )
        return jsonify(alert_id=str(alert_id), status=AlertStatus.DISMISSED, dismissed_at=_time(now))


def _add_charts(pages: Blueprint, api: Api) -> None:
    @pages.get("/alerts/<uuid:alert_id>/chart.<any(png, svg):image_format>")
    def chart(alert_id: UUID, image_format: ImageFormat) -> Response:
        """Without `metric`: the one that matters most."""
        asked = ChartQuery.strictly(request.args)
        with api.database.read() as connection:
            record = queries.alert_by_id(connection, str(alert_id))
            if record is None:
                raise AlertNotFound
            shown = readings_of(record, queries.latest_verdicts(connection, [record.id])[record.id])
        wanted = [reading for reading in shown if reading.metric == asked.metric or not asked.metric]
        if api.charts is None or not wanted:
            raise NotFound("There is no chart of this metric.")
        try:
            image = api.charts.chart(
                record,
                wanted[0].metric,
                threshold=wanted[0].threshold,
                theme=asked.theme,
                image_format=image_format,
            )
        except HistoryUnavailable:
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The history of this metric cannot be read now.",
                Retry_After=str(CHART_SECONDS),
            )
        response = Response(image, mimetype=IMAGE_TYPES[image_format])
        response.headers["Cache-Control"] = f"private, max-age={CHART_SECONDS}"
        return response


def readings_of(record: AlertRecord, verdict: Mapping[str, Any]) -> list[Reading]:
    """The metrics of an alert against the thresholds that count for its merchant."""
    thresholds = record.metadata.get("thresholds")
    return readings(record.metrics, thresholds if isinstance(thresholds, Mapping) else {}, verdict)


def action_text(suggested: object) -> str:
    """The suggested action, which is text or, from older rows, an object that holds it."""
    if isinstance(suggested, Mapping):
        suggested = suggested.get("text") or suggested.get("action") or ""
    return suggested if isinstance(suggested, str) else ""


def _alert_entry(record: AlertRecord, channels: list[str]) -> dict[str, Any]:
    return {
        "alert_id": record.id,
        "merchant_id": record.account_id,
        "merchant_name": record.merchant_name,
        "alert_type": record.alert_type,
        "severity": record.severity,
        "title": record.title,
        "summary": record.summary,
        "status": record.status,
        "session_status": record.session_status,
        "occurrence_count": record.occurrence_count,
        "triggered_at": _time(record.first_triggered_at),
        "last_triggered_at": _time(record.last_triggered_at),
        "resolved_at": _time(record.resolved_at),
        "metrics_summary": record.metrics,
        "notification_channels": channels,
    }


def _alert_detail(record: AlertRecord, shown: list[Reading], notifications: list[NotificationRecord]) -> dict[str, Any]:
    entry = _alert_entry(record, sorted({sent.channel_type for sent in notifications}))
    del entry["metrics_summary"], entry["notification_channels"]
    return entry | {
        "suggested_action": action_text(record.suggested_action),
        "summary_source": record.metadata.get("summary_source", "template"),
        "metrics": [
            {
                "metric_name": reading.metric,
                "metric_value": reading.value,
                "threshold": reading.threshold,
                "operator": reading.operator or None,
                "threshold_of": reading.owner or None,
                "met": reading.met if reading.threshold is not None else None,
            }
            for reading in shown
        ],
        "raw_metrics": record.metadata,
        "escalation_history": record.escalation_history,
        "notifications": [_notification_entry(sent) for sent in notifications],
        "actions_taken": _actions_taken(record),
        "version": record.version,
    }


def _notification_entry(sent: NotificationRecord) -> dict[str, Any]:
    return {
        "notification_id": sent.id,
        "channel": sent.channel_type,
        "status": sent.status.lower(),
        "reason": sent.reason,
        "created_at": _time(sent.created_at),
        "sent_at": _time(sent.sent_at),
        "delivered_at": _time(sent.delivered_at),
        "failed_at": _time(sent.failed_at),
        "retry_count": sent.retry_count,
        "error_message": sent.error_message,
    }


def _actions_taken(record: AlertRecord) -> list[dict[str, Any]]:
    if record.active:
        return []
    return [
        {
            "action_type": record.status.lower(),
            "action_time": _time(record.resolved_at),
            "performed_by": record.resolved_by,
            "details": {"note": record.resolution_note},
        }
    ]


def _trigger_entry(record: TriggerRecord) -> dict[str, Any]:
    return {
        "trigger_id": record.id,
        "alert_id": record.alert_id,
        "source": record.source,
        "alert_name": record.alert_name,
        "alert_type": record.alert_type,
        "merchant_id": record.account_id,
        "status": record.status,
        "severity": record.severity,
        "starts_at": _time(record.starts_at),
        "received_at": _time(record.created_at),
        "metrics": record.metrics,
        "labels": record.labels,
        "verdict": record.verdict,
        "outcome": record.outcome,
        "outcome_reason": record.outcome_reason,
        "notify": record.notify,
    }
