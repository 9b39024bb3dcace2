"""The API: what programs read and do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import page_rows as rows
import pytest
from flask.testing import FlaskClient
from page_reading import page, token_in
from page_rows import NOW, TOKEN
from werkzeug.test import TestResponse

from webhook.storage.database import Database

BEARER = {"Authorization": f"Bearer {TOKEN}"}
ALERTS = "/api/v1/alerts"


def get(client: FlaskClient, path: str, **query: object) -> dict[str, Any]:
    response = client.get(path, headers=BEARER, query_string=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    return found


def is_problem(response: TestResponse, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    body: dict[str, Any] = response.get_json(force=True)
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def test_the_list_has_the_documented_fields_and_pages(stranger: FlaskClient, database: Database) -> None:
    ids = rows.seed(database)
    answer = get(stranger, ALERTS, page_size=5, page=6)
    paged = {"page": 6, "page_size": 5, "total_count": 27, "total_pages": 6, "next_cursor": None}
    assert answer["pagination"] == paged
    assert len(answer["data"]) == 2
    (entry,) = get(stranger, ALERTS, merchant_id="acc_017")["data"]
    assert entry["alert_id"] == ids["attack"]
    assert entry["triggered_at"] == (NOW - timedelta(minutes=46)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert entry["notification_channels"] == ["slack", "sms"]
    assert entry["metrics_summary"]["block_rate"] == 0.35038363171355497
    assert {"merchant_id", "alert_type", "severity", "title", "summary", "status"} <= entry.keys()


def test_the_list_filters_and_sorts(stranger: FlaskClient, database: Database) -> None:
    ids = rows.seed(database)
    gravest = get(stranger, ALERTS, sort_by="severity")["data"]
    assert [entry["severity"] for entry in gravest[:4]] == ["P0", "P1", "P2", "P2"]
    oldest = get(stranger, ALERTS, sort_order="asc", status="ACTIVE")["data"]
    assert [entry["alert_id"] for entry in oldest] == [ids["long"], ids["attack"], ids["hostile"]]
    assert get(stranger, ALERTS, from_date=NOW.isoformat())["data"] == []
    assert len(get(stranger, ALERTS, to_date=(NOW - timedelta(days=1)).isoformat(), page_size=100)["data"]) == 23


def test_the_detail_has_metrics_with_thresholds_notifications_and_actions(
    stranger: FlaskClient, database: Database
) -> None:
    ids = rows.seed(database)
    detail = get(stranger, f"{ALERTS}/{ids['attack']}")
    assert detail["metrics"][0] == {
        "metric_name": "block_rate", "metric_value": 0.35038363171355497, "threshold": 0.3, "operator": ">",
        "threshold_of": "merchant", "met": True, "time_window": None, "metadata": {},
    }  # fmt: skip
    assert {sent["status"] for sent in detail["notifications"]} == {"pending", "sent", "failed", "delivered"}
    assert detail["suggested_action"].startswith("Ask for 3-D Secure")
    assert (detail["resolved_at"], detail["actions_taken"]) == (None, [])
    dismissed = get(stranger, f"{ALERTS}/{ids['dismissed']}")
    assert dismissed["actions_taken"][0]["action_type"] == "dismissed"
    assert dismissed["actions_taken"][0]["details"]["note"].startswith("Normal business")


def test_the_trigger_log_is_read_on_from_where_one_stopped(stranger: FlaskClient, database: Database) -> None:
    rows.seed(database)
    first = get(stranger, "/api/v1/triggers", limit=10)
    rest = get(stranger, "/api/v1/triggers", limit=10, cursor=first["next_cursor"])
    ids = [entry["trigger_id"] for entry in first["data"] + rest["data"]]
    assert len(ids) == len(set(ids)) == 14
    assert rest["next_cursor"] is None
    (suppressed, _) = get(stranger, "/api/v1/triggers", merchant_id="acc_029")["data"]
    assert suppressed["outcome"] == "suppressed"
    assert suppressed["verdict"]["conditions"][0]["met"] is False


def test_resolve_and_dismiss_by_token_need_no_form(stranger: FlaskClient, database: Database) -> None:
    first, second = rows.insert_alert(database), rows.insert_alert(database)
    body = {"resolution_note": "Blocked", "resolved_by": "dana"}
    resolved = stranger.post(f"{ALERTS}/{first}/resolve", json=body, headers=BEARER)
    assert resolved.status_code == 200
    assert (resolved.json or {})["status"] == "RESOLVED"
    dismissed = stranger.post(
        f"{ALERTS}/{second}/dismiss", json={"dismiss_reason": "Drill", "dismissed_by": "dana"}, headers=BEARER
    )
    assert dismissed.get_json()["dismissed_at"] == "2026-03-14T15:09:26.535897Z"
    assert stranger.application.extensions["actions"].asked == [
        (first, "RESOLVED", "Blocked", "dana"),
        (second, "DISMISSED", "OTHER Drill", "dana"),
    ]
    assert "already" in is_problem(stranger.post(f"{ALERTS}/{first}/resolve", json=body, headers=BEARER), 409)["detail"]
    is_problem(stranger.post(f"{ALERTS}/{uuid4()}/resolve", json=body, headers=BEARER), 404)


def test_a_page_may_post_json_with_its_token_and_nobody_else(client: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    body = {"resolution_note": "Blocked", "resolved_by": "dana"}
    path = f"{ALERTS}/{alert_id}/resolve"
    assert "CSRF" in is_problem(client.post(path, json=body), 400)["detail"]
    assert client.application.extensions["actions"].asked == []
    csrf = token_in(page(client, "/alerts"))
    assert client.post(path, json=body, headers={"X-CSRFToken": csrf}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer"}],
)
def test_without_the_token_nothing_is_told(stranger: FlaskClient, headers: dict[str, str]) -> None:
    for path in (ALERTS, f"{ALERTS}/{uuid4()}", "/api/v1/triggers", f"{ALERTS}/{uuid4()}/chart.png"):
        response = stranger.get(path, headers=headers)
        is_problem(response, 401)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_what_is_asked_wrongly_is_refused_with_the_reason(stranger: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    wrong = [
        (ALERTS, {"severity": "P9"}, "severity"), (ALERTS, {"page_size": "101"}, "page_size"),
        (ALERTS, {"from_date": "yesterday"}, "from_date"), (ALERTS, {"colour": "red"}, "colour"),
        (ALERTS, {"search": "a\0"}, "search"), ("/api/v1/triggers", {"before": "here"}, "before"),
        (f"{ALERTS}/{alert_id}/chart.png", {"theme": "sepia"}, "theme"),
    ]  # fmt: skip
    for path, query, field in wrong:
        body = is_problem(stranger.get(path, headers=BEARER, query_string=query), 400)
        assert [error["field"] for error in body["errors"]] == [field]
    path = f"{ALERTS}/{alert_id}/resolve"
    bodies: list[Any] = [[], "x", None, {}, {"resolution_note": " ", "resolved_by": "d"},
                         {"resolution_note": "x" * 2001, "resolved_by": "d"},
                         {"resolution_note": "a\0", "resolved_by": "d"},
                         {"resolution_note": "x", "resolved_by": "d", "more": 1},
                         {"resolution_note": "x", "resolved_by": " System"},
                         {"resolution_note": "\ud800", "resolved_by": "d"}]  # fmt: skip
    for given in bodies:
        is_problem(stranger.post(path, json=given, headers=BEARER), 400)
    is_problem(stranger.post(path, data="{", headers=BEARER, content_type="application/json"), 400)
    big = {"resolution_note": "x" * 70_000, "resolved_by": "d"}
    assert stranger.post(path, json=big, headers=BEARER).status_code in (400, 413)
    dismissed = stranger.post(
        f"{ALERTS}/{alert_id}/dismiss", json={"dismiss_reason": "x", "dismissed_by": "system"}, headers=BEARER
    )
    assert "reserved" in is_problem(dismissed, 400)["detail"]
    assert stranger.application.extensions["actions"].asked == []


def test_unknown_addresses_and_methods_are_problems_too(stranger: FlaskClient) -> None:
    is_problem(stranger.get("/api/v1/nothing", headers=BEARER), 404)
    is_problem(stranger.get(f"{ALERTS}/not-an-id", headers=BEARER), 404)
    is_problem(stranger.get(f"{ALERTS}/{uuid4()}", headers=BEARER), 404)
    refused = stranger.delete(ALERTS, headers=BEARER)
    is_problem(refused, 405)
    assert "GET" in refused.headers["Allow"]


def test_charts_are_drawn_for_the_asked_metric_theme_and_format(
    stranger: FlaskClient, database: Database, charts: rows.FakeCharts
) -> None:
    alert_id = rows.insert_alert(database)
    png = stranger.get(f"{ALERTS}/{alert_id}/chart.png?metric=failed_auth_rate&theme=dark", headers=BEARER)
    assert png.mimetype == "image/png"
    assert png.data.startswith(b"\x89PNG")
    assert png.headers["Cache-Control"].startswith("private, max-age=")
    svg = stranger.get(f"{ALERTS}/{alert_id}/chart.svg", headers=BEARER)
    assert svg.mimetype == "image/svg+xml"
    assert charts.asked == [("failed_auth_rate", 0.5, "dark", "png"), ("block_rate", 0.2, "light", "svg")]


def test_a_chart_that_is_known_is_not_sent_again(stranger: FlaskClient, database: Database) -> None:
    address = f"{ALERTS}/{rows.insert_alert(database)}/chart.svg"
    first = stranger.get(address, headers=BEARER)
    again = stranger.get(address, headers={**BEARER, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"]
    other = stranger.get(f"{address}?theme=dark", headers={**BEARER, "If-None-Match": '"another"'})
    assert other.status_code == 200


def test_a_drawing_that_is_opened_by_itself_has_its_styles_and_runs_nothing(
    stranger: FlaskClient, database: Database
) -> None:
    policy = stranger.get(f"{ALERTS}/{rows.insert_alert(database)}/chart.svg", headers=BEARER).headers[
        "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy
    assert "style-src 'unsafe-inline'" in policy
    assert "script-src" not in policy


def test_a_chart_that_cannot_be_had_is_a_clean_answer(
    stranger: FlaskClient, database: Database, charts: rows.FakeCharts
) -> None:
    alert_id = rows.insert_alert(database)
    unknown = stranger.get(f"{ALERTS}/{alert_id}/chart.png?metric=unknown", headers=BEARER)
    is_problem(unknown, 404)
    assert "its metrics are block_rate, failed_auth_rate, transaction_count" in unknown.get_json()["detail"]
    is_problem(stranger.get(f"{ALERTS}/{uuid4()}/chart.png", headers=BEARER), 404)
    charts.away = True
    answer = stranger.get(f"{ALERTS}/{alert_id}/chart.png", headers=BEARER)
    is_problem(answer, 503)
    assert answer.headers["Retry-After"]
    app, _ = rows.make_app(database, charts=None)
    is_problem(app.test_client().get(f"{ALERTS}/{alert_id}/chart.png", headers=BEARER), 404)
