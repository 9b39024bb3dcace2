"""The figures that an operator is promised: of requests, of alerts by type, of people's answers, of the database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import page_rows as rows
import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from stores import migrate
from structlog.testing import capture_logs

from webhook.app import create_app
from webhook.config import Settings
from webhook.storage.database import Database

INGEST, ADMIN = {"Authorization": "Bearer " + "i" * 20}, {"Authorization": "Bearer " + "a" * 20}
NOW = rows.NOW


@pytest.fixture
def client(store_url: str, clock: rows.Clock) -> Iterator[FlaskClient]:
    migrate(store_url)
    settings = Settings(database_url=store_url, ingest_token="i" * 20, admin_token="a" * 20, secret_key="s" * 20)
    app = create_app(settings, clock=clock)
    yield app.test_client()
    app.extensions["sentinel_database"].close()


def figure(client: FlaskClient, name: str, **labels: str) -> float:
    """The sum over all time series that have these labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = (sample for family in families for sample in family.samples if sample.name == name)
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def deliver(client: FlaskClient, *alert_types: str, status: str = "firing", at: datetime = NOW) -> None:
    alerts = [
        {
            "status": status,
            "labels": {"alertname": "A", "account_id": "a", "alert_type": alert_type, "severity": "P2"},
            "fingerprint": alert_type,
            "startsAt": at.isoformat(),
        }
        for alert_type in alert_types
    ]
    answer = client.post("/api/v1/alerts/prometheus/webhook", json={"alerts": alerts}, headers=INGEST)
    assert answer.status_code == 200


def test_methods_that_nobody_knows_are_one_time_series(client: FlaskClient) -> None:
    for number in range(5):
        client.open("/-/healthy", method=f"ZZZ{number}")
    client.get("/-/healthy")
    name = "sentinel_http_request_seconds_count"
    assert (figure(client, name, method="other"), figure(client, name, method="ZZZ0")) == (5, 0)
    assert figure(client, name, method="GET", route="/-/healthy") == 1


def test_triggers_are_counted_by_type_and_names_from_outside_are_bounded(client: FlaskClient) -> None:
    deliver(client, "CARD_TESTING", "CARD_TESTING", "VELOCITY_ATTACK")
    deliver(client, "CARD_TESTING", status="resolved")
    name = "sentinel_alert_triggers_total"
    assert figure(client, name, alert_type="CARD_TESTING") == 2
    assert figure(client, name, alert_type="VELOCITY_ATTACK") == 1
    deliver(client, *(f"TYPE_{number}" for number in range(60)))
    assert (figure(client, name), figure(client, name, alert_type="other")) == (63, 12)


def test_the_time_to_a_persons_first_action_is_measured_once(
    client: FlaskClient, store_url: str, clock: rows.Clock
) -> None:
    deliver(client, "CARD_TESTING")
    (alert,) = client.get("/api/v1/alerts", headers=ADMIN).get_json()["data"]
    clock.now += timedelta(minutes=7)
    path = f"/api/v1/alerts/{alert['alert_id']}"
    with capture_logs() as logs:
        assert client.post(f"{path}/acknowledge", json={"acknowledged_by": "dana"}, headers=ADMIN).status_code == 200
        clock.now += timedelta(minutes=7)
        assert client.post(f"{path}/resolve", json={"resolution_note": "x"}, headers=ADMIN).status_code == 200
        assert client.post(f"{path}/resolve", json={"resolution_note": "x"}, headers=ADMIN).status_code == 409
    name = "sentinel_alert_response_seconds"
    assert figure(client, f"{name}_count") == 1
    assert figure(client, f"{name}_sum", action="acknowledged") == 7 * 60
    told = [(entry["event"], entry["merchant_id"]) for entry in logs if entry["event"].startswith("alert_")]
    assert told == [("alert_acknowledged", "a"), ("alert_resolved", "a")]


def test_every_line_about_an_alert_names_its_merchant(client: FlaskClient) -> None:
    with capture_logs() as logs:
        deliver(client, "CARD_TESTING")
    about = [entry for entry in logs if "alert_id" in entry]
    assert {entry["event"] for entry in about} >= {"alert_created", "frequency_check_passed"}
    assert {entry["merchant_id"] for entry in about} == {"a"}
    assert "account_id" not in json.dumps(logs, default=repr)


def test_transactions_of_the_database_are_timed_by_kind(client: FlaskClient) -> None:
    name = "sentinel_database_seconds_count"
    before = {kind: figure(client, name, kind=kind) for kind in ("read", "write")}
    deliver(client, "CARD_TESTING")
    client.get("/api/v1/alerts", headers=ADMIN)
    assert figure(client, name, kind="write") > before["write"]
    assert figure(client, name, kind="read") > before["read"]


def test_a_transaction_that_fails_is_timed_too(store_url: str) -> None:
    timed: list[str] = []
    database = Database(store_url, meter=lambda kind, _seconds: timed.append(kind))
    with pytest.raises(ZeroDivisionError), database.write():
        raise ZeroDivisionError
    assert timed == ["write"]
    database.close()
