"""Alerts: the list, one in detail, its messages and charts, and why it is as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from webhook.domain.explanation import explain
from webhook.domain.message import chart_metric
from webhook.ports import AlertNotFound, HistoryUnavailable
from webhook.storage import queries
from webhook.storage.explaining import read_facts
from webhook.storage.records import AlertFilter, AlertRecord, NotificationFilter
from webhook.web.access import principal
from webhook.web.answers import (
    AlertDetail,
    AlertList,
    ExplanationAnswer,
    NotificationList,
    Pagination,
    alert_detail,
    alert_entry,
    explanation_answer,
    notification_entry,
)
from webhook.web.api import Api, answer, one_page, seen
from webhook.web.api_parameters import AlertPath, AlertQuery, ChartPath, ChartQuery, ListQuery, alert_cursor
from webhook.web.contracts import ImageFormat
from webhook.web.openapi import blueprint, problems
from webhook.web.parameters import cursor
from webhook.web.problems import problem
from webhook.web.readings import Reading, readings

CHART_SECONDS = 15
IMAGE_TYPES: Mapping[ImageFormat, str] = {"png": "image/png", "svg": "image/svg+xml"}
_UNCHANGED: dict[str, Any] = {"description": "The picture is that of If-None-Match"}
_DRAWING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""Of a drawing that is opened by itself: its lines have styles of their own, and it runs nothing."""

_IMAGE: dict[str, Any] = {
    "description": "The picture",
    "content": {mime: {"schema": {"type": "string", "format": "binary"}} for mime in IMAGE_TYPES.values()},
}


def alerts_blueprint(api: Api) -> APIBlueprint:
    routes = blueprint("alerts", "Alerts")
    _add_list(routes, api)
    _add_detail(routes, api)
    _add_charts(routes, api)
    return routes


def _add_list(routes: APIBlueprint, api: Api) -> None:
    @routes.get("/alerts", responses={200: AlertList})
    def listed(query: AlertQuery) -> Response:
        """Alerts, by page or, through many, by cursor. Ties are settled by id: nothing is listed twice or left out."""
        wanted = query.wanted(principal().accounts)
        with api.database.read() as connection:
            found = queries.list_alerts(
                connection,
                wanted,
                sort=query.sort_by,
                descending=query.sort_order == "desc",
                limit=query.page_size + 1,
                offset=query.offset,
                after=query.after,
            )
            total = _total(connection, wanted, query, len(found))
            shown, last = one_page(found, query.page_size)
            channels = queries.channels_of(connection, [record.id for record in shown])
        pagination = Pagination(
            page=query.page,
            page_size=query.page_size,
            total_count=total,
            total_pages=None if total is None else -(-total // query.page_size),
            next_cursor=last and alert_cursor(queries.place_of(last, query.sort_by)),
        )
        data = [alert_entry(record, channels[record.id]) for record in shown]
        return answer(AlertList(data=data, pagination=pagination))


def _total(connection: sa.Connection, wanted: AlertFilter, query: AlertQuery, found: int) -> int | None:
    """Counted only where it is neither plain from the page nor of no use to who goes on by cursor."""
    if query.cursor is not None:
        return None
    last = found <= query.page_size and (found > 0 or query.page == 1)
    return query.offset + found if last else queries.count_alerts(connection, wanted)


def _add_detail(routes: APIBlueprint, api: Api) -> None:
    @routes.get("/alerts/<uuid:alert_id>", responses={200: AlertDetail, **problems(404)})
    def detail(path: AlertPath) -> Response:
        """One alert. Its ETag is its version, for If-Match on actions."""
        with api.database.read() as connection:
            record = seen(connection, path.alert_id)
            shown = readings_of(record, queries.latest_verdicts(connection, [record.id])[record.id])
            annotations = queries.latest_annotations(connection, record.id)
            notifications = queries.list_notifications(connection, NotificationFilter(alert_id=record.id))
            actions = queries.comments_of(connection, record.id, people=True)
        return answer(alert_detail(record, shown, annotations, notifications, actions), version=record.version)

    @routes.get("/alerts/<uuid:alert_id>/notifications", responses={200: NotificationList, **problems(404)})
    def notifications(path: AlertPath, query: ListQuery) -> Response:
        """Who was told of an alert, newest first."""
        with api.database.read() as connection:
            wanted = NotificationFilter(alert_id=seen(connection, path.alert_id).id)
            found = queries.list_notifications(connection, wanted, query.limit + 1, query.cursor)
        shown, last = one_page(found, query.limit)
        following = last and cursor(last.created_at, last.id)
        return answer(NotificationList(data=[notification_entry(sent) for sent in shown], next_cursor=following))

    @routes.get("/alerts/<uuid:alert_id>/explain", responses={200: ExplanationAnswer, **problems(404)})
    def explanation(path: AlertPath) -> Response:
        """Why an alert fired, was merged, escalated, told or held back: in words, with the data, oldest first."""
        with api.database.read() as connection:
            record = seen(connection, path.alert_id)
            facts = read_facts(connection, record.id, principal().accounts)
        if facts is None:
            raise AlertNotFound(record.id)
        return answer(explanation_answer(explain(facts, api.types[record.alert_type])), version=record.version)


def _add_charts(routes: APIBlueprint, api: Api) -> None:
    @routes.get(
        "/alerts/<uuid:alert_id>/chart.<any(png, svg):image_format>",
        responses={200: _IMAGE, 304: _UNCHANGED, **problems(404)},
    )
    def chart(path: ChartPath, query: ChartQuery) -> AnyResponse:
        """A metric around the time of an alert, with its threshold. Drawn anew every 15 seconds at most."""
        with api.database.read() as connection:
            record = seen(connection, path.alert_id)
            shown = readings_of(record, queries.latest_verdicts(connection, [record.id])[record.id])
        if api.charts is None:
            raise NotFound("There are no charts here.")
        reading = _charted(shown, query.metric, api.types[record.alert_type].default_metric)
        try:
            image = api.charts.chart(
                record,
                reading.metric,
                threshold=reading.threshold,
                operator=reading.operator or ">",
                theme=query.theme,
                image_format=path.image_format,
            )
        except HistoryUnavailable:
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The history of this metric cannot be read now.",
                Retry_After=str(CHART_SECONDS),
            )
        return _picture(image, path.image_format)


def _charted(shown: Sequence[Reading], metric: str, default: str | None) -> Reading:
    """The metric that is asked for, else the one that messages show; raise NotFound."""
    found = {reading.metric: reading for reading in shown}
    thresholds = {reading.metric: reading.threshold for reading in shown if reading.threshold is not None}
    wanted = metric or chart_metric(list(found), thresholds, default)
    if wanted not in found:
        there_are = f"its metrics are {', '.join(found)}" if found else "it has none"
        raise NotFound(f"This alert has no such metric: {there_are}.")
    return found[wanted]


def _picture(image: bytes, image_format: ImageFormat) -> AnyResponse:
    response = Response(image, mimetype=IMAGE_TYPES[image_format])
    response.headers["Cache-Control"] = f"private, max-age={CHART_SECONDS}"
    if image_format == "svg":
        response.headers["Content-Security-Policy"] = _DRAWING_POLICY
    response.set_etag(sha256(image).hexdigest()[:32])
    return response.make_conditional(request)


def readings_of(record: AlertRecord, verdict: Mapping[str, Any]) -> list[Reading]:
    """The metrics of an alert against the thresholds that count for its merchant."""
    thresholds = record.metadata.get("thresholds")
    return readings(record.metrics, thresholds if isinstance(thresholds, Mapping) else {}, verdict)
