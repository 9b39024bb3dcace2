"""Who delivers and reports: signatures and their copies, keys, alert types, bodies that are too deep."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import page_rows as rows
import sqlalchemy as sa
from access_rows import INGEST_TOKEN, OWN, Site
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from webhook.domain.access import Role
from webhook.storage.access_tables import audit_log
from webhook.storage.database import Database
from webhook.storage.tables import alert_trigger_log
from webhook.web.depth import DEEPEST
from webhook.web.signature import Signed

DELIVERY, REPORTS = "/api/v1/alerts/prometheus/webhook", "/api/v1/alerts/metrics"
SECRET = "an-hmac-secret"
ALERT = {
    "status": "firing",
    "labels": {"alertname": "CardTestingDetected", "alert_type": "CARD_TESTING", "severity": "P3", "account_id": OWN},
    "annotations": {"block_rate": "0.35"},
    "startsAt": "2026-03-14T15:00:00Z",
    "fingerprint": "c0ffee",
}
ONE = {"version": "4", "alerts": [ALERT]}
BEARER = {"Authorization": f"Bearer {INGEST_TOKEN}"}


def _report(alert_type: str = "CARD_TESTING") -> dict[str, Any]:
    return {
        "merchant_id": OWN,
        "alert_type": alert_type,
        "metrics": [{"metric_name": "block_rate", "metric_value": 0.45, "threshold": 0.3}],
    }


@dataclass(frozen=True)
class Sent:
    """A signed request, which can be sent as it is or with changes."""

    target: str = DELIVERY
    body: bytes = json.dumps(ONE).encode()
    request_id: str = ""
    method: str = "POST"

    def headers(self, at: int, secret: str = SECRET) -> dict[str, str]:
        digest = Signed(self.method, self.target, self.request_id, self.body).digest(secret.encode(), at)
        named = {"X-Request-ID": self.request_id} if self.request_id else {}
        json_type = {"Content-Type": "application/json"}
        return {"X-Sentinel-Signature": f"t={at},v1={'0' * 64},v1={digest}"} | named | json_type


def _send(site: Site, sent: Sent, headers: dict[str, str]) -> TestResponse:
    return site.client().post(sent.target, data=sent.body, headers=headers)


def _now(site: Site) -> int:
    return int(site.clock().timestamp())


def _received(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(alert_trigger_log)).scalar_one()


# ---- signatures -----------------------------------------------------------------------------------


def test_a_signature_opens_the_door_in_place_of_the_token(make_site: Callable[..., Site]) -> None:
    site, sent = make_site(ingest_hmac_secret=SECRET), Sent()
    now = _now(site)

    def status(headers: dict[str, str], changed: Sent = sent) -> int:
        return _send(site, changed, headers).status_code

    assert status(sent.headers(now)) == 200
    assert status(BEARER) == 200
    assert status({"X-API-Key": site.keys[Role.OPS]}) == 200
    assert status(sent.headers(now, "another-secret") | BEARER) == 401
    assert status(sent.headers(now - 301)) == 401
    assert status(sent.headers(now + 301)) == 401
    assert status({"X-Sentinel-Signature": "t=x,v1="}) == 401


def test_where_a_signature_is_required_the_token_alone_is_not_enough(make_site: Callable[..., Site]) -> None:
    site, sent = make_site(ingest_hmac_secret=SECRET, ingest_hmac="required"), Sent()
    assert _send(site, sent, BEARER).status_code == 401
    assert _send(site, sent, sent.headers(_now(site))).status_code == 401
    assert _send(site, sent, sent.headers(_now(site)) | BEARER).status_code == 200


def test_a_copy_that_was_changed_is_refused(make_site: Callable[..., Site]) -> None:
    site = make_site(ingest_hmac_secret=SECRET)
    longer = json.dumps(ONE | {"version": "5"}).encode()
    for changed in (Sent(body=longer), Sent(f"{DELIVERY}?priority=urgent"), Sent(REPORTS), Sent(request_id="7")):
        named = {"X-Request-ID": changed.request_id} if changed.request_id else {}
        refused = _send(site, changed, Sent().headers(_now(site)) | named)
        assert refused.status_code == 401
        assert "does not fit the request" in refused.get_json()["detail"]
    unnamed = Sent(request_id="7").headers(_now(site))
    del unnamed["X-Request-ID"]
    assert _send(site, Sent(), unnamed).status_code == 401
    assert _received(site.database) == 0


def test_a_copy_is_answered_as_the_first_was_by_every_process(database: Database) -> None:
    """Committed with what it did, so neither a restart nor another replica takes it twice."""
    one, other = (Site(database, settings={"ingest_hmac_secret": SECRET}) for _ in range(2))
    report = json.dumps(_report()).encode()
    for sent in (Sent(), Sent(request_id="7"), Sent(REPORTS, report), Sent(REPORTS, report, "8")):
        before, headers = _received(database), sent.headers(_now(one))
        first, again = _send(one, sent, headers), _send(other, sent, headers)
        assert (first.status_code, first.get_json()) == (again.status_code, again.get_json())
        assert again.headers["Idempotent-Replayed"] == "true"
        assert _received(database) == before + 1
        assert _send(other, sent, sent.headers(_now(one) + 1)).status_code == 200
        assert _received(database) == before + (1 if sent.request_id else 2)
    for site in (one, other):
        site.close()


@contextmanager
def _served(site: Site) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_signed_delivery_keeps_to_the_name_that_is_signed_with_it(make_site: Callable[..., Site]) -> None:
    """Passed over as an unsigned one's is, a bad name would let copies in."""
    site = make_site(ingest_hmac_secret=SECRET)
    nobody = json.dumps({"alerts": []}).encode()
    sent = [Sent(request_id="a b"), Sent(body=nobody, request_id="r-1"), Sent(request_id="r-1")]
    assert [_send(site, one, one.headers(_now(site))).status_code for one in sent] == [400, 200, 422]


def test_the_example_in_the_documentation_delivers(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "access.md").read_text()
    (example,) = re.findall(r"```\n(t=\$\(date.*?)```", text, re.DOTALL)
    store = rows.open_store(f"sqlite:///{tmp_path}/sentinel.db")
    site = Site(store, rows.Clock(datetime.now(UTC)), {"ingest_hmac_secret": SECRET})
    (tmp_path / "payload.json").write_text(json.dumps(ONE))
    with _served(site) as url:
        environment = {"SECRET": SECRET, "URL": url, "PATH": "/usr/bin:/bin", "no_proxy": "127.0.0.1"}
        done = subprocess.run(["bash", "-ec", example], env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(done.stdout)["outcomes"] == ["created"]
    site.close()
    store.close()


# ---- reports --------------------------------------------------------------------------------------


def _reported(site: Site, alert_type: str, credential: str) -> TestResponse:
    return site.client().post(REPORTS, json=_report(alert_type), headers={"X-API-Key": credential})


def test_a_merchants_key_reports_of_known_types_alone(make_site: Callable[..., Site]) -> None:
    site = make_site()
    theirs = site.keys[Role.MERCHANT]
    rows.insert_alert(site.database, account_id=OWN, alert_type="OF_A_RULE")
    rows.insert_alert(site.database, account_id="acc_foreign", alert_type="OF_ANOTHER")
    config = {"merchant_id": OWN, "alert_type": "OF_ITS_OWN", "trigger_conditions": [], "channels": {}}
    assert site.client().put("/api/v1/alerts/config", json=config, headers={"X-API-Key": theirs}).status_code == 200
    for known in ("CARD_TESTING", "OF_A_RULE", "OF_ITS_OWN"):
        assert _reported(site, known, theirs).status_code in (200, 201)
    for unknown in ("T0", "OF_ANOTHER"):
        refused = _reported(site, unknown, theirs)
        assert (refused.status_code, refused.mimetype) == (422, "application/problem+json")
        assert {"CARD_TESTING", "OF_A_RULE", "OF_ITS_OWN"} <= set(refused.get_json()["known_types"])
        assert "OF_ANOTHER" not in refused.get_json()["known_types"]
    assert _reported(site, "T0", site.keys[Role.OPS]).status_code == 201
    assert _reported(site, "T1", INGEST_TOKEN).status_code == 201


def test_reports_of_a_key_are_counted_and_those_of_the_platform_are_not(make_site: Callable[..., Site]) -> None:
    site = make_site(rate_limit_write="2/hour")
    statuses = [_reported(site, "CARD_TESTING", site.keys[Role.MERCHANT]).status_code for _ in range(3)]
    assert statuses[-1] == 429
    assert 429 not in statuses[:2]
    assert 429 not in [_reported(site, "CARD_TESTING", INGEST_TOKEN).status_code for _ in range(4)]


def test_deliveries_have_no_limit_but_those_with_a_key_which_alertmanager_brings_again(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(rate_limit_write="2/hour", rate_limit_address="5/hour", ingest_hmac_secret=SECRET)
    key = {"X-API-Key": site.keys[Role.OPS]}
    answers = [_send(site, Sent(), key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 503]
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert {_send(site, Sent(), BEARER).status_code for _ in range(6)} == {200}
    assert {_send(site, Sent(), Sent().headers(_now(site) - n)).status_code for n in range(6)} == {200}


# ---- depth ----------------------------------------------------------------------------------------


def test_a_body_that_is_nested_too_deeply_is_refused_everywhere(make_site: Callable[..., Site]) -> None:
    site = make_site()
    places = ((DELIVERY, "alerts"), (REPORTS, "metrics"), ("/api/v1/api-keys", "account_ids"))
    for levels, encoding, (path, member) in product((DEEPEST, 500, 10_000), ("utf-8", "utf-16"), places):
        body = f'{{"{member}": {"[" * levels}1{"]" * levels}}}'.encode(encoding)
        token = rows.TOKEN if path == "/api/v1/api-keys" else INGEST_TOKEN
        answer = site.client().post(path, data=body, headers={"X-API-Key": token}, content_type="application/json")
        assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
        assert f"nested too deeply: at most {DEEPEST} levels" in answer.get_json()["detail"]


def test_brackets_in_texts_and_side_by_side_are_not_depth(make_site: Callable[..., Site]) -> None:
    site = make_site()
    written = ALERT | {"annotations": {"summary": '[{"' * 200, "block_rate": "0.35"}}
    body = {"version": "4", "alerts": [written | {"fingerprint": str(n)} for n in range(40)]}
    answer = site.client().post(DELIVERY, json=body, headers=BEARER)
    assert (answer.status_code, answer.get_json()["received"]) == (200, 40)
    deep: object = 1
    for _ in range(DEEPEST - 2):
        deep = [deep]
    answer = site.client().post(DELIVERY, json={"version": "4", "alerts": [deep, ALERT]}, headers=BEARER)
    assert [outcome.partition(":")[0] for outcome in answer.get_json()["outcomes"]] == ["rejected", "session_updated"]


# ---- what became of messages ----------------------------------------------------------------------


def test_a_merchant_learns_that_its_messages_were_discarded_and_not_by_whom(make_site: Callable[..., Site]) -> None:
    site = make_site()
    letters = [rows.insert_notification(site.database, site.own, status="FAILED") for _ in range(120)]
    with site.database.write() as connection:
        connection.execute(sa.text("UPDATE notification SET account_id = :own"), {"own": OWN})
    rows.insert_notification(site.database, site.foreign, status="FAILED")
    ops, theirs = ({"X-API-Key": site.keys[role]} for role in (Role.OPS, Role.MERCHANT))
    client = site.client()
    discarded = client.post("/api/v1/dead-letters/discard", json={}, headers=ops)
    assert (discarded.status_code, discarded.get_json()["count"]) == (200, 121)
    site.clock.now += timedelta(seconds=1)
    note = {"content": "why?", "created_by": "Mia of the shop"}
    assert client.post(f"/api/v1/alerts/{site.own}/comments", json=note, headers=theirs).status_code == 201
    mine, gone = client.get("/api/v1/audit", headers=theirs).get_json()["data"]
    assert (gone["action"], gone["merchant_id"], gone["alert_id"]) == ("dead_letters_discarded", OWN, site.own)
    assert set(gone["details"]["notification_ids"]) == set(letters)
    assert (gone["actor"], gone["authenticated_as"], gone["address"]) == ("staff", "staff", "")
    assert mine["authenticated_as"].startswith("api_key/")

    def by(actor: str) -> int:
        return len(client.get("/api/v1/audit", query_string={"actor": actor}, headers=theirs).get_json()["data"])

    with site.database.read() as connection:
        named = connection.execute(
            sa.select(audit_log.c.authenticated_as, audit_log.c.actor).where(audit_log.c.action == gone["action"])
        ).first()
    assert named is not None
    assert [by(actor) for actor in (*named, "staff", mine["authenticated_as"])] == [0, 0, 1, 1]
