"""API keys, signatures, limits, audit and masks, as those meet them who call."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import page_rows as rows
import pytest
import sqlalchemy as sa
from access_rows import FOREIGN, INGEST_TOKEN, OWN, Site
from flask.testing import FlaskClient

from webhook.domain.access import Role
from webhook.storage.database import Database
from webhook.storage.keys import NewKey, create_key, digest, key_by_prefix
from webhook.storage.tables import api_key, audit_log
from webhook.web.keyring import KEPT_FOR, KeyRing
from webhook.web.signature import sign

ADMIN = {"X-API-Key": rows.TOKEN}
DELIVERY = "/api/v1/alerts/prometheus/webhook"
SENT = {"version": "4", "alerts": []}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**settings: object) -> Site:
        store = f"sqlite:///{tmp_path}/sentinel-{len(made)}.db"
        made.append(Site(rows.open_store(store), settings=settings))
        return made[-1]

    yield make
    for site in made:
        site.close()


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


def test_a_key_lives_until_it_expires(make: Callable[..., Site]) -> None:
    site = make()
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


def test_a_revoked_key_dies_with_its_session_within_seconds(make: Callable[..., Site]) -> None:
    site = make()
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


def test_after_a_rotation_both_keys_open_until_the_grace_is_over(make: Callable[..., Site]) -> None:
    site = make()
    client = site.client()
    old = _new(client)
    new = client.post(f"/api/v1/api-keys/{old['prefix']}/rotate", json={"grace_hours": 1}, headers=ADMIN).get_json()
    assert (new["role"], new["account_ids"], new["name"]) == ("merchant", [OWN], "till")
    assert (_status(client, old["api_key"]), _status(client, new["api_key"])) == (200, 200)
    site.clock.now += timedelta(hours=1)
    assert (_status(client, old["api_key"]), _status(client, new["api_key"])) == (401, 200)


@pytest.mark.parametrize(
    "body",
    [{"role": "merchant"}, {"role": "ops", "account_ids": [OWN]}, {"role": "king"}, {"name": ""}, {"more": 1},
     {"role": "ops", "expires_at": "2020-01-01T00:00:00Z"}, {"role": "merchant", "account_ids": ["a\x00"]}],
)  # fmt: skip
def test_what_no_key_can_be_is_a_problem(make: Callable[..., Site], body: dict[str, Any]) -> None:
    answer = make().client().post("/api/v1/api-keys", json={"name": "n", "role": "ops"} | body, headers=ADMIN)
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")


def test_the_log_of_changes_is_searched_and_scoped(make: Callable[..., Site]) -> None:
    site = make()
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


# ---- deliveries -----------------------------------------------------------------------------------


def _deliver(site: Site, secret: str | None, *, skew: int = 0, body: dict[str, Any] = SENT, **headers: str) -> int:
    data = json.dumps(SENT).encode()
    if secret:
        at = int(site.clock().timestamp()) + skew
        headers["X-Sentinel-Signature"] = f"t={at},v1={'0' * 64},v1={sign(data, secret.encode(), at)}"
    return site.client().post(DELIVERY, data=json.dumps(body).encode(), headers=headers).status_code


def test_a_signature_opens_the_door_in_place_of_the_token(make: Callable[..., Site]) -> None:
    site = make(ingest_hmac_secret="an-hmac-secret")
    assert _deliver(site, "an-hmac-secret") == 200
    assert _deliver(site, None, Authorization=f"Bearer {INGEST_TOKEN}") == 200
    assert _deliver(site, None, Authorization=f"Bearer {site.keys[Role.OPS]}") == 200
    assert _deliver(site, "another-secret", Authorization=f"Bearer {INGEST_TOKEN}") == 401
    assert _deliver(site, "an-hmac-secret", skew=-301) == 401
    assert _deliver(site, "an-hmac-secret", skew=301) == 401
    assert _deliver(site, "an-hmac-secret", body={"alerts": [], "version": "5"}) == 401
    assert _deliver(site, None, **{"X-Sentinel-Signature": "t=x,v1="}) == 401


def test_where_a_signature_is_required_the_token_alone_is_not_enough(make: Callable[..., Site]) -> None:
    site = make(ingest_hmac_secret="an-hmac-secret", ingest_hmac="required")
    assert _deliver(site, None, Authorization=f"Bearer {INGEST_TOKEN}") == 401
    assert _deliver(site, "an-hmac-secret") == 401
    assert _deliver(site, "an-hmac-secret", Authorization=f"Bearer {INGEST_TOKEN}") == 200


# ---- limits ---------------------------------------------------------------------------------------


def _read(site: Site, role: Role, address: str = "192.0.2.1", **headers: str) -> Any:
    asked = {"X-API-Key": site.keys[role]} | headers
    return site.client().get("/api/v1/alerts", headers=asked, environ_base={"REMOTE_ADDR": address})


def test_who_asks_too_often_is_told_when_to_come_back(make: Callable[..., Site]) -> None:
    site = make(rate_limit_read="3/hour")
    assert [_read(site, Role.MERCHANT).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = _read(site, Role.MERCHANT, "192.0.2.2")
    assert (refused.status_code, refused.mimetype) == (429, "application/problem+json")
    assert 0 < int(refused.headers["Retry-After"]) <= 3600
    assert _read(site, Role.OPS).status_code == 200
    assert _deliver(site, None, Authorization=f"Bearer {INGEST_TOKEN}") == 200


def test_an_address_is_that_of_the_caller_and_of_trusted_proxies_alone(make: Callable[..., Site]) -> None:
    bare, proxied = make(rate_limit_address="2/hour"), make(rate_limit_address="2/hour", trusted_proxies=1)
    for site, expected in ((bare, [200, 200, 429]), (proxied, [200, 200, 200])):
        calls = [_read(site, Role.OPS, **{"X-Forwarded-For": f"198.51.100.{last}"}) for last in range(3)]
        assert [call.status_code for call in calls] == expected


def test_processes_share_their_limits_through_redis(make: Callable[..., Site], redis_server: str) -> None:
    one, other = (make(rate_limit_address="5/hour", redis_url=redis_server) for _ in range(2))
    address = "203.0.113.77"
    taken = [_read(site, Role.OPS, address).status_code for site in (one, other) * 3]
    assert taken == [200] * 5 + [429]


def test_limits_go_on_where_redis_is_away(make: Callable[..., Site]) -> None:
    site = make(rate_limit_read="2/hour", redis_url="redis://127.0.0.1:9")
    assert [_read(site, Role.OPS).status_code for _ in range(3)] == [200, 200, 429]


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
    assert run("revoke", prefix).returncode == 0
    refused = run("rotate", prefix)
    assert (refused.returncode, refused.stderr) == (1, f"sentinel-webhook: the key {prefix} is revoked\n")
    assert run("create", "--name", "x", "--role", "merchant").returncode == 1
    database.close()
