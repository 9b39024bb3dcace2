"""Channels as staff sees and tries them, by the API and by the command; reports of the gateway; quiet hours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from access_rows import INGEST_TOKEN, OWN, Site
from click.testing import CliRunner
from fakes_provider import Answer, ProviderStub
from flask.testing import FlaskClient
from notes import NOW, Shop
from pydantic import SecretStr

from webhook.__main__ import main
from webhook.adapters.secrets import SecretBox
from webhook.domain.access import SYSTEM_PRINCIPAL, Role
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.text_message import HELD
from webhook.notifiers.settings import Channels, quiet_text
from webhook.notifiers.twilio import signature
from webhook.storage.access_tables import audit_log
from webhook.storage.configs import ConfigStore
from webhook.storage.database import Database
from webhook.storage.holding import replace_held
from webhook.storage.sms_log import StoredSmsLog
from webhook.storage.tables import alert_comment, notification
from webhook.storage.telling import tell_ends

TOKEN = "a-twilio-token-for-tests-0123456789"
SECRET = "a-signing-secret-for-tests-0123456789"
NUMBER = "+14155550101"
CALLBACK = "https://sentinel.example/api/v1/sms/status"


@pytest.fixture
def stub() -> Iterator[ProviderStub]:
    with ProviderStub() as stub:
        yield stub


@pytest.fixture
def site(store_url: str, stub: ProviderStub) -> Iterator[Site]:
    shop = Shop(store_url)
    gateway = {"base_url": stub.url, "account_sid": "AC01", "auth_token": SecretStr(TOKEN), "from_number": NUMBER}
    options = {"sms": gateway, "email": {"host": "127.0.0.1"}}
    settings = {
        "channel_options": options,
        "insecure_webhooks": True,
        "secret_key": "s",
        "public_url": "https://sentinel.example",
    }
    site = Site(shop.database, settings=settings)
    yield site
    site.close()
    shop.close()


def asked(site: Site, method: str, path: str, body: Any = None, role: Role = Role.OPS) -> Any:
    client: FlaskClient = site.client()
    return client.open(path, method=method, json=body, headers={"Authorization": f"Bearer {site.keys[role]}"})


def test_the_list_says_what_is_set_up_and_how_it_fares(site: Site) -> None:
    shop_row = {"channel_type": "sms", "status": "FAILED", "failed_at": site.clock(), "error_message": "SMS: HTTP 400"}
    _notify(site.database, site.own, created_at=site.clock(), **shop_row)
    found = {entry["name"]: entry for entry in asked(site, "GET", "/api/v1/channels").json["data"]}
    assert found["sms"]["configured"]
    assert (found["sms"]["last_error"], found["sms"]["dead_letters"]) == ("SMS: HTTP 400", 1)
    assert not found["email"]["configured"]
    assert found["email"]["problem"] == "channels.email.from_address: Field required"
    assert found["console"]["is_default"]
    assert found["pagerduty"]["configured"], "merchants may bring keys of their own"
    assert TOKEN not in str(found)


def test_a_preview_shows_an_attack_and_sends_nothing(site: Site, stub: ProviderStub) -> None:
    answer = asked(site, "POST", "/api/v1/channels/sms/preview", {"settings": {"phone_numbers": [NUMBER]}})
    shown = answer.json["preview"]
    assert shown["body"].startswith("Sentinel Alert [P1]: Card testing attack detected. Block rate: 45.00%.")
    assert shown["to"] == ["+1*******101"]
    assert stub.calls == []


def test_a_test_message_says_that_it_is_one_and_is_in_the_audit_log(site: Site, stub: ProviderStub) -> None:
    stub.usual = lambda call: (
        Answer(201, {"sid": "SM1"}) if call.method == "POST" else Answer(body={"status": "active"})
    )
    config = MerchantConfig(OWN, "CARD_TESTING", channel_preferences={"sms": {"phone_numbers": [NUMBER]}})
    ConfigStore(site.database, SecretBox([], "s")).save([config], SYSTEM_PRINCIPAL, NOW)
    body = {"merchant_id": OWN, "alert_type": "CARD_TESTING"}
    answer = asked(site, "POST", "/api/v1/channels/sms/test", body)
    assert answer.json["delivered"], answer.json
    assert answer.json["reference"] == "SM1"
    assert "TEST MESSAGE: no attack" in stub.calls[-1].form["Body"]
    (row,) = _rows(site.database, audit_log, action="channel_tested")
    assert (row["subject"], row["account_id"], row["actor"]) == ("channel/sms", OWN, "ops")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("carrier", {}, 404, "There is no channel carrier"),
        ("email", {}, 409, "email is not set up: channels.email.from_address"),
        ("sms", {"settings": {"phone_numbers": ["12"]}}, 400, "country code"),
        ("sms", {"settings": {"phone": NUMBER}}, 400, "Extra inputs"),
        ("sms", {"merchant_id": OWN, "alert_type": "OTHER"}, 404, "does not choose this channel"),
        ("sms", {"merchant_id": OWN}, 400, "belong together"),
        ("webhook", {"settings": {"webhook_url": "https://x.example/a"}}, 400, "belong together"),
    ],
)
def test_what_cannot_be_tried_is_said(site: Site, path: str, body: Any, status: int, words: str) -> None:
    answer = asked(site, "POST", f"/api/v1/channels/{path}/test", body)
    assert answer.status_code == status
    assert words in answer.json["detail"]
    assert _rows(site.database, audit_log, action="channel_tested") == []


def test_a_refusal_is_told_in_words_and_without_the_secret(site: Site, stub: ProviderStub) -> None:
    stub.usual = lambda _: Answer(410, f"no {SECRET}".encode())
    body = {"settings": {"webhook_url": f"{stub.url}/{SECRET}", "secret": SECRET}}
    answer = asked(site, "POST", "/api/v1/channels/webhook/test", body)
    assert answer.json["delivered"] is False
    assert answer.json["message"] == (
        "webhook: HTTP 410, the receiver wants no more messages (trying again cannot help)"
    )
    assert SECRET not in answer.text


def _report(site: Site, slot: str, form: dict[str, str], *, signed: bool = True) -> int:
    given = signature(f"{CALLBACK}?m={slot}", form.items(), TOKEN if signed else "another")
    headers = {"X-Twilio-Signature": given}
    return site.client().post(f"/api/v1/sms/status?m={slot}", data=form, headers=headers).status_code


def test_a_signed_report_makes_a_message_delivered(site: Site) -> None:
    notification_id = _notify(site.database, site.own, channel_type="sms", status="SENT", sent_at=NOW)
    log = StoredSmsLog(site.database, lambda: NOW)
    slot = log.begin(notification_id, "key", None)
    log.sent(slot, "SM1")
    form = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": NUMBER}
    assert _report(site, slot.id, form, signed=False) == 403
    assert _report(site, slot.id, form | {"MessageStatus": "sent"}) == 204
    assert _rows(site.database, notification, id=notification_id)[0]["status"] == "SENT"
    assert _report(site, slot.id, form) == 204
    assert _report(site, slot.id, form | {"MessageStatus": "failed", "ErrorCode": "30003"}) == 204
    assert _rows(site.database, notification, id=notification_id)[0]["status"] == "DELIVERED"
    assert _report(site, "nonsense", form) == 404


def test_a_report_of_a_failure_says_why(site: Site) -> None:
    notification_id = _notify(site.database, site.own, channel_type="sms", status="SENT", sent_at=NOW)
    log = StoredSmsLog(site.database, lambda: NOW)
    slot = log.begin(notification_id, "key", None)
    log.sent(slot, "SM1")
    form = {"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": "30005"}
    assert _report(site, slot.id, form) == 204
    row = _rows(site.database, notification, id=notification_id)[0]
    assert row["status"] == "FAILED"
    assert "unknown or not in use" in row["error_message"]


def test_a_short_link_leads_to_the_one_alert_that_may_be_seen(site: Site) -> None:
    merchant = site.logged_in(site.keys[Role.MERCHANT])
    own, foreign = (alert_id.replace("-", "")[:10] for alert_id in (site.own, site.foreign))
    answer = merchant.get(f"/a/{own}")
    assert answer.headers["Location"] == f"/alerts/{site.own}"
    assert merchant.get(f"/a/{foreign}").status_code == 404
    assert site.logged_in(site.keys[Role.OPS]).get(f"/a/{foreign}").status_code == 302
    assert merchant.get("/a/12").status_code == 404
    assert site.client().get(f"/a/{own}").headers["Location"] == f"/login?next=/a/{own}"


def test_what_quiet_hours_hold_back_gives_way_and_is_dropped_with_its_attack(store_url: str) -> None:
    shop = Shop(store_url)
    alert_id, told = shop.add_alert(), shop.add_alert()
    quiet = {"channel_settings": {"quiet_hours": {"from": "00:00", "to": "23:59", "time_zone": "UTC"}}}
    held = {"channel_type": "sms", "error_message": HELD}
    first = shop.add_notification(alert_id, **held)
    sent = shop.add_notification(told, channel_type="sms", status="SENT", sent_at=NOW, content=quiet)
    waiting = shop.add_notification(told, **held)
    with shop.database.write() as connection:
        replace_held(
            connection, [{"alert_id": alert_id, "channel_type": "sms", "content": quiet, "reason": "escalated"}]
        )
    second = shop.add_notification(alert_id, **held)
    assert first not in [row["id"] for row in shop.rows(notification)]

    comments = {one: _comment(shop, one) for one in (alert_id, told)}
    with shop.database.write() as connection:
        tell_ends(connection, comments, NOW)
    rows = {row["id"]: row for row in shop.rows(notification)}
    assert second not in rows
    assert waiting not in rows
    ends = [row for row in rows.values() if row["reason"] == "resolved"]
    assert [(row["alert_id"], row["error_message"]) for row in ends] == [(told, HELD)], "who was told is told the end"
    assert sent in rows
    dropped = [row["content"] for row in shop.rows(alert_comment, alert_id=alert_id)]
    assert any("quiet hours held back was dropped" in text for text in dropped)
    shop.close()


def test_settings_are_checked_and_quiet_hours_may_be_typed() -> None:
    typed = Channels.model_validate({"sms": {"quiet_hours": "22:00-07:00 Europe/London except P1"}})
    kept = typed.model_dump(mode="json", exclude_none=True)["sms"]["quiet_hours"]
    assert kept == {"from": "22:00", "to": "07:00", "time_zone": "Europe/London", "except": "P1"}
    assert quiet_text(kept) == "22:00-07:00 Europe/London except P1"
    for wrong in (
        {"sms": {"quiet_hours": {"from": "25:00", "to": "07:00", "time_zone": "UTC"}}},
        {"sms": {"quiet_hours": "22:00-07:00 Mars/Base"}},
        {"email": {"to": ["a@b.example\r\nBcc: c@d.example"]}},
        {"email": {"to": ["Ana <a@b.example>"]}},
        {"webhook": {"secret": "a-secret-without-an-address"}},
        {"apprise": {"url": "json://10.0.0.1/"}},
        {"apprise": {"url": "file:///etc/passwd"}},
        {"apprise": {"url": "zulip://bot@org.internal/token"}},
    ):
        with pytest.raises(ValueError, match="validation error"):
            Channels.model_validate(wrong)


@pytest.fixture
def environment(store_url: str, stub: ProviderStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Shop(store_url).close()
    file = tmp_path / "sentinel.yaml"
    file.write_text(f"channels: {{webhook: {{webhook_url: {stub.url}/hook, secret_env: HOOK_SECRET}}}}\n")
    for name, value in {
        "SENTINEL_CONFIG_FILE": str(file),
        "HOOK_SECRET": SECRET,
        "SENTINEL_DATABASE_URL": store_url,
        "SENTINEL_INSECURE_WEBHOOKS": "true",
        "SENTINEL_INGEST_TOKEN": INGEST_TOKEN,
    }.items():
        monkeypatch.setenv(name, value)
    return file


def test_the_command_shows_sends_and_says_what_came_of_it(environment: Path, stub: ProviderStub) -> None:
    shown = CliRunner().invoke(main, ["test-channel", "webhook", "--show"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["body"]["title"] == "Card testing attack: Example Shop"
    assert stub.calls == []

    done = CliRunner().invoke(main, ["test-channel", "webhook"])
    assert done.exit_code == 0, done.output
    assert "webhook: delivered: taken by the provider" in done.output
    assert stub.calls[0].json["title"] == "TEST MESSAGE: no attack"
    assert SECRET not in done.output

    stub.usual = lambda _: Answer(503)
    failed = CliRunner().invoke(main, ["test-channel", "webhook"])
    assert failed.exit_code == 1
    assert "not delivered: webhook: HTTP 503 (it may pass: try again)" in failed.output

    given = json.dumps({"webhook_url": "https://x.example/"})
    for arguments, words in (
        (["carrier"], "there is no channel carrier"),
        (["email"], "email is not set up"),
        (["webhook", "--settings", given], "belong together"),
        (["webhook", "--settings", "{"], "no JSON object"),
        (["webhook", "--account", "acc_x", "--type", "CARD_TESTING"], "does not choose webhook"),
        (["webhook", "--account", "acc_x"], "give --account and --type together"),
    ):
        refused = CliRunner().invoke(main, ["test-channel", *arguments])
        assert refused.exit_code == 1, arguments
        assert words in refused.output


def _notify(database: Database, alert_id: str, **changes: Any) -> str:
    shop = Shop.__new__(Shop)
    shop.database = database
    return shop.add_notification(alert_id, **changes)


def _rows(database: Database, table: Any, **where: Any) -> list[dict[str, Any]]:
    shop = Shop.__new__(Shop)
    shop.database = database
    return shop.rows(table, **where)


def _comment(shop: Shop, alert_id: str) -> str:
    import uuid

    import sqlalchemy as sa

    row = {
        "id": str(uuid.uuid4()),
        "alert_id": alert_id,
        "comment_type": "SYSTEM_LOG",
        "content": "over",
        "metrics_snapshot": {},
        "metadata": {},
        "created_at": NOW,
    }
    with shop.database.write() as connection:
        connection.execute(sa.insert(alert_comment).values(row))
    return str(row["id"])
