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
from webhook.pipeline.preview import PreviewBusy, Previews, PreviewTooLong
from webhook.storage.access_tables import audit_log
from webhook.storage.database import Database
from webhook.storage.migrations import upgrade
from webhook.storage.rotation import rotate_secrets
from webhook.storage.tables import metadata
from webhook.web.config_answers import PreviewAnswer

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
    assert body["warnings"] == []
    read = client.get(f"{PATH}?merchant_id=acc_001").get_json()
    (config,) = read["alert_configs"]
    assert (read["merchant_id"], config["config_id"]) == ("acc_001", body["config_id"])
    assert config["channels"]["slack"] == {"enabled": True, "webhook_url": "https://hooks.slack.com/…abcd"}
    assert config["channels"]["sms"]["phone_numbers"] == ["+1******890"]
    assert config["frequency_control"] == {**EXAMPLE["frequency_control"], "digest": True}
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
        ({}, {}, 200),  # the owner's document knows no versions
        ({"version": 7}, {}, 409),
        ({"version": 0}, {}, 409),
        ({}, {"If-Match": '"7"'}, 412),
        ({"version": 1}, {}, 200),
        ({}, {"If-Match": '"1"'}, 200),
        ({}, {"If-Match": '"7", "1"'}, 200),
        ({"version": 1}, {"If-Match": '"7"'}, 412),
        ({}, {"If-Match": "*"}, 200),
        ({}, {"If-Match": "x"}, 412),
        ({}, {"If-Match": '"' + "1" * 5000 + '"'}, 412),
        ({"version": 2**64}, {}, 400),
    ],
)
def test_nobody_overwrites_another_version_than_the_one_they_name(
    client: FlaskClient, given: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    client.put(PATH, json=EXAMPLE)
    answer = client.put(PATH, json=EXAMPLE | {"enabled": False} | given, headers=headers)
    assert answer.status_code == status, answer.text
    if status in (409, 412):
        assert answer.get_json()["version"] == 1
        assert answer.headers["ETag"] == '"1"'
        assert answer.mimetype == "application/problem+json"
    (present,) = client.get(f"{PATH}?{ASKED}").get_json()["alert_configs"]
    assert (present["version"], present["enabled"]) == ((2, False) if status == 200 else (1, True))


def test_keys_that_are_changed_in_part_are_audited_in_part(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies after the first of three batches."""
    for number in (1, 2, 3):
        client.put(PATH, json=EXAMPLE | {"merchant_id": f"acc_00{number}"})
    monkeypatch.setattr("webhook.storage.rotation.BATCH", 1)
    box, rotated = SecretBox([KEYS[1], KEYS[0]]), []

    class Dying(SecretBox):
        def rotate(self, text: str) -> str:
            rotated.append(text)
            if len(rotated) > 2:  # two secrets in each
                raise KeyboardInterrupt
            return box.rotate(text)

    database = app.extensions["sentinel_database"]
    with pytest.raises(KeyboardInterrupt):
        rotate_secrets(database, Dying(), Principal("me", Role.ADMIN, "cli"), START)
    with database.read() as connection:
        logged = connection.execute(sa.select(audit_log).filter_by(action="keys_rotated")).all()
    assert [(row.actor, row.details) for row in logged] == [("me", {"table": "alert_config", "rows": 1})]


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


@pytest.mark.parametrize("digits", ["0", str(2**31), str(2**64), "1" * 5000], ids=["0", "32", "64", "5000"])
def test_no_number_is_too_large_to_be_answered(client: FlaskClient, digits: str) -> None:
    client.put(PATH, json=EXAMPLE)
    body = f'{{"merchant_id": "acc_001", "alert_type": "CARD_TESTING", "restore_version": {digits}}}'
    assert client.post(f"{PATH}/restore", data=body, content_type="application/json").status_code == 400
    status = client.delete(f"{PATH}?{ASKED}&version={digits}").status_code
    assert status == (409 if digits == "0" else 400)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_no_nul_reaches_the_database(client: FlaskClient, method: str) -> None:
    for asked in ("merchant_id=acc_001&alert_type=%00", "merchant_id=%00&alert_type=x"):
        for path in (PATH, f"{PATH}/versions") if method == "GET" else (PATH,):
            assert client.open(f"{path}?{asked}", method=method).status_code == 400


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_time_is_no_number_and_an_end_of_all_times_is_taken(client: FlaskClient) -> None:
    assert client.put(PATH, json=EXAMPLE | {"snooze_until": 20260105}).status_code == 400
    assert client.put(PATH, json=EXAMPLE | {"snooze_until": "9999-12-31T23:59:59-12:00"}).status_code == 200


def test_an_explanation_names_each_configuration_once_and_no_secret(app: Flask, client: FlaskClient) -> None:
    client.put(PATH, json=EXAMPLE)
    deliver(client, firing(block_rate="0.9"))
    deliver(client, firing(block_rate="0.9", name="CardTestingSevere"))
    (alert,) = client.get("/api/v1/alerts").get_json()["data"]
    answer = client.get(f"/api/v1/alerts/{alert['alert_id']}/explain")
    for secret in (SLACK, "verysecret", PHONE, "enc:"):
        assert secret not in answer.text
    (config,) = answer.get_json()["configs"]
    assert (config["version"], config["document"]["channels"]["slack"]["webhook_url"]) == (1, "…")
    assert config["document"]["channels"]["sms"]["phone_numbers"] == ["…"]
    told = [step["data"] for step in answer.get_json()["steps"] if step["kind"] in ("fired", "merged")]
    assert [data["config_version"] for data in told] == [1, 1]
    assert all("config" not in data for data in told)


STATUSES = {
    ("get", PATH): {404},
    ("put", PATH): {404, 409, 412, 413, 415},
    ("delete", PATH): {404, 409, 412},
    ("get", f"{PATH}/versions"): {404},
    ("post", f"{PATH}/restore"): {404, 409, 412, 413, 415},
    ("post", f"{PATH}/preview"): {404, 413, 415, 422},
}


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_the_document_says_what_each_route_answers(client: FlaskClient) -> None:
    document = client.get("/api/v1/openapi.json").get_json()
    for (method, path), wanted in STATUSES.items():
        answers = document["paths"][path][method]["responses"]
        assert {int(status) for status in answers} == wanted | {200, 400, 401, 403, 429, 500, 503}, path
        assert answers["200"]["content"]["application/json"]["schema"], path
    changing = [(method, path) for method, path in STATUSES if 412 in STATUSES[method, path]]
    for method, path in changing:
        assert "If-Match" in [item["name"] for item in document["paths"][path][method]["parameters"]]


def condition(**changes: Any) -> dict[str, Any]:
    return {"trigger_conditions": [{"metric_name": "a", "operator": ">", "threshold": 1} | changes]}


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        (condition(operator="=>"), "trigger_conditions.0", "is none of"),
        (condition(operator="regex", threshold="(?=a)"), "trigger_conditions.0", "invalid perl operator"),
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
    assert (body["alerts_left_out"], body["undetermined"]["triggers"], body["truncated"]) == (0, 0, False)
    strict = [{"metric_name": "block_rate", "operator": ">", "threshold": 0.9}]
    body = client.post(f"{PATH}/preview", json=EXAMPLE | {"trigger_conditions": strict}).get_json()
    assert PreviewAnswer.model_validate(body).model_dump(by_alias=True) == body, "as the document has it"
    assert (body["alerts"]["vanish"], body["messages"]["vanish"]) == (1, 1)
    assert body["message"] == "1 of 1 messages would not have been sent."
    assert client.get(f"{PATH}?{ASKED}").get_json()["alert_configs"] == []


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (PreviewBusy("busy"), (503, "5"), "Another preview is running here"),
        (PreviewTooLong("takes longer than 20 s"), (422, None), "takes longer than 20 s: ask for fewer days"),
    ],
)
def test_a_preview_that_cannot_be_had_says_what_to_do(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: tuple[int, str | None], words: str
) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Previews, "run", run)
    answer = client.post(f"{PATH}/preview", json={"merchant_id": "acc_001", "alert_type": "CARD_TESTING"})
    assert answer.mimetype == "application/problem+json"
    assert (answer.status_code, answer.headers.get("Retry-After")) == status
    assert words in answer.get_json()["detail"]
