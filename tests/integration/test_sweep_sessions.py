"""The sweep on each database: what ends, expires and rises by time alone, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa
from notes import BLOCK_RATE, NOW, Shop, shop
from servers import wait_for

from webhook.domain.alert import AlertTypes, AlertTypeSettings
from webhook.pipeline.sweep import BATCH, Sweep
from webhook.ports import HistoryUnavailable, StoreConflict
from webhook.storage.access_tables import audit_log
from webhook.storage.outbox import Outbox
from webhook.storage.sweeping import SweepBatch, Sweeping
from webhook.storage.tables import alert_comment, alert_dynamic, alert_instance, alert_trigger_log, notification

__all__ = ["shop"]

MINUTE = timedelta(minutes=1)
AGO = NOW - 20 * MINUTE
TYPES = AlertTypes(by_type={"VELOCITY_ATTACK": AlertTypeSettings(session_timeout=30 * MINUTE)})


class Firing:
    """An Alertmanager that holds `fingerprints`, or is away when None; counts how often it was asked."""

    def __init__(self, *fingerprints: str, away: bool = False) -> None:
        self._fingerprints, self._away, self.asked = frozenset(fingerprints), away, 0

    def firing(self) -> frozenset[str]:
        self.asked += 1
        if self._away:
            raise HistoryUnavailable("connection refused")
        return self._fingerprints


def sweep_of(shop: Shop, firing: Firing | None = None) -> Sweep:
    channels = {"console": {}, "slack": {"channel": "#default"}}
    return Sweep(Sweeping(shop.database, TYPES, channels), Outbox(shop.database), TYPES, firing)


def test_an_attack_that_is_over_is_resolved_and_whoever_was_told_is_told(shop: Shop) -> None:
    alert_id = shop.add_alert(started=AGO - 10 * MINUTE, last_active=AGO)
    shop.add_instance(alert_id, heard=AGO, resolved=AGO + MINUTE)
    shop.add_notification(alert_id, status="SENT", sent_at=AGO, at=AGO)
    shop.add_notification(alert_id, channel_type="console", at=AGO)
    shop.add_notification(alert_id, channel_type="sms", status="FAILED", failed_at=AGO, at=AGO)
    for value in (0.31, 0.4519, BLOCK_RATE):
        shop.add_trigger(alert_id, {"block_rate": value})

    swept = sweep_of(shop).run_once(NOW)

    alert = shop.alert(alert_id)
    assert swept.resolved == 1
    assert (alert["status"], alert["session_status"]) == ("RESOLVED", "RESOLVED")
    assert (alert["resolved_by"], alert["resolved_at"], alert["version"]) == ("system", NOW, 2)
    told = {row["channel_type"]: row for row in shop.rows(notification, reason="resolved")}
    assert set(told) == {"slack", "console"}, "those who were told, or are about to be"
    content = told["slack"]["content"]
    assert content["status"] == "RESOLVED"
    assert content["peaks"] == {"block_rate": 0.4519}
    assert content["metrics"] == {"block_rate": BLOCK_RATE}
    assert content["channel_settings"] == {"channel": "#northwind"}
    assert content["resolved_at"] == (AGO + MINUTE).isoformat()
    (comment,) = shop.rows(alert_comment, comment_type="SYSTEM_LOG")
    assert "resolved by system" in comment["content"]
    assert told["slack"]["comment_id"] == comment["id"]
    assert [row["actor"] for row in shop.rows(audit_log)] == ["system"]


def test_nothing_happens_twice(shop: Shop) -> None:
    alert_id = shop.add_alert(started=AGO)
    shop.add_notification(alert_id, status="SENT", sent_at=AGO)
    sweep = sweep_of(shop)

    first, second = sweep.run_once(NOW), sweep.run_once(NOW + MINUTE)

    assert (first.resolved, second.resolved) == (1, 0)
    assert len(shop.rows(notification, reason="resolved")) == 1


def test_an_attack_that_nobody_was_told_of_ends_in_silence(shop: Shop) -> None:
    alert_id = shop.add_alert(started=AGO)

    sweep_of(shop).run_once(NOW)

    assert shop.alert(alert_id)["status"] == "RESOLVED"
    assert shop.rows(notification) == []


def test_each_type_has_its_own_timeout(shop: Shop) -> None:
    slow = shop.add_alert(started=AGO, alert_type="VELOCITY_ATTACK")
    recent = shop.add_alert(started=NOW - 14 * MINUTE)
    sweep = sweep_of(shop)

    sweep.run_once(NOW)
    assert (shop.alert(slow)["status"], shop.alert(recent)["status"]) == ("ACTIVE", "ACTIVE")
    sweep.run_once(NOW + 15 * MINUTE)
    assert (shop.alert(slow)["status"], shop.alert(recent)["status"]) == ("RESOLVED", "RESOLVED")


def test_a_lost_resolve_does_not_keep_an_attack_alive(shop: Shop) -> None:
    """Of an inhibited alert Alertmanager never sends a resolve."""
    alert_id = shop.add_alert(started=AGO)
    fingerprint = shop.add_instance(alert_id, heard=AGO)
    suppressed = shop.add_instance(None, heard=AGO)
    firing = Firing("something-else")

    swept = sweep_of(shop, firing).run_once(NOW)

    assert (swept.instances_ended, swept.resolved, firing.asked) == (2, 1, 1)
    ended = {row["fingerprint"]: row for row in shop.rows(alert_instance)}
    assert (ended[fingerprint]["status"], ended[fingerprint]["resolved_at"]) == ("RESOLVED", AGO)
    assert ended[suppressed]["status"] == "RESOLVED"
    logged = {row["fingerprint"]: row for row in shop.rows(alert_trigger_log)}
    assert set(logged) == {fingerprint, suppressed}
    assert {(row["source"], row["outcome"]) for row in logged.values()} == {("sweep", "resolved")}
    assert logged[fingerprint]["alert_id"] == alert_id
    assert shop.alert(alert_id)["status"] == "RESOLVED"


def test_what_alertmanager_still_holds_goes_on(shop: Shop) -> None:
    alert_id = shop.add_alert(started=AGO)
    fingerprint = shop.add_instance(alert_id, heard=AGO)

    swept = sweep_of(shop, Firing(fingerprint)).run_once(NOW)

    assert (swept.instances_confirmed, swept.expired, swept.resolved) == (1, 0, 0)
    assert shop.alert(alert_id)["session_status"] == "ACTIVE"
    assert shop.rows(alert_instance)[0]["last_heard_at"] == NOW


def test_while_alertmanager_is_away_the_session_expires_and_ends_later(shop: Shop) -> None:
    alert_id = shop.add_alert(started=AGO)
    fingerprint = shop.add_instance(alert_id, heard=AGO)

    swept = sweep_of(shop, Firing(away=True)).run_once(NOW)
    assert (swept.expired, swept.reconcile_failures) == (1, 1)
    assert shop.rows(alert_instance, fingerprint=fingerprint)[0]["status"] == "FIRING"
    assert (shop.alert(alert_id)["status"], shop.alert(alert_id)["session_status"]) == ("ACTIVE", "EXPIRED")
    assert sweep_of(shop, Firing(away=True)).run_once(NOW + MINUTE).expired == 0

    swept = sweep_of(shop, Firing()).run_once(NOW + 2 * MINUTE)
    assert (swept.resolved, swept.reconcile_failures) == (1, 0)
    assert shop.alert(alert_id)["status"] == "RESOLVED"


def test_alertmanager_is_not_asked_without_need(shop: Shop) -> None:
    shop.add_instance(shop.add_alert(started=NOW), heard=NOW)
    firing = Firing()

    sweep_of(shop, firing).run_once(NOW + MINUTE)

    assert firing.asked == 0


def test_a_delivery_that_came_meanwhile_wins(shop: Shop) -> None:
    fingerprint = shop.add_instance(shop.add_alert(started=AGO), heard=AGO)

    class Meanwhile(Firing):
        def firing(self) -> frozenset[str]:
            with shop.database.write() as connection:
                connection.execute(sa.update(alert_instance).values(last_heard_at=NOW))
            return super().firing()

    swept = sweep_of(shop, Meanwhile()).run_once(NOW)

    assert swept.instances_ended == 0
    assert shop.rows(alert_instance, fingerprint=fingerprint)[0]["status"] == "FIRING"
    assert shop.rows(alert_trigger_log) == []


def test_severity_rises_while_an_attack_lasts(shop: Shop) -> None:
    two_hours = NOW - timedelta(hours=2)
    alert_id = shop.add_alert(started=two_hours, last_active=NOW, current_severity="P3")
    shop.add_instance(alert_id, heard=NOW)
    shop.add_notification(alert_id, status="SENT", sent_at=two_hours, at=two_hours)

    swept = [sweep_of(shop).run_once(NOW).escalated for _ in range(2)]

    assert swept == [1, 0]
    alert = shop.alert(alert_id)
    assert (alert["current_severity"], alert["last_escalated_at"]) == ("P1", NOW)
    (entry,) = alert["escalation_history"]["escalations"]
    assert (entry["from_severity"], entry["to_severity"], entry["reason"]) == ("P3", "P1", "duration_threshold")
    (comment,) = shop.rows(alert_comment, comment_type="SEVERITY_ESCALATION")
    rows = shop.rows(notification, reason="escalated")
    assert {row["channel_type"] for row in rows} == {"slack", "console"}
    assert {(row["priority"], row["comment_id"]) for row in rows} == {(2, comment["id"])}
    assert all(row["content"]["severity"] == "P1" for row in rows)
    assert all(row["content"]["merchant_name"] == "Northwind Books" for row in rows)


def test_a_rise_is_told_on_the_channels_that_its_severity_opens(shop: Shop) -> None:
    alert_id = shop.add_alert(started=NOW - timedelta(hours=2), last_active=NOW, current_severity="P2")
    shop.add_instance(alert_id, heard=NOW)
    sms = {"sms": {"phone_numbers": ["+14155550100"]}}

    Sweep(Sweeping(shop.database, TYPES, sms), Outbox(shop.database), TYPES).run_once(NOW)

    (row,) = shop.rows(notification)
    assert (row["channel_type"], row["reason"], row["content"]["severity"]) == ("sms", "escalated", "P1")


def test_an_attack_that_has_ended_does_not_rise_while_it_waits_for_its_timeout(shop: Shop) -> None:
    alert_id = shop.add_alert(started=NOW - timedelta(hours=7), last_active=NOW)
    shop.add_instance(alert_id, heard=NOW, resolved=NOW)

    assert sweep_of(shop).run_once(NOW).escalated == 0


def test_an_attack_that_ended_while_the_worker_was_away_does_not_rise(shop: Shop) -> None:
    """Alertmanager has restarted too, and does not yet know what fires."""
    long_ago = NOW - timedelta(hours=9)
    alert_id = shop.add_alert(started=long_ago - 5 * MINUTE, last_active=long_ago, current_severity="P3")
    shop.add_instance(alert_id, heard=long_ago)

    swept = sweep_of(shop, Firing(away=True)).run_once(NOW)

    assert (swept.escalated, swept.expired) == (0, 1)
    assert shop.alert(alert_id)["current_severity"] == "P3"
    assert shop.rows(notification) == []


def test_only_what_was_heard_of_lately_rises_even_before_it_is_settled(shop: Shop) -> None:
    long_ago = NOW - timedelta(hours=9)
    alert_id = shop.add_alert(started=long_ago)
    shop.add_instance(alert_id, heard=NOW - 16 * MINUTE)
    store = Sweeping(shop.database, TYPES, {})

    with store.batch(NOW) as batch:
        assert batch.long_lasting(None, 9) == []
    shop.add_instance(alert_id, heard=NOW - 14 * MINUTE)
    with store.batch(NOW) as batch:
        assert [session.alert_id for session in batch.long_lasting(None, 9)] == [alert_id]


def test_what_fires_below_the_merchants_threshold_does_not_rise_and_ends(shop: Shop) -> None:
    two_hours = NOW - timedelta(hours=2)
    alert_id = shop.add_alert(started=two_hours, last_active=NOW - 10 * MINUTE)
    fingerprint = shop.add_instance(alert_id, heard=NOW, passed=NOW - 10 * MINUTE)
    shop.add_notification(alert_id, status="SENT", sent_at=two_hours, at=two_hours)

    first = sweep_of(shop).run_once(NOW)
    assert (first.escalated, first.resolved) == (0, 0)
    second = sweep_of(shop).run_once(NOW + 6 * MINUTE)

    assert (second.escalated, second.resolved) == (0, 1)
    (told,) = shop.rows(notification, reason="resolved")
    assert told["content"]["resolved_at"] == (NOW - 10 * MINUTE).isoformat()
    assert "own conditions" in shop.alert(alert_id)["resolution_note"]
    assert shop.rows(alert_instance, fingerprint=fingerprint)[0]["status"] == "FIRING", "it is watched on"


def test_what_was_suppressed_stays_so_when_alertmanager_confirms_it(shop: Shop) -> None:
    alert_id = shop.add_alert(started=AGO)
    suppressed = shop.add_instance(alert_id, heard=AGO, passed=AGO - MINUTE)

    swept = sweep_of(shop, Firing(suppressed)).run_once(NOW)

    assert (swept.instances_confirmed, swept.resolved) == (1, 1)
    assert sweep_of(shop, Firing()).run_once(NOW + 16 * MINUTE).instances_ended == 1
    assert [row["alert_id"] for row in shop.rows(alert_trigger_log)] == [alert_id]


def test_more_than_one_batch(shop: Shop) -> None:
    ids = [shop.add_alert(started=AGO) for _ in range(BATCH + 3)]

    assert sweep_of(shop).run_once(NOW).resolved == len(ids)


def test_two_workers_that_sweep_at_once_resolve_and_tell_once(shop: Shop) -> None:
    for _ in range(30):
        alert_id = shop.add_alert(started=AGO)
        shop.add_instance(alert_id, heard=AGO)
        shop.add_notification(alert_id, status="SENT", sent_at=AGO)
    barrier = Barrier(3)

    def work(_: int) -> tuple[int, int]:
        barrier.wait()
        swept = sweep_of(shop, Firing()).run_once(NOW)
        return swept.resolved, swept.instances_ended

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(work, range(3)))
    rest = sweep_of(shop, Firing()).run_once(NOW)

    assert sum(resolved for resolved, _ in done) + rest.resolved == 30
    assert sum(ended for _, ended in done) + rest.instances_ended == 30
    assert len(shop.rows(notification, reason="resolved")) == 30
    assert {row["version"] for row in shop.rows(alert_dynamic)} == {2}


def test_leases_of_dead_workers_are_freed(shop: Shop) -> None:
    stuck = shop.add_notification(shop.add_alert(), at=NOW - 10 * MINUTE)
    Outbox(shop.database).claim(1, "dead", NOW - 5 * MINUTE, MINUTE)

    assert sweep_of(shop).run_once(NOW).leases_freed == 1
    assert shop.row(stuck)["status"] == "PENDING"


def waits_for_a_lock(shop: Shop) -> bool:
    with shop.database.read() as connection:
        return bool(connection.scalar(sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)  # SQLite lets one writer in at a time
def test_a_sweep_that_meets_a_delivery_locks_instances_in_its_order(shop: Shop) -> None:
    """A delivery writes b, then c; the sweep would have confirmed a and c before it ended b."""
    alert_id = shop.add_alert(started=AGO)
    for fingerprint in "cab":
        shop.add_instance(alert_id, heard=AGO, fingerprint=fingerprint)
    i = alert_instance.c
    with ThreadPoolExecutor(1) as pool, shop.database.write() as delivery:
        delivery.execute(sa.update(alert_instance).where(i.fingerprint == "b").values(severity="P1"))
        sweep = pool.submit(sweep_of(shop, Firing("a", "c")).run_once, NOW)
        wait_for(lambda: waits_for_a_lock(shop), what="the sweep waits")
        delivery.execute(sa.update(alert_instance).where(i.fingerprint == "c").values(severity="P1"))
        delivery.commit()
        assert sweep.result(60).instances_ended == 1


def test_a_round_that_met_another_transaction_is_done_again(shop: Shop) -> None:
    alert_id = shop.add_alert(started=AGO)
    shop.add_notification(alert_id, status="SENT", sent_at=AGO)
    sweep = sweep_of(shop)
    store = sweep.store

    class Deadlocked(Sweeping):
        met = 0

        @contextmanager
        def batch(self, now: datetime) -> Iterator[SweepBatch]:
            with store.batch(now) as batch:
                yield batch
                Deadlocked.met += 1
                if Deadlocked.met == 2:  # settling, after the flapping ones were looked at
                    raise StoreConflict("deadlock")

    swept = replace(sweep, store=Deadlocked(shop.database, TYPES, {})).run_once(NOW)

    assert (swept.resolved, Deadlocked.met) == (1, 4)
    assert len(shop.rows(notification, reason="resolved")) == 1


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)  # SQLite lets one writer in at a time
def test_a_session_that_another_sweep_holds_is_left_to_it(shop: Shop) -> None:
    store = Sweeping(shop.database, TYPES, {})
    held, free = shop.add_alert(started=AGO), NOW + 9 * MINUTE
    shop.add_instance(held, heard=AGO)

    with store.batch(NOW) as first, store.batch(free) as second:
        assert [session.alert_id for session, _ in first.timed_out(None, 9)] == [held]
        assert second.timed_out(None, 9) == []
        assert second.long_lasting(None, 9) == []
