"""The receiver as Alertmanager meets it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from stores import migrate
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from webhook.app import create_app
from webhook.config import ConfigError, Settings
from webhook.storage.database import Database
from webhook.storage.tables import alert_dynamic, alert_trigger_log

PATH = "/api/v1/alerts/prometheus/webhook"
TOKEN = {"Authorization": "Bearer s3cret-token"}


def payload(*alerts: object) -> dict[str, Any]:
    return {
        "version": "4",
        "groupKey": '{}:{alertname="CardTestingDetected"}',
        "status": "firing",
        "receiver": "sentinel-webhook",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager",
        "truncatedAlerts": 0,
        "notification_reason": "new",
        "alerts": list(alerts),
    }


ALERT = {
    "status": "firing",
    "labels": {"alertname": "CardTestingDetected", "alert_type": "CARD_TESTING", "severity": "P3", "account_id": "a"},
    "annotations": {"block_rate": "0.35038363171355497"},
    "startsAt": "2026-01-05T11:59:30.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus/graph",
    "fingerprint": "c0ffee",
    "routeLabels": {},
}


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    migrate(store_url)
    database = Database(store_url)
    yield database
    database.close()


@pytest.fixture
def client(database: Database) -> Iterator[FlaskClient]:
    url = database.url.render_as_string(hide_password=False)
    settings = Settings(
        database_url=url,
        ingest_token="s3cret-token",
        admin_token="admin-of-some-length",
        secret_key="key-of-some-length",
        max_body_bytes=100_000,
    )
    app = create_app(settings, clock=lambda: datetime(2026, 1, 5, 12, tzinfo=UTC))
    yield app.test_client()
    app.extensions["sentinel_database"].close()


def test_a_payload_is_answered_with_what_became_of_each_alert(client: FlaskClient, database: Database) -> None:
    resolved = {**ALERT, "status": "resolved", "fingerprint": "f00"}
    response = client.post(PATH, json=payload(ALERT, ALERT, resolved, "no alert"), headers=TOKEN)
    assert response.status_code == 200
    answer = response.get_json()
    assert answer["outcomes"] == ["created", "duplicate", "resolved", "rejected:the alert is not an object"]
    assert (answer["received"], answer["processed"], len(answer["alert_ids"])) == (4, 2, 1)
    with database.read() as connection:
        assert len(connection.execute(sa.select(alert_trigger_log.c.id)).all()) == 4


def test_urgent_deliveries_are_at_least_p1(client: FlaskClient, database: Database) -> None:
    assert client.post(f"{PATH}?priority=urgent", json=payload(ALERT), headers=TOKEN).status_code == 200
    with database.read() as connection:
        assert connection.scalar(sa.select(alert_dynamic.c.current_severity)) == "P1"


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret-token"}])
def test_without_the_token_nothing_is_taken(client: FlaskClient, header: dict[str, str]) -> None:
    response = client.post(PATH, json=payload(ALERT), headers=header)
    assert response.status_code == 401
    assert response.content_type == "application/problem+json"
    assert "token" in response.get_json()["detail"]
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 40_000, "the body is not JSON"),
        (b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
        (b"[]", "must be a JSON object"),
        (b'{"alerts": 1}', "`alerts` must be a list"),
    ],
)
def test_a_body_that_is_no_payload_is_named(client: FlaskClient, body: bytes, detail: str) -> None:
    response = client.post(PATH, data=body, headers=TOKEN)
    assert response.status_code == 400
    assert detail in response.get_json()["detail"]


def test_an_alert_of_many_levels_is_no_error_of_ours(client: FlaskClient) -> None:
    body = b'{"alerts": [%s, %s]}' % (b"[" * 60 + b"]" * 60, json.dumps(ALERT).encode())
    rejected, taken = client.post(PATH, data=body, headers=TOKEN).get_json()["outcomes"]
    assert rejected.startswith("rejected:")
    assert taken == "created"


def test_a_delivery_may_be_longer_than_what_people_send(client: FlaskClient) -> None:
    body = json.dumps(payload(ALERT)).encode()
    response = client.post(PATH, data=body + b" " * (100_000 - len(body)), headers=TOKEN)
    assert response.status_code == 200
    assert response.get_json()["received"] == 1


def test_a_huge_body_is_refused(client: FlaskClient) -> None:
    response = client.post(PATH, data=b" " * 110_000, headers=TOKEN)
    assert response.status_code == 413
    assert response.content_type == "application/problem+json"


def test_an_empty_payload_is_fine(client: FlaskClient) -> None:
    assert client.post(PATH, json=payload(), headers=TOKEN).get_json()["received"] == 0


def test_a_store_that_fails_asks_to_come_back(client: FlaskClient, database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.text("DROP TABLE alert_trigger_log"))
        connection.execute(sa.text("DROP TABLE alembic_version"))
    response = client.post(PATH, json=payload(ALERT), headers=TOKEN)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert client.get("/-/ready").status_code == 503
    assert client.get("/-/healthy").status_code == 200


@pytest.fixture
def usual_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a lock that is held for ever."""
    monkeypatch.setattr("webhook.storage.database.LONGEST_WAIT_S", 5)


def test_a_locked_store_asks_to_come_back_and_nothing_is_half_done(
    usual_patience: None, client: FlaskClient, database: Database
) -> None:
    with database.write() as connection:
        if database.dialect == "postgresql":
            connection.execute(sa.text("LOCK TABLE alert_trigger_log IN EXCLUSIVE MODE"))
        assert client.post(PATH, json=payload(ALERT), headers=TOKEN).status_code == 503
    with database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(alert_dynamic)) == 0
    assert client.post(PATH, json=payload(ALERT), headers=TOKEN).get_json()["outcomes"] == ["created"]


def test_health_and_metrics(client: FlaskClient) -> None:
    assert client.get("/-/ready").status_code == 200
    client.post(PATH, json=payload(ALERT, ALERT), headers=TOKEN)
    text = client.get("/metrics").text
    assert "sentinel_alerts_received_total 2.0" in text
    assert 'sentinel_alert_outcomes_total{outcome="duplicate"} 1.0' in text


def test_no_token_no_service(database: Database) -> None:
    with pytest.raises(ConfigError, match="SENTINEL_INGEST_TOKEN"):
        create_app(
            Settings(database_url=database.url.render_as_string(hide_password=False), ingest_token="", admin_token="x")
        )


def test_secrets_stay_out_of_logs_and_answers(client: FlaskClient, capfd: pytest.CaptureFixture[str]) -> None:
    answers = [
        client.post(PATH, json=payload(ALERT), headers=TOKEN).text,
        client.post(PATH, data=b"{", headers=TOKEN).text,
        client.get("/metrics").text,
        json.dumps(dict(client.get("/-/ready").headers)),
    ]
    out, err = capfd.readouterr()
    assert all("s3cret-token" not in text for text in (*answers, out, err))


def test_a_request_is_traced_from_its_caller_to_each_line_of_the_log(client: FlaskClient) -> None:
    parent = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    with capture_logs(processors=[merge_contextvars]) as lines:
        answer = client.post(PATH, json=payload(ALERT), headers={**TOKEN, **parent})
    assert {line["event"] for line in lines} >= {"alert_received", "alert_created", "frequency_check_passed"}
    assert {line["trace_id"] for line in lines} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert answer.headers["X-Trace-Id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    ids = {client.get("/-/healthy", headers={"traceparent": "nonsense"}).headers["X-Trace-Id"] for _ in range(2)}
    assert len(ids) == 2
    shown = client.get("/metrics").text
    assert f'sentinel_http_request_seconds_count{{method="POST",route="{PATH}",status="200"}} 1.0' in shown
