"""`POST /api/v1/alerts/metrics`: a metric platform reports values of one merchant, and hears what became of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

import structlog
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from werkzeug.exceptions import Forbidden

from webhook.domain.access import Right
from webhook.domain.alert import Outcome
from webhook.domain.ledger import Changes, Entry
from webhook.domain.report import Report, ReportedMetric
from webhook.domain.throttle import Limit
from webhook.pipeline.reports import ReportIntake
from webhook.ports import AlreadyAnswered, Answer, StoreUnavailable
from webhook.storage.known_types import KnownTypes
from webhook.web.access import principal
from webhook.web.answers import time_text
from webhook.web.ingest_door import IngestDoor
from webhook.web.openapi import SCHEMAS, Problem, blueprint, problems, schemas_of
from webhook.web.parameters import PLAIN, no_number, utc
from webhook.web.problems import problem
from webhook.web.repeating import BadRequestId, RequestId, again, repeatable_request, respond

log = structlog.get_logger(__name__)

ROUTE = "alert_metrics"
_RETRY_AFTER = "5"  # seconds
_MOST_METRICS = 200


def _time(value: object) -> datetime:
    """Raise ValueError for what is no time with a zone. Times beyond all reckoning mean the first or the last."""
    try:
        return _ZONED.validate_python(value)
    except ValidationError:
        raise ValueError("`detected_at`: write a time with its zone, such as 2026-01-05T12:00:00Z") from None


_ZONED: TypeAdapter[datetime] = TypeAdapter(Annotated[AwareDatetime, BeforeValidator(no_number), AfterValidator(utc)])
Text = Annotated[str, StringConstraints(pattern=PLAIN)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Scalar = Text | Number | bool | None


def _name(text: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("holds half a surrogate pair")
    return text.replace("\x00", "\ufffd")


Scalars = Annotated[dict[Annotated[str, AfterValidator(_name)], Scalar], Field(max_length=100)]


def _scalars(**known: object) -> dict[str, Any]:
    """`Scalars` in the words of the document."""
    value = {"anyOf": [{"type": "string", "pattern": PLAIN}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]}
    return {"type": "object", "maxProperties": 100, "default": {}, "properties": known, "additionalProperties": value}


def _with_time(values: dict[str, Any]) -> dict[str, Any]:
    at = values.get("detected_at")
    return values if at is None else {**values, "detected_at": time_text(_time(at))}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


_TIME = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}


class MetricValue(_Strict):
    """One value in full precision. Numbers in `metadata` are kept beside it, and conditions may name them."""

    metric_name: Annotated[Text, Field(min_length=1, max_length=255)]
    metric_value: Number
    threshold: Number | None = None
    time_window: Annotated[Text, Field(max_length=16)] = ""
    metadata: Annotated[Scalars, WithJsonSchema(_scalars())] = {}


class MetricsReport(_Strict):
    """All metrics of one merchant and alert type. `event_metadata` may hold `detected_at`, and labels."""

    merchant_id: Annotated[Text, Field(min_length=1, max_length=255)]
    alert_type: Annotated[Text, Field(min_length=1, max_length=64)]
    metrics: Annotated[list[MetricValue], Field(min_length=1, max_length=_MOST_METRICS)]
    event_metadata: Annotated[Scalars, AfterValidator(_with_time), WithJsonSchema(_scalars(detected_at=_TIME))] = {}


class ReportTaken(BaseModel):
    """`created`: a new alert (201); `merged`: one more occurrence, `duplicate` and `stale`: nothing new (200)."""

    alert_id: str | None
    status: str
    triggered_at: datetime
    message: str


class EvaluatedCondition(BaseModel):
    condition: str
    met: bool | None


class NoAlert(BaseModel):
    status: str
    message: str
    evaluated_conditions: list[EvaluatedCondition]


class LimitDetails(BaseModel):
    """The limit that holds the message back: the member named after it is its maximum."""

    max_per_hour: int | None = None
    max_per_day: int | None = None
    min_interval_minutes: float | None = None
    current_count: int
    window_reset_at: datetime


class Reported(RootModel[ReportTaken | NoAlert]):
    """Nothing that opened an alert."""


class FrequencyLimited(BaseModel):
    """The alert is recorded; its message waits. A problem document with the owner's members."""

    type: str
    title: str
    status: int
    detail: str
    error: str
    message: str
    retry_after_seconds: int
    limit_details: LimitDetails
    alert_id: str


def reports_blueprint(intake: ReportIntake, known_types: KnownTypes, door: IngestDoor) -> APIBlueprint:
    """A merchant's own key reports of its own accounts, and of alert types that are known.

    How often people are told is bounded by account and type: with types of its own making a key would have no bound.
    """
    routes = blueprint("reports", "Ingestion")
    routes.before_request(_through(door))
    routes.components_schemas |= schemas_of(FrequencyLimited)
    limited = {"anyOf": [{"$ref": SCHEMAS + model.__name__} for model in (FrequencyLimited, Problem)]}
    too_many = {"description": "Too Many Requests", "content": {"application/problem+json": {"schema": limited}}}

    @routes.post(
        "/alerts/metrics",
        responses={200: Reported, 201: ReportTaken, 429: too_many, **problems(403, 413, 415, 422)},
    )
    def report_metrics(header: RequestId, body: MetricsReport) -> Response:  # noqa: ARG001 - read by `_take`
        """Report the metrics of a merchant."""
        if not principal().may_see(body.merchant_id):
            raise Forbidden("This key reports of its own accounts alone.")
        if principal().accounts is not None and body.alert_type not in intake.settings.types.by_type:
            own = known_types.of(body.merchant_id)
            if body.alert_type not in own:
                return _unknown_type(sorted(own.union(intake.settings.types.by_type)))
        try:
            return _take(intake, _report(body))
        except BadRequestId as error:
            return problem(HTTPStatus.BAD_REQUEST, str(error))

    return routes


def _unknown_type(known: list[str]) -> Response:
    detail = (
        "alert_type: is not known of this merchant. Make a configuration of it first, or ask whoever runs Sentinel."
    )
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, {"known_types": known})


def _through(door: IngestDoor) -> Callable[[], None]:
    def check() -> None:
        door.admit(Right.REPORT)

    return check


def _take(intake: ReportIntake, report: Report) -> Response:
    now = intake.clock()

    def answer(changes: Changes) -> Answer:
        return answer_of(changes.entries[0], now)

    try:
        entry = intake.take(report, repeatable_request(request, ROUTE, principal().credential, answer), now)
    except AlreadyAnswered as answered:
        return again(answered)
    except StoreUnavailable as error:
        log.warning("store_unavailable", reason=str(error), alerts=1)
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), Retry_After=_RETRY_AFTER)
    return respond(answer_of(entry, now))


def _report(body: MetricsReport) -> Report:
    about = {name: value for name, value in body.event_metadata.items() if value is not None}
    detected_at = about.get("detected_at")
    return Report(
        account_id=body.merchant_id,
        alert_type=body.alert_type,
        metrics=[
            ReportedMetric(m.metric_name, m.metric_value, m.threshold, m.time_window, m.metadata) for m in body.metrics
        ],
        labels={name: _label(value) for name, value in about.items()},
        detected_at=datetime.fromisoformat(str(detected_at)) if detected_at is not None else None,
    )


def _label(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:.17g}"


def answer_of(entry: Entry, now: datetime) -> Answer:
    if entry.outcome is Outcome.SUPPRESSED:
        return Answer(HTTPStatus.OK, _no_alert(entry))
    if entry.limit is not None:
        return Answer(HTTPStatus.TOO_MANY_REQUESTS, _limited(entry, entry.limit, now))
    created = entry.outcome is Outcome.CREATED
    merged = entry.outcome in (Outcome.SESSION_UPDATED, Outcome.COMMENT_ADDED)
    return Answer(
        HTTPStatus.CREATED if created else HTTPStatus.OK,
        {
            "alert_id": entry.alert_id,
            "status": "merged" if merged else entry.outcome.value,
            "triggered_at": time_text(now),
            "message": _message(entry, created=created, merged=merged),
        },
    )


def _message(entry: Entry, *, created: bool, merged: bool) -> str:
    if not (created or merged):
        return f"Nothing new: {entry.reason}"
    what = "Alert created" if created else "Added to the alert of this attack"
    if entry.notify.startswith("withheld:"):
        return f"{what}; no message: {entry.notify.removeprefix('withheld:')}"
    return f"{what} and notifications queued"


def _no_alert(entry: Entry) -> dict[str, Any]:
    conditions = entry.verdict.conditions if entry.verdict is not None else ()
    met = "Metrics do not meet trigger conditions"
    return {
        "status": "no_alert",
        "message": met if conditions else f"No alert: {entry.reason}",
        "evaluated_conditions": [
            {"condition": f"{c.metric} {c.operator} {_plain(c.threshold)}", "met": c.met} for c in conditions
        ],
    }


def _plain(threshold: object) -> object:
    whole = isinstance(threshold, float) and threshold.is_integer()
    return int(threshold) if whole and isinstance(threshold, float) else threshold


def _limited(entry: Entry, limit: Limit, now: datetime) -> dict[str, Any]:
    status, message = HTTPStatus.TOO_MANY_REQUESTS, "Alert frequency limit exceeded for merchant"
    maximum: dict[str, Any] = {limit.name.replace("_alerts_", "_"): limit.maximum}
    if limit.name == "min_interval_minutes":
        maximum = {limit.name: limit.window.total_seconds() / 60}
    return {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": f"{message}; the alert is recorded and its message held back",
        "error": "rate_limit_exceeded",
        "message": message,
        "retry_after_seconds": max(1, math.ceil((limit.frees_at - now).total_seconds())),
        "limit_details": {**maximum, "current_count": limit.count, "window_reset_at": time_text(limit.frees_at)},
        "alert_id": entry.alert_id,
    }
