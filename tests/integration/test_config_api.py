"""The API of merchant configurations: what the owner's document promises, versions, secrets, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from flask import Flask
from flask.testing import FlaskClient
from ingest_shop import START, firing

from webhook.adapters.secrets import SecretBox
from webhook.app import create_app
from webhook.config import Settings
from webhook.domain.access import Principal, Role
from webhook.storage.database import Database
from webhook.storage.migrations import upgrade
from webhook.storage.rotation import rotate_secrets
from webhook.storage.tables import metadata

SLACK, PHONE = "https://hooks.slack.com/services/T0000/B000/verysecretabcd", "+1234567890"
EXAMPLE: dict[str, Any] = {  # the owner's, but for the address
    "merchant_id": "acc_001",
    "alert_type": "CARD_TESTING",
    "enabled": True,
    "channels": {
        "slack": {"enabled": True, "webhook_url": SLACK},
        "sms": {"enabled": False, "phone_numbers": [PHONE]},
        "webapp": {"enabled": True},
    },
    "trigger_conditions": [
        {"metric_name": "block_rate", "operator": ">", "threshold": 0.35, "time_window": "10min"},
        {"metric_name": "bin", "operator": "regex", "threshold": "^4", "is_active": False, "priority": 3},
    ],
    "frequency_control": {"max_alerts_per_hour": 3, "max_alerts_per_day": 15, "min_interval_minutes": 20},
}
ASKED = "merchant_id=acc_001&alert_type=CARD_TESTING"
PATH = "/api/v1/alerts/config"
KEYS = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def app(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    upgrade(store_url)
    monkeypatch.setattr("webhook.app.check_hosts", lambda _: None)
    settings = Settings(
        database_url=store_url, ingest_token="i", admin_token="admin", secret_key="s", encryption_keys=KEYS[0]
    )
    app = create_app(settings, clock=lambda: START)
    yield app
    app.extensions["sentinel_database"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = "Bearer admin"
    return client


def deliver(client: FlaskClient, alert: dict[str, Any]) -> None:
    as_alertmanager = {"Authorization": "Bearer i"}
    answer = client.post("/api/v1/alerts/prometheus/webhook", json={"alerts": [alert]}, headers=as_alertmanager)
    assert answer.status_code == 200


def everything(database: Database) -> str:
    with database.read() as connection:
        return repr([list(map(tuple, connection.execute(sa.select(table)))) for table in metadata.sorted_tables])


def test_the_documented_example_is_taken_and_read_back(client: FlaskClient) -> None:
    answer = client.put(PATH, json=EXAMPLE)
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    assert (body["version"], body["updated_at"]) == (1, "2026-01-05T12:00:00.000000Z")
    assert body["warnings"] == ["channels.webapp: kept, but nothing is sent on this channel yet"]
    read = client.get(f"{PATH}?merchant_id=acc_001").get_json()
    (config,) = read["alert_configs"]
    assert (read["merchant_id"], config["config_id"]) == ("acc_001", body["config_id"])
    assert config["channels"]["slack"] == {"enabled": True, "webhook_url": "https://hooks.slack.com/…abcd"}
    assert config["channels"]["sms"]["phone_numbers"] == ["+1******890"]
    assert config["frequency_control"] == EXAMPLE["frequency_control"]
    active, inactive = config["trigger_conditions"]
    assert (active["threshold"], inactive["is_active"]) == (0.35, False)
    assert client.get(f"{PATH}?merchant_id=acc_009").get_json()["alert_configs"] == []


def test_no_plain_secret_rests_and_a_mask_that_comes_back_keeps_it(app: Flask, client: FlaskClient) -> None:
    client.put(PATH, json=EXAMPLE)
    shown = client.get(f"{PATH}?{ASKED}").get_json()["alert_configs"][0]["channels"]
    again = client.put(PATH, json=EXAMPLE | {"channels": shown, "version": 1, "logic": "any"})
    assert (again.status_code, again.get_json()["version"]) == (200, 2)
    deliver(client, firing(block_rate="0.9"))
    database = app.extensions["sentinel_database"]
    rest = everything(database)
    for secret in (SLACK, "verysecret", PHONE):
        assert secret not in rest
        assert secret not in client.get(f"{PATH}/versions?{ASKED}").text + again.text

    box = SecretBox([KEYS[1], KEYS[0]])
    changed = rotate_secrets(database, box, Principal("me", Role.ADMIN, "cli"), START)
    assert (changed["alert_config"], changed["alert_config_version"]) == (1, 2)
    only_new, tokens = SecretBox([KEYS[1]]), set(re.findall(r"enc:[\w=-]+", everything(database)))
    assert {only_new.decrypt(token) for token in tokens} == {SLACK, PHONE}
    assert len(tokens) == 7, "two in each version and in the row, the one of Slack in the message"

    lost = client.put(PATH, json=EXAMPLE | {"merchant_id": "acc_002", "channels": shown})
    assert lost.status_code == 400
    assert lost.get_json()["errors"][0]["field"] == "channels.slack.webhook_url"


@pytest.mark.parametrize(
    ("given", "headers", "status"),
    [
        ({}, {}, 428),
        ({"version": 7}, {}, 409),
        ({}, {"If-Match": '"7"'}, 412),
        ({"version": 1}, {}, 200),
        ({}, {"If-Match": '"1"'}, 200),
        ({}, {"If-Match": "*"}, 200),
        ({}, {"If-Match": "x"}, 400),
    ],
)
def test_nobody_overwrites_what_they_did_not_see(
    client: FlaskClient, given: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    client.put(PATH, json=EXAMPLE)
    answer = client.put(PATH, json=EXAMPLE | {"enabled": False} | given, headers=headers)
    assert answer.status_code == status, answer.text
    if status in (409, 412, 428):
        assert answer.get_json()["version"] == 1
        assert answer.mimetype == "application/problem+json"


def test_versions_are_kept_restored_and_outlive_a_deletion(client: FlaskClient) -> None:
    client.put(PATH, json=EXAMPLE)
    dry = client.put(f"{PATH}?dry_run=true", json=EXAMPLE | {"enabled": False}).get_json()
    assert (dry["change"], dry["changes"]) == ("changed", [{"field": "enabled", "from": True, "to": False}])
    assert client.put(PATH, json=EXAMPLE | {"enabled": False, "version": 1}).get_json()["version"] == 2
    assert client.delete(f"{PATH}?{ASKED}&version=2").get_json()["version"] == 3
    assert client.delete(f"{PATH}?{ASKED}&version=2").status_code == 404
    back = client.post(
        f"{PATH}/restore", json={"merchant_id": "acc_001", "alert_type": "CARD_TESTING", "restore_version": 1}
    )
    assert back.get_json()["version"] == 4
    versions = client.get(f"{PATH}/versions?{ASKED}").get_json()["data"]
    assert [(item["version"], item["deleted"]) for item in versions] == [(4, False), (3, True), (2, False), (1, False)]
    assert versions[0]["document"] == versions[3]["document"]


def condition(**changes: Any) -> dict[str, Any]:
    return {"trigger_conditions": [{"metric_name": "a", "operator": ">", "threshold": 1} | changes]}


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        (condition(operator="=>"), "trigger_conditions.0", "is none of"),
        (condition(operator="regex", threshold="(a+)+"), "trigger_conditions.0", "repeats a group"),
        (condition(priority="x"), "trigger_conditions.0.priority", "integer"),
        ({"channels": {"pigeon": {}}}, "channels.pigeon", "Extra inputs"),
        ({"channels": {"sms": {"phone_numbers": ["12"]}}}, "channels.sms.phone_numbers.0", "country code"),
        ({"channels": {"slack": {"webhook_url": "ftp://x.example/"}}}, "channels.slack.webhook_url", "https://"),
        ({"surprise": 1}, "surprise", "Extra inputs"),
    ],
)
def test_mistakes_name_their_field(client: FlaskClient, change: dict[str, Any], field: str, told: str) -> None:
    answer = client.put(PATH, json=EXAMPLE | change)
    assert answer.status_code == 400
    errors = {item["field"]: item["message"] for item in answer.get_json()["errors"]}
    assert told in errors[field]


def test_a_merchant_reaches_its_own_account_alone(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Principal("shop", Role.MERCHANT, "api_key/x", frozenset({"acc_002"}))
    client.put(PATH, json=EXAMPLE)
    monkeypatch.setattr("webhook.web.config_api.principal", lambda: other)
    named = {"merchant_id": "acc_001", "alert_type": "CARD_TESTING"}
    answers = [
        client.get(f"{PATH}?{ASKED}"),
        client.put(PATH, json=EXAMPLE | {"version": 1}),
        client.delete(f"{PATH}?{ASKED}&version=1"),
        client.get(f"{PATH}/versions?{ASKED}"),
        client.post(f"{PATH}/restore", json=named | {"restore_version": 1}),
        client.post(f"{PATH}/preview", json=named),
    ]
    assert [answer.status_code for answer in answers] == [404] * 6
    assert client.put(PATH, json=EXAMPLE | {"merchant_id": "acc_002"}).status_code == 200


def test_a_preview_says_what_would_be_different(client: FlaskClient) -> None:
    deliver(client, firing())
    answer = client.post(
        f"{PATH}/preview", json={key: EXAMPLE[key] for key in EXAMPLE if key != "channels"} | {"days": 1}
    )
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    assert (body["triggers"], body["alerts"]["stored"], body["alerts"]["unchanged"]) == (1, 1, 1)
    strict = [{"metric_name": "block_rate", "operator": ">", "threshold": 0.9}]
    body = client.post(f"{PATH}/preview", json=EXAMPLE | {"trigger_conditions": strict}).get_json()
    assert (body["alerts"]["vanish"], body["messages"]["vanish"]) == (1, 1)
    assert body["message"] == "1 of 1 messages would not have been sent."
    assert client.get(f"{PATH}?{ASKED}").get_json()["alert_configs"] == []
