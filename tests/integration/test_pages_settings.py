"""A merchant's settings on the pages: saved, refused, in conflict, tried, restored, and nobody else's business."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import page_rows as rows
import pytest
import sqlalchemy as sa
from access_rows import FOREIGN, OWN, Site
from flask.testing import FlaskClient
from page_reading import Elements, page, shown, token_in

from webhook.adapters.secrets import SecretBox
from webhook.domain.access import Role
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.storage.configs import ConfigStore
from webhook.storage.database import Database
from webhook.storage.tables import alert_config, alert_config_version, trigger_condition

SECRET = "https://hooks.slack.com/services/T0000/B000/verysecretabcd"
HERE = f"/settings/config?account={OWN}&type=CARD_TESTING"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all: each test leaves it without settings."""
    settings = {"prometheus_url": "http://127.0.0.1:9", "insecure_webhooks": True, "secret_key": "s"}
    off = dict.fromkeys(("rate_limit_write", "rate_limit_address", "rate_limit_read"), "off")
    url = f"sqlite:///{tmp_path_factory.mktemp('store')}/sentinel.db"
    site = Site(rows.open_store(url), settings=settings | off)
    yield site
    site.close()


@pytest.fixture
def site(empty: Site) -> Iterator[Site]:
    yield empty
    with empty.database.write() as connection:
        for table in (trigger_condition, alert_config, alert_config_version):
            connection.execute(sa.delete(table))


@pytest.fixture
def merchant(site: Site) -> FlaskClient:
    return site.logged_in(site.keys[Role.MERCHANT])


def store(site: Site) -> ConfigStore:
    return ConfigStore(site.database, SecretBox([], "s"))


def stored(site: Site, account: str = OWN) -> MerchantConfig | None:
    found = store(site).stored(accounts=[account], alert_type="CARD_TESTING")
    return found[0].config if found else None


def form_of(text: str) -> dict[str, str]:
    """What a browser would send of the big form, as it was shown."""
    body = re.sub(r"<template.*?</template>", "", text[text.index('id="config"') :], flags=re.DOTALL)
    body = body[: body.index("</form>")]
    fields: dict[str, str] = {}
    for tag, attributes in Elements(body).found:
        name, kind = attributes.get("name"), attributes.get("type")
        if (
            tag == "input"
            and name
            and "disabled" not in attributes
            and (kind not in ("checkbox", "radio") or "checked" in attributes)
        ):
            fields[name] = attributes.get("value") or ""
    for name, options in re.findall(r'<select[^>]*name="([^"]+)"[^>]*>(.*?)</select>', body, re.DOTALL):
        fields[name] = (re.findall(r'value="([^"]*)" selected', options) or re.findall(r'value="([^"]*)"', options))[0]
    fields |= dict(re.findall(r'<textarea[^>]*name="([^"]+)"[^>]*>(.*?)</textarea>', body, re.DOTALL))
    return {name: text.replace("&gt;", ">").replace("&lt;", "<") for name, text in fields.items()}


def send(client: FlaskClient, button: str, path: str = HERE, **changed: str) -> tuple[int, str]:
    """The form as it stands, with what was typed, and a button; where it leads, followed."""
    fields = form_of(page(client, path)) | {name.replace("_0", "-0"): text for name, text in changed.items()}
    answer = client.post(path, data=fields | {"do": button})
    return answer.status_code, page(client, answer.location) if answer.status_code == 303 else answer.text


def a_config(**fields: object) -> MerchantConfig:
    conditions = (Condition("block_rate", ">", 0.3, 1), Condition("region", "in", ["AP", "EU"], 2))
    channels = {
        "slack": {"enabled": True, "webhook_url": SECRET},
        "sms": {"enabled": False, "phone_numbers": ["+1234567890"]},
    }
    snooze = {"snooze_until": "2026-03-15T08:30:12Z"}
    base = MerchantConfig(OWN, "CARD_TESTING", True, "any", conditions, 1, channels, snooze)
    return replace(base, **fields)


def save(site: Site, config: MerchantConfig) -> None:
    store(site).save([config], rows.ADMIN, rows.NOW - timedelta(hours=1))


def test_a_first_save_makes_what_was_typed(site: Site, merchant: FlaskClient) -> None:
    assert "No settings yet" in page(merchant, "/settings")
    typed = {"metric_0": "block_rate", "operator_0": ">", "threshold_0": "32.5 %", "priority_0": "2", "active_0": "on"}
    status, text = send(merchant, "save", **typed, max_alerts_per_hour="3", snooze_until="2026-03-20T10:00")
    assert (status, "Saved as version 1." in text) == (303, True)
    config = stored(site)
    assert config is not None
    assert config.conditions == (Condition("block_rate", ">", 0.325, 2),)
    settings = config.notification_settings
    assert settings["frequency_control"]["max_alerts_per_hour"] == 3
    assert settings["snooze_until"] == "2026-03-20T10:00:00Z"
    assert "notification_strategy" not in settings, "what nobody touched follows the defaults"
    line = shown(page(merchant, "/settings"))
    assert "1 condition" in line
    assert "Snoozed" in line
    assert "by merchant" in line


def test_a_merchant_chooses_the_language_of_its_summaries(site: Site, merchant: FlaskClient) -> None:
    save(site, a_config(notification_settings={"language": "de-CH"}))
    assert form_of(page(merchant, HERE))["language"] == "de-CH", "what came by the API stays to be chosen"
    for chosen, kept in (("fr", "fr"), ("", None)):
        assert send(merchant, "save", language=chosen)[0] == 303
        config = stored(site)
        assert config is not None
        assert config.notification_settings.get("language") == kept
    status, text = send(merchant, "save", language="what?")
    assert (status, "Choose one of these." in text) == (422, True)


def test_a_form_that_is_sent_as_it_was_shown_changes_nothing(site: Site, merchant: FlaskClient) -> None:
    save(site, a_config(inactive=(Condition("bin", "regex", '^4"', 3, "10min"),)))
    before = stored(site)
    text = page(merchant, HERE)
    assert SECRET not in text
    assert "verysecret" not in text
    assert "https://hooks.slack.com/…abcd" in text
    fields = form_of(text) | {"threshold-2": '^4"'}  # the reader of this test leaves &#34; as it is
    answer = merchant.post(HERE, data=fields | {"do": "save"})
    assert answer.status_code == 303
    assert "Nothing was different" in page(merchant, answer.location)
    assert stored(site) == before


def test_a_masked_secret_is_kept_and_a_mask_of_nothing_is_refused_at_its_field(
    site: Site, merchant: FlaskClient
) -> None:
    save(site, a_config())
    assert send(merchant, "save", threshold_0="40 %")[0] == 303
    config = stored(site)
    assert config is not None
    assert config.version == 2
    assert config.channel_preferences["slack"]["webhook_url"] == SECRET
    assert config.channel_preferences["sms"]["phone_numbers"] == ["+1234567890"]
    fields = form_of(page(merchant, HERE)) | {"slack.webhook_url": "https://hooks.slack.com/…wxyz", "do": "save"}
    refused = merchant.post(HERE, data=fields)
    assert refused.status_code == 422
    assert (
        "is a mask of nothing that is stored" in re.findall(r'id="slack.webhook_url-error">([^<]*)<', refused.text)[0]
    )


def test_wrong_input_is_kept_and_told_beside_its_field(site: Site, merchant: FlaskClient) -> None:
    save(site, a_config())
    typed = {"threshold_0": "30", "priority_0": "soon", "max_alerts_per_day": "lots"}
    status, text = send(merchant, "save", **typed)
    assert status == 422
    inputs = {attributes.get("name"): attributes for _, attributes in Elements(text).found if "name" in attributes}
    for name, said in typed.items():
        field = inputs[name.replace("_0", "-0")]
        assert (field["value"], field["aria-invalid"]) == (said, "true")
        assert f'id="{(field["aria-describedby"] or "").split()[0]}"' in text
    assert "That would be 3000 %." in text
    config = stored(site)
    assert config is not None
    assert config.version == 1


def test_who_was_slower_sees_what_changed_and_can_save_all_the_same(site: Site, merchant: FlaskClient) -> None:
    save(site, a_config())
    fields = form_of(page(merchant, HERE)) | {"threshold-0": "45 %", "do": "save"}
    save(site, a_config(logic="all"))
    answer = merchant.post(HERE, data=fields)
    assert answer.status_code == 409
    text = shown(answer.text)
    assert "somebody was faster" in text
    assert "Conditions that must hold any of them → becomes all of them" in text
    assert "Block rate > 30 %, priority 1 → becomes Block rate > 45 %, priority 1" in text
    again = form_of(answer.text)
    assert (again["threshold-0"], again["version"]) == ("45 %", "2")
    assert merchant.post(HERE, data=again | {"do": "save"}).status_code == 303
    config = stored(site)
    assert config is not None
    assert (config.version, config.logic, config.conditions[0].threshold) == (3, "any", 0.45)


def test_rows_come_and_go_without_a_script_and_without_saving(site: Site, merchant: FlaskClient) -> None:
    save(site, a_config())
    status, text = send(merchant, "add", threshold_0="77 %")
    fields = form_of(text)
    assert (status, fields["threshold-0"], fields["metric-2"]) == (200, "77 %", "")
    answer = merchant.post(HERE, data=fields | {"do": "remove-0"})
    left = form_of(answer.text)
    assert ("metric-0" in left, left["metric-1"]) == (False, "region")
    config = stored(site)
    assert config is not None
    assert config.version == 1


def test_trying_tells_what_would_vanish_with_a_link_and_saves_nothing(site: Site, merchant: FlaskClient) -> None:
    for day, rate in ((1, 0.32), (2, 0.6)):
        at = rows.NOW - timedelta(days=day)
        alert_id = rows.insert_alert(site.database, account_id=OWN, at=at, status="RESOLVED", count=1)
        metrics = {"block_rate": rate}
        rows.insert_trigger(site.database, alert_id, account_id=OWN, at=at, metrics=metrics, notify="first")
    typed = {"metric_0": "block_rate", "operator_0": ">", "threshold_0": "50 %", "active_0": "on"}
    status, text = send(merchant, "try", **typed)
    assert status == 200
    seen = shown(text)
    assert "1 of 2 messages would not have been sent" in seen
    assert "Gone alert CardTestingSevere" in seen
    assert "block_rate 0.32 is not > 0.5" in seen
    link = re.findall(r'href="(/triggers[^"]+before[^"]+)">See the trigger', text)[0].replace("&amp;", "&")
    assert "Block rate 32 %" in shown(page(merchant, link)).replace("32.0 %", "32 %")
    assert "block_rate" in re.findall(r'<datalist id="metrics">(.*?)</datalist>', text)[0]
    assert stored(site) is None


def test_the_history_tells_the_difference_and_brings_a_version_back(site: Site, merchant: FlaskClient) -> None:
    save(site, a_config())
    save(site, a_config(enabled=False, channel_preferences={}))
    path = HERE.replace("config?", "config/history?")
    text = page(merchant, path)
    assert "Alerts of this type on → becomes off" in shown(text)
    assert "verysecret" not in text
    form = {"csrf_token": token_in(text), "restore_version": "1", "version": "2"}
    restore = path.replace("history", "restore")
    assert "Version 1 is in force again, as version 3." in page(merchant, merchant.post(restore, data=form).location)
    config = stored(site)
    assert config is not None
    assert (config.enabled, config.channel_preferences["slack"]["webhook_url"]) == (True, SECRET)
    late = merchant.post(restore, data=form)
    assert "Nothing was restored" in page(merchant, late.location)

    remove = path.replace("history", "remove")
    asked = merchant.post(remove, data={"csrf_token": form["csrf_token"], "version": "3"})
    assert "Remove these settings?" in asked.text
    assert stored(site) is not None
    merchant.post(remove, data={"csrf_token": form["csrf_token"], "version": "3", "confirmed": "yes"})
    assert stored(site) is None
    assert "the general rule decided from then on" in page(merchant, path)


def test_a_merchant_neither_sees_nor_changes_anothers(site: Site, merchant: FlaskClient) -> None:
    save(site, a_config(account_id=FOREIGN))
    foreign = HERE.replace(OWN, FOREIGN)
    token = token_in(page(merchant, "/settings"))
    for path in (foreign, foreign.replace("config?", "config/history?")):
        assert FOREIGN not in page(merchant, path, 404)
    tried = {"csrf_token": token, "version": "1", "restore_version": "1", "confirmed": "yes"}
    for path, button in ((foreign, "save"), (foreign, "try"), (foreign.replace("config?", "config/remove?"), "")):
        assert merchant.post(path, data=tried | {"do": button}).status_code == 404
    assert merchant.post(foreign.replace("config?", "config/restore?"), data=tried).status_code == 404
    assert "1 configuration" not in page(merchant, f"/settings?account={FOREIGN}")
    config = stored(site, FOREIGN)
    assert config is not None
    assert config.version == 1


def test_without_its_token_a_form_changes_nothing(site: Site, merchant: FlaskClient) -> None:
    fields = form_of(page(merchant, HERE)) | {"do": "save"}
    del fields["csrf_token"]
    assert merchant.post(HERE, data=fields).status_code == 400
    assert stored(site) is None


def test_staff_finds_a_merchant_by_name_or_id(site: Site) -> None:
    save(site, a_config())
    ops = site.logged_in(site.keys[Role.OPS])
    assert "Card testing" in page(ops, f"/settings?account=Merchant+{OWN}")
    assert "No settings here" in page(ops, "/settings?account=nobody")


def test_lists_of_settings_are_the_same_over_each_database(database: Database, tmp_path: Path) -> None:
    from webhook.storage.config_list import config_lines, count_configs

    rows.insert_alert(database, account_id="acc_a", merchant_name="Old name", at=rows.NOW - timedelta(days=2))
    rows.insert_alert(database, account_id="acc_a", merchant_name="Café 100%", at=rows.NOW)
    configs = [a_config(account_id=account, channel_preferences={"slack": {"enabled": True}, "sms": {"enabled": False}})
               for account in ("acc_a", "acc_b")]  # fmt: skip
    ConfigStore(database, SecretBox()).save(configs, rows.ADMIN, rows.NOW)
    with database.read() as connection:
        both = config_lines(connection, None, limit=9)
        assert [(line.account_id, line.merchant_name, line.conditions) for line in both] == [
            ("acc_a", "Café 100%", 2),
            ("acc_b", "", 2),
        ]
        assert list(both[0].channels) == ["slack"]
        assert [line.account_id for line in config_lines(connection, None, "100%", limit=9)] == ["acc_a"]
        assert count_configs(connection, frozenset({"acc_b"})) == 1
        assert config_lines(connection, frozenset(), limit=9) == []


def test_what_staff_set_is_shown_kept_and_not_a_merchants_to_change(site: Site, merchant: FlaskClient) -> None:
    save(site, a_config(channel_preferences={"slack": {"enabled": True, "channel": "#fraud-own"}}))
    text = page(merchant, HERE)
    assert "#fraud-own" in text
    assert "slack.channel" not in form_of(text), "it cannot be typed into"
    assert send(merchant, "save", threshold_0="40 %")[0] == 303
    forged = merchant.post(HERE, data=form_of(page(merchant, HERE)) | {"slack.channel": "#elsewhere", "do": "save"})
    assert (forged.status_code, "set by staff alone" in forged.text) == (422, True)
    config = stored(site)
    assert config is not None
    assert (config.version, config.channel_preferences["slack"]["channel"]) == (2, "#fraud-own")


def test_a_form_that_names_no_version_overwrites_nothing(site: Site, merchant: FlaskClient) -> None:
    save(site, a_config())
    fields = form_of(page(merchant, HERE))
    nameless = fields | {"version": "", "restore_version": "1", "confirmed": "yes", "threshold-0": "99 %", "do": "save"}
    for action in ("", "/restore", "/remove"):
        merchant.post(HERE.replace("config?", f"config{action}?"), data=nameless)
    config = stored(site)
    assert config is not None
    assert (config.version, config.conditions[0].threshold) == (1, 0.3)
