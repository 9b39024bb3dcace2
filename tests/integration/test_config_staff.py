"""What staff set of a merchant's configuration: where the operator's own bot posts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_rows as rows
import pytest
from access_rows import OWN, Site

from webhook.domain.access import Role

PATH = "/api/v1/alerts/config"
HOOK = "https://hooks.slack.com/services/T0000/B000/verysecretabcd"
FRAUD = {"slack": {"channel": "#acc-own"}}
NAMED = {"merchant_id": OWN, "alert_type": "CARD_TESTING"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("webhook.app.check_hosts", lambda _: None)
    keys = {"secret_key": "s" * 32, "prometheus_url": "http://127.0.0.1:9"}
    site = Site(rows.open_store(f"sqlite:///{tmp_path}/sentinel.db"), settings=keys)
    yield site
    site.close()


def ask(site: Site, role: Role, method: str, path: str = PATH, **body: Any) -> Any:
    headers = {"X-API-Key": site.keys[role]}
    return site.client().open(path, method=method, json=NAMED | body if body else None, headers=headers)


def channels(site: Site) -> Any:
    (entry,) = ask(site, Role.MERCHANT, "GET", f"{PATH}?merchant_id={OWN}").get_json()["alert_configs"]
    return entry["channels"]


@pytest.mark.parametrize("path", [PATH, f"{PATH}?dry_run=true", f"{PATH}/preview"])
@pytest.mark.parametrize("set_before", [False, True])
def test_a_merchant_cannot_direct_the_bot(site: Site, path: str, set_before: bool) -> None:
    if set_before:
        assert ask(site, Role.OPS, "PUT", channels=FRAUD).status_code == 200
    foreign = {"slack": {"channel": "#acc-foreign-private"}}
    method = "POST" if path.endswith("preview") else "PUT"
    answer = ask(site, Role.MERCHANT, method, path, channels=foreign)
    assert (answer.status_code, answer.mimetype) == (403, "application/problem+json")
    assert [error["field"] for error in answer.get_json()["errors"]] == ["channels.slack.channel"]
    assert "staff" in answer.get_json()["detail"]
    assert ask(site, Role.OPS, method, path, channels=foreign).status_code == 200


@pytest.mark.parametrize(
    "given", [{}, {"slack": {}}, {"slack": {"channel": "#acc-own"}}, {"slack": {"channel": None}}, {"console": {}}]
)
def test_a_merchant_keeps_what_staff_set(site: Site, given: dict[str, Any]) -> None:
    ask(site, Role.ADMIN, "PUT", channels=FRAUD)
    assert ask(site, Role.MERCHANT, "PUT", channels=given, logic="any").status_code == 200
    assert channels(site)["slack"] == {"enabled": True, "channel": "#acc-own"}


def test_a_merchant_may_switch_it_off_and_use_a_webhook_of_its_own(site: Site) -> None:
    ask(site, Role.OPS, "PUT", channels=FRAUD)
    assert (
        ask(site, Role.MERCHANT, "PUT", channels={"slack": {"enabled": False, "webhook_url": HOOK}}).status_code == 200
    )
    assert channels(site)["slack"] == {
        "enabled": False,
        "channel": "#acc-own",
        "webhook_url": "https://hooks.slack.com/…abcd",
    }
    ask(site, Role.MERCHANT, "PUT", channels={})
    assert channels(site)["slack"] == {"enabled": False, "channel": "#acc-own"}
    assert ask(site, Role.OPS, "PUT", channels={"slack": {}}).status_code == 200
    assert channels(site)["slack"] == {"enabled": True}


def test_an_old_version_and_a_deletion_bring_back_no_other_channel(site: Site) -> None:
    ask(site, Role.OPS, "PUT", channels={"slack": {"channel": "#everybody"}})
    ask(site, Role.OPS, "PUT", channels={"console": {}})
    ask(site, Role.OPS, "PUT", channels=FRAUD)
    restored = ask(site, Role.MERCHANT, "POST", f"{PATH}/restore", restore_version=1)
    assert (restored.status_code, "slack.channel" in restored.get_json()["detail"]) == (403, True)
    assert ask(site, Role.MERCHANT, "POST", f"{PATH}/restore", restore_version=2).status_code == 200
    assert channels(site) == {"console": {"enabled": True}, "slack": {"enabled": True, "channel": "#acc-own"}}
    query = f"{PATH}?merchant_id={OWN}&alert_type=CARD_TESTING"
    assert ask(site, Role.MERCHANT, "DELETE", query).status_code == 403
    assert ask(site, Role.OPS, "DELETE", query).status_code == 200
    assert ask(site, Role.MERCHANT, "PUT", channels={"console": {}}).status_code == 200
    assert ask(site, Role.MERCHANT, "DELETE", query).status_code == 200


def test_a_merchant_is_not_told_who_of_the_staff_changed_its_settings(site: Site) -> None:
    site.keys[Role.OPS] = site.key("Olga Opswoman", Role.OPS)
    ask(site, Role.MERCHANT, "PUT", logic="any")
    ask(site, Role.OPS, "PUT", channels=FRAUD)

    def names(role: Role) -> list[str]:
        (entry,) = ask(site, role, "GET", f"{PATH}?merchant_id={OWN}").get_json()["alert_configs"]
        versions = ask(site, role, "GET", f"{PATH}/versions?merchant_id={OWN}&alert_type=CARD_TESTING").get_json()
        return [entry["updated_by"], *(version["changed_by"] for version in versions["data"])]

    assert names(Role.OPS) == ["Olga Opswoman", "Olga Opswoman", "merchant"]
    assert names(Role.MERCHANT) == ["staff", "staff", "merchant"]
    here = f"account={OWN}&type=CARD_TESTING"
    for path in ("/settings", f"/settings/config?{here}", f"/settings/config/history?{here}"):
        shown = {role: site.logged_in(site.keys[role]).get(path) for role in (Role.OPS, Role.MERCHANT)}
        assert shown[Role.OPS].status_code == 200
        assert "Olga" in shown[Role.OPS].text
        assert "Olga" not in shown[Role.MERCHANT].text


def test_only_what_is_new_is_looked_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that is away does not stop a merchant from changing a threshold."""
    looked_up: list[Any] = []
    monkeypatch.setattr("webhook.app.check_hosts", looked_up.extend)
    hook = {"slack": {"webhook_url": HOOK}}
    assert ask(site, Role.OPS, "PUT", channels=hook).status_code == 200
    assert looked_up == ["slack"]
    assert ask(site, Role.OPS, "PUT", channels=hook, logic="any").status_code == 200
    assert looked_up == ["slack"]
    assert ask(site, Role.OPS, "PUT", channels={"slack": {"webhook_url": f"{HOOK}2"}}).status_code == 200
    assert looked_up == ["slack", "slack"]
