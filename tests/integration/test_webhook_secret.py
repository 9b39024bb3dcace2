"""The secret that signs messages to a merchant's webhook: made here where none is given, shown once, exchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from access_rows import FOREIGN, OWN, Site
from fakes_provider import ProviderStub
from flask.testing import FlaskClient
from notes import make_message
from page_rows import open_store

from webhook.domain.access import Role
from webhook.notifiers.webhook import SignedWebhook, WebhookOptions
from webhook.storage.access_tables import audit_log
from webhook.storage.config_rows import read_configs
from webhook.storage.tables import alert_config

PATH = "/api/v1/alerts/config"
ROTATE = f"{PATH}/webhook-secret"
URL = "https://shop.example/sentinel"
WHICH = {"merchant_id": OWN, "alert_type": "CARD_TESTING"}


@pytest.fixture
def site(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("webhook.app.check_hosts", lambda _: None)
    database = open_store(store_url)
    site = Site(database, settings={"rate_limit_address": "off", "secret_key": "page-s3cret-of-some-length"})
    yield site
    site.close()
    database.close()


@pytest.fixture
def merchant(site: Site) -> FlaskClient:
    client = site.app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {site.keys[Role.MERCHANT]}"
    return client


def put(client: FlaskClient, **webhook: str) -> dict[str, Any]:
    answer = client.put(PATH, json={**WHICH, "channels": {"webhook": webhook}})
    assert answer.status_code == 200, answer.json
    found: dict[str, Any] = answer.json
    return found


def everything(site: Site) -> str:
    with site.database.read() as connection:
        rows = [list(connection.execute(sa.select(table))) for table in (audit_log, alert_config)]
    return json.dumps(rows, default=str)


def test_a_secret_is_made_for_an_address_that_comes_without_and_shown_once(site: Site, merchant: FlaskClient) -> None:
    secret = put(merchant, webhook_url=URL)["webhook_secret"]
    assert len(secret) >= 40
    again = merchant.get(f"{PATH}?merchant_id={OWN}").json
    assert secret not in json.dumps(again)
    assert again["alert_configs"][0]["channels"]["webhook"]["secret"] == f"…{secret[-4:]}"
    assert secret not in everything(site), "it rests encrypted, and the audit log has none"

    kept = put(merchant, webhook_url=URL)
    assert (kept["webhook_secret"], kept["version"]) == (None, 1), "the same address keeps the one that it has"
    other = put(merchant, webhook_url=f"{URL}/2")["webhook_secret"]
    assert other not in (None, secret)
    assert put(merchant, webhook_url=f"{URL}/2", secret="a-secret-of-my-own-choosing")["webhook_secret"] is None


def test_an_exchanged_secret_signs_the_next_message_and_is_audited(site: Site, merchant: FlaskClient) -> None:
    first = put(merchant, webhook_url=URL)["webhook_secret"]
    answer = merchant.post(ROTATE, json={**WHICH, "version": 1})
    secret = answer.json["webhook_secret"]
    assert (answer.json["version"], secret == first) == (2, False)
    assert merchant.post(ROTATE, json={**WHICH, "version": 1}).status_code == 409
    with site.database.read() as connection:
        config = read_configs(connection, {(OWN, "CARD_TESTING")})[OWN, "CARD_TESTING"]
        actions = list(connection.scalars(sa.select(audit_log.c.action).where(audit_log.c.account_id == OWN)))
    assert actions.count("config_updated") == 1
    stored = config.channel_preferences["webhook"]["secret"]
    assert stored.startswith("enc:")

    page = (Path(__file__).parents[2] / "docs" / "channels.md").read_text(encoding="utf-8")
    example: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], example)  # the reader's own code
    with ProviderStub() as shop:
        sender = SignedWebhook(WebhookOptions(), insecure_webhooks=True)
        sender.send(make_message(), {"webhook_url": shop.url, "secret": secret})
        (call,) = shop.calls
    header = call.headers["X-Sentinel-Signature"]
    assert example["verified"](call.body, header, secret, tolerance=3600)
    assert not example["verified"](call.body, header, first, tolerance=3600)


def test_nobody_exchanges_another_s_or_one_that_is_not_there(merchant: FlaskClient) -> None:
    assert merchant.post(ROTATE, json=WHICH).status_code == 404
    assert merchant.post(ROTATE, json={**WHICH, "merchant_id": FOREIGN}).status_code == 404
    put(merchant, webhook_url=URL)
    assert merchant.post(ROTATE, json={**WHICH, "alert_type": "OTHER"}).status_code == 404
