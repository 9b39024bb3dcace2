"""API keys, signatures, limits, audit and masks, as those meet them who call."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import page_rows as rows
import pytest
import sqlalchemy as sa
from access_rows import FOREIGN, OWN, Site
from flask.testing import FlaskClient

from webhook.domain.access import Role
from webhook.storage.access_tables import api_key, audit_log
from webhook.storage.database import Database
from webhook.storage.keys import NewKey, create_key, digest, key_by_prefix
from webhook.web.keyring import KEPT_FOR, KeyRing

ADMIN = {"X-API-Key": rows.TOKEN}
DELIVERY = "/api/v1/alerts/prometheus/webhook"
SENT = {"version": "4", "alerts": []}


def _new(client: FlaskClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/api-keys", json={"name": "till", "role": "merchant", "account_ids": [OWN]} | body,
                         headers=ADMIN)  # fmt: skip
    assert answer.status_code == 201
    made: dict[str, Any] = answer.get_json()
    return made


def _status(client: FlaskClient, key: str, path: str = "/api/v1/alerts") -> int:
    return client.get(path, headers={"Authorization": f"Bearer {key}"}).status_code


# ---- in the store, over both databases ------------------------------------------------------------


def test_a_key_is_stored_as_a_digest_and_its_use_once_a_minute(database: Database) -> None:
    clock = rows.Clock()
    with database.write() as connection:
        record, key = create_key(connection, NewKey("till", Role.MERCHANT, (OWN,)), rows.ADMIN, clock())
    secret = key.removeprefix(f"{record.prefix}_")
    with database.read() as connection:
        stored = dict(connection.execute(sa.select(api_key)).mappings().one())
        audited = dict(connection.execute(sa.select(audit_log)).mappings().one())
    assert stored["secret_hash"] == digest(key)
    assert secret not in repr(stored)
    assert secret not in repr(audited)
    assert (audited["action"], audited["subject"]) == ("api_key_created", f"api_key/{record.prefix}")
    ring, used = KeyRing(database, clock), []
    for _ in range(5):
        found = ring.opened_by(key)
        assert found
        assert found.account_ids == (OWN,)
        with database.read() as connection:
            kept = key_by_prefix(connection, record.prefix)
            used.append(kept and kept.last_used_at)
        clock.now += timedelta(seconds=20)
    first = rows.NOW
    assert used == [first, first, first, first + timedelta(minutes=1), first + timedelta(minutes=1)]
    assert ring.opened_by(f"{record.prefix}_{'x' * 43}") is None


# ---- through the API ------------------------------------------------------------------------------


def test_a_key_lives_until_it_expires(make_site: Callable[..., Site]) -> None:
    site = make_site()
    client = site.client()
    made = _new(client, expires_at=(rows.NOW + timedelta(hours=1)).isoformat())
    assert (made["state"], made["account_ids"]) == ("active", [OWN])
    assert _status(client, made["api_key"]) == 200
    assert client.get("/api/v1/alerts", headers={"X-API-Key": made["api_key"]}).status_code == 200
    site.clock.now += timedelta(hours=1)
    assert _status(client, made["api_key"]) == 401
    listed = client.get("/api/v1/api-keys", headers=ADMIN).get_json()["data"]
    assert {"prefix": made["prefix"], "state": "expired"}.items() <= next(
        entry for entry in listed if entry["prefix"] == made["prefix"]
    ).items()
    assert "api_key" not in listed[0]


def test_a_revoked_key_dies_with_its_session_within_seconds(make_site: Callable[..., Site]) -> None:
    site = make_site()
    client = site.client()
    made = _new(client)
    person = site.logged_in(made["api_key"])
    assert person.get("/alerts").status_code == 200
    revoked = client.post(f"/api/v1/api-keys/{made['prefix']}/revoke", headers=ADMIN)
    assert (revoked.status_code, revoked.get_json()["state"]) == (200, "revoked")
    site.clock.now += KEPT_FOR
    assert _status(client, made["api_key"]) == 401
    assert person.get("/alerts").status_code == 303
    assert client.post(f"/api/v1/api-keys/{made['prefix']}/rotate", json={}, headers=ADMIN).status_code == 409
    assert client.post("/api/v1/api-keys/sk_aaaaaaaa/revoke", headers=ADMIN).status_code == 404


def test_after_a_rotation_both_keys_open_until_the_grace_is_over(make_site: Callable[..., Site]) -> None:
    site = make_site()
    client = site.client()
    old = _new(client)
    new = client.post(f"/api/v1/api-keys/{old['prefix']}/rotate", json={"grace_hours": 1}, headers=ADMIN).get_json()
    assert (new["role"], new["account_ids"], new["name"]) == ("merchant", [OWN], "till")
    assert (_status(client, old["api_key"]), _status(client, new["api_key"])) == (200, 200)
    site.clock.now += timedelta(hours=1)
    assert (_status(client, old["api_key"]), _status(client, new["api_key"])) == (401, 200)


def test_a_rotated_key_has_one_successor_which_keeps_its_lifetime(make_site: Callable[..., Site]) -> None:
    client = make_site().client()

    def rotated(prefix: str) -> Any:
        return client.post(f"/api/v1/api-keys/{prefix}/rotate", json={"grace_hours": 1}, headers=ADMIN)

    old = _new(client)
    new = rotated(old["prefix"]).get_json()
    refused = rotated(old["prefix"])
    assert (refused.status_code, refused.get_json()["successor"]) == (409, new["prefix"])
    assert new["prefix"] in refused.get_json()["detail"]
    assert rotated(new["prefix"]).get_json()["expires_at"] is None
    listed = {entry["prefix"]: entry for entry in client.get("/api/v1/api-keys", headers=ADMIN).get_json()["data"]}
    assert listed[old["prefix"]]["replaced_by"] == new["prefix"]


@pytest.mark.parametrize(
    "body",
    [{"role": "merchant"}, {"role": "ops", "account_ids": [OWN]}, {"role": "king"}, {"name": ""}, {"more": 1},
     {"role": "ops", "expires_at": "2020-01-01T00:00:00Z"}, {"role": "merchant", "account_ids": ["a\x00"]}],
)  # fmt: skip
def test_what_no_key_can_be_is_a_problem(make_site: Callable[..., Site], body: dict[str, Any]) -> None:
    answer = make_site().client().post("/api/v1/api-keys", json={"name": "n", "role": "ops"} | body, headers=ADMIN)
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")


def test_the_log_of_changes_is_searched_and_scoped(make_site: Callable[..., Site]) -> None:
    site = make_site()
    client = site.client()
    for alert_id in (site.own, site.foreign):
        body = {"resolution_note": "done", "resolved_by": "ana"}
        client.post(f"/api/v1/alerts/{alert_id}/resolve", json=body, headers={"X-API-Key": site.keys[Role.OPS]})

    def found(key: str, query: str = "") -> list[tuple[str, str]]:
        answer = client.get(f"/api/v1/audit{query}", headers={"X-API-Key": key})
        return [(entry["action"], entry["merchant_id"]) for entry in answer.get_json()["data"]]

    assert found(site.keys[Role.MERCHANT]) == [("alert_resolved", OWN)]
    assert found(site.keys[Role.MERCHANT], f"?merchant_id={FOREIGN}") == []
    assert len(found(site.keys[Role.OPS], "?action=api_key")) == 3
    assert len(found(site.keys[Role.OPS], "?actor=ana")) == 2
    assert len(found(site.keys[Role.OPS], "?to_date=2020-01-01T00:00:00Z")) == 0
    first = client.get("/api/v1/audit?limit=1", headers=ADMIN).get_json()
    second = client.get(f"/api/v1/audit?limit=1&before={first['next']}", headers=ADMIN).get_json()
    assert first["data"] != second["data"]
    (told,) = client.get("/api/v1/audit?action=alert&limit=1", headers=ADMIN).get_json()["data"]
    assert told["address"] == "127.0.0.1"


# ---- the command line, and what is logged ---------------------------------------------------------


def test_keys_are_made_listed_rotated_and_revoked_on_the_command_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sentinel.db"
    database = rows.open_store(url)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {"SENTINEL_DATABASE_URL": url, "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "-m", "webhook", "api-key", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    made = run("create", "--name", "till", "--role", "merchant", "--account", OWN, "--expires", "90d")
    key = made.stdout.strip()
    ring = KeyRing(database, rows.Clock())
    assert ring.opened_by(key)
    prefix = key[:11]
    listed = run("list").stdout
    assert prefix in listed
    assert key not in listed
    rotated = run("rotate", prefix, "--grace", "1h").stdout.strip()
    assert ring.opened_by(rotated)
    again = run("rotate", prefix)
    assert (again.returncode, rotated[:11] in again.stderr) == (1, True)
    assert run("revoke", prefix).returncode == 0
    refused = run("rotate", prefix)
    assert (refused.returncode, refused.stderr) == (1, f"sentinel-webhook: the key {prefix} is revoked\n")
    assert run("create", "--name", "x", "--role", "merchant").returncode == 1
    database.close()
