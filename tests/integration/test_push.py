"""Push messages: to whom, in what form, and what follows from each answer of a push service."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import page_rows as rows
import pytest
import sqlalchemy as sa
from access_rows import FOREIGN, OWN, Site
from click.testing import CliRunner
from fakes_push import FakeBrowser, PushStub, Refusal
from notes import ended_note, make_message, make_note
from page_reading import token_in
from push_shop import API, DAYS, KEY, OPTIONS, SECRET, Shop, open_shop

from webhook.__main__ import main
from webhook.adapters.secrets import SecretBox
from webhook.config import ConfigError
from webhook.domain.access import Role, token_mark
from webhook.domain.severity import Severity
from webhook.notifiers.web_push import public_key
from webhook.notifiers.webapp import PATIENCE, WebApp, WebAppOptions
from webhook.ports import TemporaryDeliveryError
from webhook.storage import push as push_rows
from webhook.storage.access_tables import api_key, audit_log
from webhook.storage.keys import prefix_of, revoke_key
from webhook.storage.push import WebReaders
from webhook.storage.retention import Purge, Retention
from webhook.storage.rotation import rotate_secrets


@pytest.fixture
def service() -> Iterator[PushStub]:
    with PushStub(public_key(KEY)) as stub:
        yield stub


@pytest.fixture
def shop(store_url: str, service: PushStub) -> Iterator[Shop]:
    """Over both databases: who is told is decided in SQL."""
    database = rows.open_store(store_url)
    shop = open_shop(database, service)
    yield shop
    shop.site.close()
    database.close()


@pytest.fixture
def small(tmp_path: Path, service: PushStub) -> Iterator[Shop]:
    """Over SQLite, for what the database has no part in."""
    database = rows.open_store(f"sqlite:///{tmp_path}/sentinel.db")
    shop = open_shop(database, service)
    yield shop
    shop.site.close()
    database.close()


# ---- what is sent, and to whom ---------------------------------------------------------------------


def test_a_message_reaches_whoever_may_read_the_account_encrypted_for_each(shop: Shop) -> None:
    own, both = shop.subscribe(shop.merchant()), shop.subscribe(shop.merchant(OWN, FOREIGN))
    other, staff = shop.subscribe(shop.merchant(FOREIGN)), shop.subscribe(shop.site.keys[Role.OPS])
    receipt = shop.tell()
    assert receipt.details == {"stream": True, "push": {"sent": 3}}
    assert [len(browser.messages) for browser in (own, both, other, staff)] == [1, 1, 0, 1]
    (message,) = own.messages
    assert message["alert_id"] == make_note().alert_id
    assert message["title"] == "Card testing attack: Northwind Books"
    assert message["merchant"] == "Northwind Books"
    headers = own.headers[0]
    assert (headers["Urgency"], headers["TTL"]) == ("high", "86400")
    assert headers["Topic"] == make_note().alert_id.replace("-", ""), "a newer message takes the place of this one"


def test_each_browser_is_told_from_its_severity_on(shop: Shop) -> None:
    key = shop.merchant()
    all_of_them, graver = shop.subscribe(key), shop.subscribe(key, min_severity="P1")
    for severity in (Severity.P3, Severity.P2, Severity.P1, Severity.P0):
        shop.tell(severity=severity)
    assert [m["severity"] for m in all_of_them.messages] == ["P3", "P2", "P1", "P0"]
    assert [h["Urgency"] for h in all_of_them.headers] == ["low", "normal", "high", "high"]
    assert [m["severity"] for m in graver.messages] == ["P1", "P0"]


def test_the_end_of_an_attack_does_not_press(small: Shop) -> None:
    browser = small.subscribe(small.merchant())
    small.channel().send(make_message(ended_note(account_id=OWN)), {})
    assert browser.messages[0]["reason"] == "resolved"
    assert browser.headers[0]["Urgency"] == "normal"


def test_a_long_message_is_cut_to_what_push_services_take(small: Shop) -> None:
    browser = small.subscribe(small.merchant())
    small.tell(merchant_name="Ü" * 500, rule_summary="ß€😀 " * 2000)
    note = make_note(account_id=OWN, notification_id=str(uuid4()))
    message = make_message(note)
    long = type(message)(**{**{n: getattr(message, n) for n in message.__slots__}, "text": "😀 € " * 3000})
    small.channel().send(long, {})
    assert browser.messages[-1]["body"].endswith("…")
    assert browser.messages[-1]["alert_id"] == note.alert_id


def test_without_a_key_the_stream_is_all_there_is(small: Shop) -> None:
    browser = small.subscribe(small.merchant())
    channel = small.channel(vapid_private_key=None)
    assert channel.send(make_message(make_note(account_id=OWN)), {}).details == {"stream": True}
    assert browser.asked == 0
    assert "no VAPID key" in channel.check()
    assert public_key(KEY) in small.channel().check()
    assert KEY not in small.channel().check()


# ---- who may not be told any more ------------------------------------------------------------------


def test_a_revoked_an_expired_and_a_narrowed_key_tell_nobody(shop: Shop) -> None:
    site = shop.site
    revoked, narrowed, good = shop.merchant(), shop.merchant(OWN, FOREIGN), shop.merchant()
    expiring = site.key("m", Role.MERCHANT, OWN, expires_at=site.clock() + timedelta(hours=1))
    browsers = [shop.subscribe(key) for key in (revoked, expiring, narrowed, good)]
    site.clock.now += timedelta(hours=2)
    with site.database.write() as connection:
        revoke_key(connection, prefix_of(revoked) or "", rows.ADMIN, site.clock())
        mine = api_key.c.prefix == prefix_of(narrowed)
        connection.execute(sa.update(api_key).where(mine).values(account_ids=[FOREIGN]))
    shop.tell()
    assert [browser.asked for browser in browsers] == [0, 0, 0, 1]
    purged = Purge(site.database, Retention(DAYS, DAYS), rows.AlertTypes())
    assert purged.run_once(site.clock())["push_subscription"] == 2, "whose credential is gone"
    assert {row["credential"] for row in shop.subscriptions()} == {
        f"api_key/{prefix_of(key)}" for key in (narrowed, good)
    }


def test_a_login_tells_as_long_as_it_lasts_and_the_admin_token_as_long_as_it_is_the_one(shop: Shop) -> None:
    site, browser = shop.site, shop.service.browser()
    client = site.client()
    client.get(f"/login?token={rows.TOKEN}")
    csrf = {"X-CSRFToken": token_in(client.get("/alerts").text)}
    assert client.post(f"{API}/subscriptions", json=browser.subscription, headers=csrf).status_code == 201
    shop.tell()
    assert browser.asked == 1
    message = make_message(make_note(account_id=OWN, notification_id=str(uuid4())))
    readers = WebReaders(site.database, SecretBox([], SECRET), token_mark("another token"))
    assert readers.publish(message, {}, site.clock()).targets == []
    site.clock.now += timedelta(days=8)
    shop.tell()
    assert browser.asked == 1
    assert client.post(f"{API}/subscriptions", json=browser.subscription, headers=csrf).status_code == 401


def test_who_logs_in_at_the_same_browser_takes_it_over(shop: Shop) -> None:
    first, second = shop.merchant(OWN), shop.merchant(FOREIGN)
    browser = shop.subscribe(first)
    shop.subscribe(first, 200, browser, min_severity="P1")
    shop.subscribe(second, 201, browser)
    shop.tell(OWN)
    shop.tell(FOREIGN)
    assert len(browser.messages) == 1
    assert len(shop.subscriptions()) == 1
    keys = {**browser.subscription["keys"], "auth": shop.service.browser().subscription["keys"]["auth"]}
    shop.subscribe(first, 409, browser, keys=keys)  # who knows the address alone does not hold the browser


# ---- what push services answer ---------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 410])
def test_a_browser_that_is_gone_is_forgotten(shop: Shop, status: int) -> None:
    gone, there = shop.subscribe(shop.merchant()), shop.subscribe(shop.merchant())
    gone.refusal = Refusal(status)
    assert shop.tell().details["push"] == {"gone": 1, "sent": 1}
    shop.tell()
    assert (gone.asked, there.asked) == (1, 2)
    assert len(shop.subscriptions()) == 1


@pytest.mark.parametrize(
    "refusal",
    [Refusal(500), Refusal(503), Refusal(429, {"Retry-After": "1"}), Refusal(429), Refusal(reset=True, status=0)],
)
def test_what_passes_is_tried_again_for_those_who_have_not_got_it(shop: Shop, refusal: Refusal) -> None:
    failing, there = shop.subscribe(shop.merchant()), shop.subscribe(shop.merchant())
    failing.refusal = refusal
    with pytest.raises(TemporaryDeliveryError, match="1 of the pushes") as caught:
        shop.tell()
    assert caught.value.retry_after is None, "the stream and other merchants do not wait"
    failing.refusal = None
    shop.site.clock.now += timedelta(seconds=31)
    shop.tell(again=True)
    assert (len(failing.messages), len(there.messages)) == (1, 1)
    assert shop.subscriptions()[0]["failing_since"] is None


def test_a_push_service_that_asks_to_wait_is_left_alone_so_long(shop: Shop) -> None:
    asked = shop.subscribe(shop.merchant())
    asked.refusal = Refusal(429, {"Retry-After": "60"})
    with pytest.raises(TemporaryDeliveryError):
        shop.tell()
    asked.refusal = None
    shop.site.clock.now += timedelta(seconds=59)
    with pytest.raises(TemporaryDeliveryError):
        shop.tell(again=True)
    assert asked.asked == 1
    shop.site.clock.now += timedelta(seconds=1)
    shop.tell(again=True)
    assert len(asked.messages) == 1


def test_an_answer_that_does_not_come_is_tried_again(small: Shop) -> None:
    browser = small.subscribe(small.merchant())
    browser.refusal = Refusal(201, hold=threading.Event())  # that nobody sets
    small.options["timeout"] = 0.5
    with pytest.raises(TemporaryDeliveryError):
        small.tell()
    assert small.subscriptions()[0]["last_failure"] == "Timeout"


@pytest.mark.parametrize(
    "refusal", [Refusal(400), Refusal(403), Refusal(413), Refusal(302, {"Location": "/elsewhere"})]
)
def test_what_is_refused_is_not_tried_again(small: Shop, refusal: Refusal) -> None:
    browser = small.subscribe(small.merchant())
    browser.refusal = refusal
    assert small.tell().details["push"] == {"refused": 1}
    assert browser.asked == 1
    (row,) = small.subscriptions()
    assert row["last_failure"] == f"HTTP {refusal.status}"


def test_an_answer_without_an_end_does_not_matter(small: Shop) -> None:
    browser = small.subscribe(small.merchant())
    browser.refusal = Refusal(201, body=b"x" * 1_000_000)
    assert small.tell().details["push"] == {"sent": 1}


def test_a_browser_that_stays_away_holds_up_nothing_for_long(shop: Shop) -> None:
    """The next message about the alert waits for this one, so patience is short, and with who is long away nil."""
    away = shop.subscribe(shop.merchant())
    away.refusal = Refusal(500)
    with pytest.raises(TemporaryDeliveryError):
        shop.tell()
    shop.site.clock.now += PATIENCE
    assert shop.tell(again=True).details["push"] == {"later": 1}
    shop.site.clock.now += push_rows.NOT_WAITED_FOR
    assert shop.tell().details["push"] == {"later": 1}, "one try for each message"
    purge = Purge(shop.database, Retention(DAYS, DAYS), rows.AlertTypes())
    assert purge.run_once(shop.site.clock())["push_subscription"] == 0
    shop.site.clock.now += push_rows.FORGOTTEN
    assert purge.run_once(shop.site.clock())["push_subscription"] == 1


def test_a_private_address_is_not_asked(small: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = small.subscribe(small.merchant())
    readers = WebReaders(small.database, SecretBox([], SECRET))
    channel = WebApp(WebAppOptions(**OPTIONS), readers, clock=small.site.clock)
    assert channel.send(make_message(make_note(account_id=OWN)), {}).details["push"] == {"refused": 1}
    assert browser.asked == 0


# ---- subscribing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"endpoint": "http://push.example/1"}, "https"),
        ({"endpoint": "https://127.0.0.1/1"}, "private"),
        ({"endpoint": "https://169.254.169.254/latest"}, "private"),
        ({"endpoint": "https://user:word@push.example/1"}, "password"),
        ({"endpoint": "https://push.elsewhere.example/1"}, "none of the push services"),
        ({"keys": {"p256dh": "AAAA", "auth": "AAAA"}}, "p256dh"),
        ({"keys": {"p256dh": public_key(KEY), "auth": "AAAA"}}, "auth"),
        ({"min_severity": "P9"}, "min_severity"),
    ],
)
def test_what_no_browser_gives_is_refused(make_site: Callable[..., Site], change: dict[str, Any], words: str) -> None:
    options = {**OPTIONS, "push_services": ["push.example"]}
    site = make_site(secret_key=SECRET, channel_options={"webapp": options})
    body = {**FakeBrowser("https://eu.push.example").subscription, **change}
    headers = {"X-API-Key": site.keys[Role.MERCHANT]}
    answer = site.client().post(f"{API}/subscriptions", json=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert words in answer.text
    good = {**body, **FakeBrowser("https://eu.push.example").subscription, "min_severity": "P2"}
    assert site.client().post(f"{API}/subscriptions", json=good, headers=headers).status_code == 201


def test_subscriptions_are_ones_own_audited_and_their_addresses_are_secrets(shop: Shop) -> None:
    mine, other = shop.merchant(), shop.merchant()
    browser = shop.subscribe(mine, min_severity="P2")
    shop.subscribe(other)
    client, headers = shop.site.client(), {"X-API-Key": mine}
    answer = client.get(f"{API}/subscriptions", headers=headers)
    (entry,) = answer.json["data"]  # type: ignore[index]
    assert (entry["service"], entry["min_severity"], entry["account_ids"]) == ("127.0.0.1", "P2", [OWN])
    path = f"{API}/subscriptions/{entry['id']}"
    assert client.delete(path, headers={"X-API-Key": other}).status_code == 404
    secrets = (browser.path, browser.subscription["keys"]["auth"])
    stored = json.dumps([dict(row) for row in shop.subscriptions()], default=str)
    assert not any(secret in stored + answer.text for secret in secrets)
    assert client.delete(path, headers=headers).status_code == 200
    assert client.delete(path, headers=headers).status_code == 404
    shop.tell()
    assert browser.asked == 0
    with shop.database.read() as connection:
        entries = connection.execute(sa.select(audit_log).order_by(audit_log.c.created_at)).mappings().all()
    told = [(row["action"], row["account_id"]) for row in entries if row["subject"].endswith(f"/{entry['id']}")]
    assert sorted(told) == [("push_subscribed", OWN), ("push_unsubscribed", OWN)]
    assert not any(secret in json.dumps([dict(row) for row in entries], default=str) for secret in secrets)


def test_nobody_subscribes_without_end(small: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_rows, "MOST", 2)
    key = small.merchant()
    for status in (201, 201, 409):
        small.subscribe(key, status)


def test_the_key_is_told_and_without_one_nobody_subscribes(small: Shop, make_site: Callable[..., Site]) -> None:
    headers = {"X-API-Key": small.merchant()}
    assert small.site.client().get(f"{API}/key", headers=headers).json == {"public_key": public_key(KEY)}
    bare = make_site()
    headers = {"X-API-Key": bare.keys[Role.MERCHANT]}
    assert bare.client().get(f"{API}/key", headers=headers).json == {"public_key": None}
    body = small.service.browser().subscription
    assert bare.client().post(f"{API}/subscriptions", json=body, headers=headers).status_code == 409


def test_a_test_says_what_the_push_service_answers(small: Shop) -> None:
    key = small.merchant()
    browser = small.subscribe(key)
    client, headers = small.site.client(), {"X-API-Key": key}
    path = f"{API}/subscriptions/{small.subscriptions()[0]['id']}/test"
    assert client.post(path, headers=headers).json == {"message": "Sent"}
    assert browser.messages[0]["type"] == "test"
    for status, words in ((403, "refuses the message: HTTP 403"), (500, "cannot be reached: HTTP 500")):
        browser.refusal = Refusal(status)
        answer = client.post(path, headers=headers)
        assert (answer.status_code, answer.mimetype) == (502, "application/problem+json")
        assert words in answer.text
    assert client.post(path, headers={"X-API-Key": small.merchant()}).status_code == 404
    browser.refusal = Refusal(410)
    assert client.post(path, headers=headers).status_code == 404
    assert small.subscriptions() == []
    with small.database.read() as connection:
        query = sa.select(audit_log.c.details).where(audit_log.c.action == "push_unsubscribed")
        assert "forgot it" in connection.scalars(query).one()["reason"]


def test_addresses_are_rotated_with_the_other_secrets(shop: Shop) -> None:
    from cryptography.fernet import Fernet

    browser = shop.subscribe(shop.merchant())
    box = SecretBox([Fernet.generate_key().decode()], SECRET)
    assert rotate_secrets(shop.database, box, rows.ADMIN, shop.site.clock())["push_subscription"] == 1
    message = make_message(make_note(account_id=OWN))
    (target,) = WebReaders(shop.database, box).publish(message, {}, shop.site.clock()).targets
    assert target.endpoint == browser.subscription["endpoint"]
    unreadable = WebReaders(shop.database, SecretBox([], "another")).publish(message, {}, shop.site.clock())
    assert (unreadable.targets, unreadable.unreadable) == ([], 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vapid_private_key": "AAAA"}, "vapid-key"),
        ({"vapid_private_key": KEY}, "wants a subject"),
        ({"vapid_private_key": KEY, "subject": "oncall"}, "subject"),
        ({"push_services": ["https://push.example"]}, "push_services"),
    ],
)
def test_wrong_options_are_named_without_their_values(
    make_site: Callable[..., Site], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        make_site(channel_options={"webapp": options})
    assert KEY not in str(caught.value)


def test_a_key_is_made_for_nobody_else_to_read_and_replaces_none(tmp_path: Path) -> None:
    file = tmp_path / "vapid.key"
    made = CliRunner().invoke(main, ["vapid-key", "--out", str(file)])
    assert made.exit_code == 0
    private = file.read_text().strip()
    assert public_key(private) in made.output
    assert private not in made.output
    assert file.stat().st_mode & 0o777 == 0o600
    assert CliRunner().invoke(main, ["vapid-key", "--out", str(file)]).exit_code == 1
    assert file.read_text().strip() == private
    printed = CliRunner().invoke(main, ["vapid-key"])
    assert len(public_key(printed.stdout.strip())) == 87
