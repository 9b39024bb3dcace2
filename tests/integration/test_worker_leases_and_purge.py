"""What one worker of many does: it sweeps while the others only send, and forgets what is older than its retention."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from notes import NOW, Shop, shop
from prometheus_client import CollectorRegistry

from webhook.config import Settings
from webhook.domain.alert import AlertTypes
from webhook.storage.access_tables import audit_log
from webhook.storage.delivery_tables import digest, model_tokens, pace
from webhook.storage.leases import Leases
from webhook.storage.retention import Purge, Retention
from webhook.storage.tables import (
    alert,
    alert_comment,
    alert_config_version,
    alert_dynamic,
    alert_flapping,
    alert_instance,
    alert_template,
    alert_trigger_log,
    handled_request,
    notification,
)
from webhook.worker import Worker, build_worker
from webhook.worker_options import WorkerOptions

__all__ = ["shop"]

DAY = timedelta(days=1)
RETENTION = Retention(alerts=30 * DAY, audit=100 * DAY)


def add(shop: Shop, table: sa.Table, **row: Any) -> None:
    with shop.database.write() as connection:
        connection.execute(sa.insert(table).values(row))


def test_a_lease_is_held_by_one_until_it_ends_or_is_given_back(shop: Shop) -> None:
    minute = timedelta(minutes=1)
    one, other = Leases(shop.database, "one"), Leases(shop.database, "other")
    assert one.hold("sweep", NOW, minute)
    assert not other.hold("sweep", NOW + minute / 2, minute)
    assert other.hold("purge", NOW, minute), "another right"
    assert one.hold("sweep", NOW + minute / 2, minute), "its holder prolongs it"
    assert not other.hold("sweep", NOW + minute, minute)
    assert other.hold("sweep", NOW + minute * 1.5, minute), "its holder died"
    one.give_back("sweep")
    assert not one.hold("sweep", NOW + minute * 2, minute), "only its own can be given back"
    other.give_back("sweep")
    assert one.hold("sweep", NOW + minute * 2, minute)


def make_worker(url: str, now: datetime) -> tuple[Worker, CollectorRegistry]:
    registry = CollectorRegistry()
    settings = Settings(database_url=url, alertmanager_url="http://127.0.0.1:9", retention=30 * DAY)
    return build_worker(settings, WorkerOptions(), registry, lambda: now), registry


def test_of_two_workers_one_sweeps_and_the_other_goes_on_when_it_has_stopped(
    shop: Shop, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = shop.add_alert(started=NOW - timedelta(hours=1))
    shop.add_instance(ended, heard=NOW - timedelta(minutes=50), resolved=NOW - timedelta(minutes=40))
    pods = iter(f"sentinel-webhook-worker-of-production-7d9f8b6c5-{end}" for end in ("x2x4z", "q8k2m"))
    monkeypatch.setattr("socket.gethostname", lambda: next(pods))
    monkeypatch.setattr("os.getpid", lambda: 1)  # as in every container
    first, of_first = make_worker(store_url, NOW)
    second, of_second = make_worker(store_url, NOW)

    given_up = {"channel": "console", "reason": "first", "outcome": "failed"}
    assert of_first.get_sample_value("sentinel_notifications_total", given_up) == 0, "else the first is no increase"

    first._sweep()
    second._sweep()
    assert shop.alert(ended)["status"] == "RESOLVED"
    assert of_first.get_sample_value("sentinel_sweep_changes_total", {"change": "resolved"}) == 1
    assert of_second.get_sample_value("sentinel_sweep_changes_total", {"change": "resolved"}) is None
    assert [registry.get_sample_value("sentinel_sweep_leader") for registry in (of_first, of_second)] == [1, 0]
    swept_at = "sentinel_sweep_last_success_timestamp_seconds"
    assert [registry.get_sample_value(swept_at) for registry in (of_first, of_second)] == [NOW.timestamp(), 0]

    first._give_back()
    second._sweep()
    assert of_second.get_sample_value("sentinel_sweep_leader") == 1
    for worker in (first, second):
        worker.dispatcher.close()
        worker.close()


def closed_alert(shop: Shop, resolved: datetime, notification_status: str = "SENT") -> str:
    """With one of each kind of row that belongs to an alert."""
    alert_id = shop.add_alert(
        started=resolved - DAY, status="RESOLVED", session_status="RESOLVED", resolved_at=resolved
    )
    comment = str(uuid.uuid4())
    add(shop, alert_comment, id=comment, alert_id=alert_id, comment_type="USER_NOTE", content="x", created_at=resolved)
    shop.add_notification(alert_id, at=resolved, status=notification_status, comment_id=comment)
    shop.add_instance(alert_id, heard=resolved, resolved=resolved)
    shop.add_trigger(alert_id, {}, at=resolved - DAY)
    return alert_id


def test_what_is_older_than_its_retention_goes_and_nothing_else(shop: Shop) -> None:
    for age in (31 * DAY, 29 * DAY):
        closed_alert(shop, NOW - age)
        texts = {"actor": "a", "action": "b", "details": {}}
        add(shop, audit_log, id=str(uuid.uuid4()), created_at=NOW - age - 70 * DAY, **texts)
    long_lasting = shop.add_alert(started=NOW - 90 * DAY)
    unsent = closed_alert(shop, NOW - 40 * DAY, "PENDING")
    for days in (0, 40):
        at = NOW - days * DAY
        add(shop, pace, target=f"t{days}", free_at=at)
        add(shop, digest, account_id=f"a{days}", told_at=at)
        add(shop, model_tokens, day=at.date(), tokens=1)
    purge = Purge(shop.database, RETENTION, AlertTypes())

    gone = purge.run_once(NOW)

    assert gone == {
        "alert_trigger_log": 2,  # the one of the alert whose message is still to go out, too
        "alert_instance": 2,
        "alert": 1,
        "audit_log": 1,
        "alert_config_version": 0,
        "alert_template": 0,
        "handled_request": 0,
        "alert_flapping": 0,
        "stream_event": 0,
        "pace": 1,
        "digest": 1,
        "model_tokens": 1,
        "push_subscription": 0,
        "push_delivery": 0,
    }
    kept = {row["alert_id"] for row in shop.rows(alert_dynamic)}
    assert {long_lasting, unsent} < kept
    assert len(kept) == 3
    for table, left in ((alert, 3), (alert_comment, 2), (notification, 2), (alert_instance, 1), (alert_trigger_log, 1)):
        assert len(shop.rows(table)) == left, table.name
    assert set(purge.run_once(NOW).values()) == {0}


def test_of_former_versions_the_newest_the_active_and_those_in_use_stay(shop: Shop) -> None:
    old, names = NOW - 101 * DAY, {"account_id": "acc", "changed_by": "me"}
    for version in range(1, 25):
        at = old if version != 2 else NOW - 99 * DAY
        row = {"alert_type": "A", "version": version, "created_at": at, "id": str(uuid.uuid4())}
        add(shop, alert_config_version, document={}, **names, **row)
        texts = {"template_name": "t", "prompt_template": "x", "default_config": {}, "updated_at": at}
        add(shop, alert_template, is_active=version == 1, **texts, **row)
    add(shop, alert_config_version, document={}, **names, **row | {"alert_type": "B", "id": str(uuid.uuid4())})
    used = next(row["id"] for row in shop.rows(alert_template) if row["version"] == 3)
    alert_id = shop.add_alert(started=NOW)
    with shop.database.write() as connection:
        connection.execute(sa.update(alert).where(alert.c.id == alert_id).values(template_id=used))

    gone = Purge(shop.database, replace(RETENTION, versions=100 * DAY), AlertTypes()).run_once(NOW)

    assert (gone["alert_config_version"], gone["alert_template"]) == (3, 1)
    kept = sorted(row["version"] for row in shop.rows(alert_config_version) if row["alert_type"] == "A")
    assert kept == [2, *range(5, 25)], "1, 3 and 4 are old, and 20 are newer"
    assert sorted(row["version"] for row in shop.rows(alert_template)) == [1, 2, 3, *range(5, 25)]
    assert len(shop.rows(alert_config_version)) == 22, "of another type nothing goes"


def test_what_a_person_closed_is_kept_while_it_fires_on(shop: Shop) -> None:
    """Else the next repeat would open a new alert of what was dismissed."""
    closed = {"status": "DISMISSED", "session_status": "RESOLVED", "resolved_at": NOW - 40 * DAY}
    firing, silent = (shop.add_alert(started=NOW - 50 * DAY, **closed) for _ in range(2))
    shop.add_instance(firing, heard=NOW - timedelta(minutes=5))
    shop.add_instance(silent, heard=NOW - 31 * DAY)  # its end was never heard of
    assert Purge(shop.database, RETENTION, AlertTypes()).run_once(NOW)["alert"] == 1
    assert [row["alert_id"] for row in shop.rows(alert_dynamic)] == [firing]
    assert len(shop.rows(alert_instance)) == 1


def test_answers_go_after_a_day_and_conditions_when_they_have_been_steady(shop: Shop) -> None:
    for hours in (23, 25):
        at = NOW - timedelta(hours=hours)
        texts = {"credential": "c", "request_id": str(hours), "route": "r", "body_hash": "h"}
        add(shop, handled_request, status=200, answer={}, created_at=at, **texts)
    for number, (minutes, since) in enumerate(((59, None), (61, None), (61, NOW))):
        row = {"condition_fingerprint": str(number), "account_id": "a", "alert_type": "t", "restarts": []}
        add(shop, alert_flapping, flapping_since=since, updated_at=NOW - timedelta(minutes=minutes), **row)
    gone = Purge(shop.database, RETENTION, AlertTypes()).run_once(NOW)
    assert (gone["handled_request"], gone["alert_flapping"]) == (1, 1)
    assert [row["request_id"] for row in shop.rows(handled_request)] == ["23"]
    assert {row["condition_fingerprint"] for row in shop.rows(alert_flapping)} == {"0", "2"}


def test_a_full_batch_is_followed_by_another_at_once(
    shop: Shop, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.storage.retention.BATCH", 2)
    monkeypatch.setattr("webhook.worker.PURGED_AT_ONCE", 2)
    for _ in range(3):
        closed_alert(shop, NOW - 31 * DAY)
    worker, registry = make_worker(store_url, NOW)
    assert (worker._purge(), worker._purge()) == (True, False)
    assert registry.get_sample_value("sentinel_purged_rows_total", {"table": "alert"}) == 3
    worker.dispatcher.close()
    worker.close()
