"""Claiming and recording, on each database: order, leases, retries, dead letters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from notes import NOW, Shop, shop

from webhook.domain.retrying import NextTry
from webhook.domain.summary import template_summary
from webhook.ports import Receipt
from webhook.storage.outbox import Outbox
from webhook.storage.tables import alert_dynamic, notification

__all__ = ["shop"]

LEASE = timedelta(seconds=60)


@pytest.fixture
def outbox(shop: Shop) -> Outbox:
    return Outbox(shop.database)


def claimed(outbox: Outbox, now: datetime = NOW, *, owner: str = "one", limit: int = 10) -> list[str]:
    return [note.notification_id for note in outbox.claim(limit, owner, now, LEASE)]


def test_the_gravest_comes_first_then_the_oldest(shop: Shop, outbox: Outbox) -> None:
    mild = shop.add_notification(shop.add_alert(), priority=0, at=NOW - timedelta(minutes=9))
    late = shop.add_notification(shop.add_alert(), priority=3, at=NOW - timedelta(minutes=1))
    early = shop.add_notification(shop.add_alert(), priority=3, at=NOW - timedelta(minutes=2))

    assert claimed(outbox, limit=2) == [early, late]
    assert claimed(outbox) == [mild]


def test_a_note_carries_what_was_decided(shop: Shop, outbox: Outbox) -> None:
    alert_id = shop.add_alert(current_severity="P0", occurrence_count=99)
    shop.add_notification(alert_id)

    (note,) = outbox.claim(1, "one", NOW, LEASE)

    assert (note.severity, note.occurrence_count) == ("P2", 1)
    assert note.merchant_name == "Northwind Books"
    assert note.metrics == {"block_rate": 0.35038363171355497}
    assert note.channel_settings == {"channel": "#northwind"}
    assert note.first_triggered_at == NOW


def test_a_later_message_waits_for_an_earlier_one_of_the_same_alert_and_channel(shop: Shop, outbox: Outbox) -> None:
    alert_id = shop.add_alert()
    first = shop.add_notification(alert_id, at=NOW - timedelta(seconds=2))
    graver = shop.add_notification(alert_id, at=NOW - timedelta(seconds=1), priority=3, reason="escalated")
    elsewhere = shop.add_notification(alert_id, at=NOW, channel_type="console")

    assert set(claimed(outbox)) == {first, elsewhere}
    assert claimed(outbox) == []
    note = next(n for n in outbox.claim(9, "two", NOW + LEASE * 2, LEASE) if n.notification_id == first)
    outbox.record_failed(note, "later", NOW, NextTry(NOW + timedelta(hours=1)))
    assert graver not in claimed(outbox, NOW + timedelta(minutes=5)), (
        "it must not overtake one that waits to be retried"
    )
    claims = outbox.claim(9, "two", NOW + timedelta(hours=2), LEASE)
    (note,) = (claim for claim in claims if claim.notification_id == first)
    outbox.record_sent(note, Receipt("1.2"), template_summary(note), NOW)
    assert graver in claimed(outbox, NOW + timedelta(hours=2))


def test_messages_of_one_instant_go_out_mildest_first(shop: Shop, outbox: Outbox) -> None:
    alert_id = shop.add_alert()
    graver = shop.add_notification(alert_id, priority=2, reason="escalated")
    first = shop.add_notification(alert_id, priority=1)

    assert claimed(outbox) == [first]
    assert graver


def test_what_is_not_due_yet_is_left(shop: Shop, outbox: Outbox) -> None:
    later = shop.add_notification(shop.add_alert(), not_before=NOW + timedelta(seconds=1))

    assert outbox.claim(9, "one", NOW, LEASE) == []
    assert claimed(outbox, NOW + timedelta(seconds=1)) == [later]


def test_a_lease_that_ran_out_can_be_claimed_again_and_counts_as_a_try(shop: Shop, outbox: Outbox) -> None:
    shop.add_notification(shop.add_alert())
    (dead_workers,) = outbox.claim(1, "dead", NOW, LEASE)

    assert claimed(outbox, NOW + LEASE, owner="other") == []
    (note,) = outbox.claim(1, "other", NOW + LEASE * 2, LEASE)

    assert note.retry_count == 1
    assert not outbox.record_sent(dead_workers, Receipt(), template_summary(note), NOW), "its lease is lost"
    assert outbox.record_sent(note, Receipt(), template_summary(note), NOW)


def test_a_late_answer_cannot_end_the_next_lease_of_the_same_worker(shop: Shop, outbox: Outbox) -> None:
    sent = shop.add_notification(shop.add_alert())
    (late,) = outbox.claim(1, "one", NOW, LEASE)
    (again,) = outbox.claim(1, "one", NOW + LEASE * 2, LEASE)

    assert not outbox.record_failed(late, "timed out", NOW + LEASE * 2, NextTry(NOW + LEASE * 2))
    assert shop.row(sent)["status"] == "SENDING"
    assert outbox.record_sent(again, Receipt(), template_summary(again), NOW + LEASE * 2)


def test_a_worker_with_a_long_name_can_claim(shop: Shop, outbox: Outbox) -> None:
    sent = shop.add_notification(shop.add_alert())
    assert claimed(outbox, owner="w" * 99) == [sent]


def test_a_message_that_kills_its_worker_each_time_ends_as_a_dead_letter(shop: Shop, outbox: Outbox) -> None:
    poison = shop.add_notification(shop.add_alert())
    now = NOW
    for _ in range(8):
        outbox.claim(1, "worker", now, LEASE)
        now += LEASE * 2
        outbox.release_expired(now)

    row = shop.row(poison)
    assert (row["status"], row["retry_count"]) == ("FAILED", 5)
    assert row["failed_at"] is not None
    assert "died" in row["error_message"]


def test_sent_keeps_the_provider_s_answer_and_the_words_for_the_pages(shop: Shop, outbox: Outbox) -> None:
    alert_id = shop.add_alert()
    sent = shop.add_notification(alert_id)
    (note,) = outbox.claim(1, "one", NOW, LEASE)
    summary = template_summary(note)

    outbox.record_sent(note, Receipt("17.5", {"channel": "C1"}), summary, NOW + timedelta(seconds=1))
    outbox.record_chart(note, {"bytes": 7})

    row, told = shop.row(sent), shop.alert(alert_id)
    assert (row["status"], row["lease_owner"], row["lease_until"]) == ("SENT", None, None)
    assert row["sent_at"] == NOW + timedelta(seconds=1)
    assert row["metadata"] == {"provider": {"reference": "17.5", "channel": "C1"}, "chart": {"bytes": 7}}
    assert told["last_notified_at"] == NOW + timedelta(seconds=1)
    assert (told["title"], told["summary"]) == (summary.title, summary.text)
    assert told["suggested_action"] == summary.suggested_action
    assert told["metadata"]["summary_source"] == "template"
    assert told["metadata"]["rule_summary"] == "Blocked payments"


def test_a_message_knows_what_came_of_the_one_before_it_on_the_same_channel(shop: Shop, outbox: Outbox) -> None:
    alert_id, other = shop.add_alert(), shop.add_alert()

    def told(**changes: Any) -> Any:
        shop.add_notification(alert_id, **changes)
        (note,) = outbox.claim(1, "one", NOW + timedelta(hours=1), LEASE)
        outbox.record_sent(
            note, Receipt(f"ts {note.reason}", {"channel": "C1"}), template_summary(note), note.created_at
        )
        return note.told_before

    row = shop.row(shop.add_notification(other, at=NOW + timedelta(days=1)))
    assert told() is None
    assert told(at=NOW + timedelta(minutes=1), reason="escalated") == {"reference": "ts first", "channel": "C1"}
    assert told(at=NOW + timedelta(minutes=2), channel_type="console") is None
    elsewhere = {**row["content"], "channel_settings": {"channel": "#other"}}
    assert told(at=NOW + timedelta(minutes=3), content=elsewhere) is None, "another place knows nothing of it"
    assert told(at=NOW + timedelta(minutes=4)) == {"reference": "ts escalated", "channel": "C1"}


def test_a_slow_channel_does_not_overwrite_newer_words(shop: Shop, outbox: Outbox) -> None:
    alert_id = shop.add_alert()
    shop.add_notification(alert_id, at=NOW - timedelta(minutes=9))
    shop.add_notification(alert_id, at=NOW, channel_type="console", reason="escalated", priority=2)
    newer, older = outbox.claim(2, "one", NOW, LEASE)

    outbox.record_sent(newer, Receipt(), template_summary(newer), NOW)
    outbox.record_sent(older, Receipt(), template_summary(older), NOW)

    assert "now P2" in shop.alert(alert_id)["title"]


def test_failures_come_back_until_none_names_a_time(shop: Shop, outbox: Outbox) -> None:
    failing, now = shop.add_notification(shop.add_alert()), NOW
    for number in range(1, 10):
        (note,) = outbox.claim(1, "one", now, LEASE)
        assert note.retry_count == number - 1
        outbox.record_failed(note, "HTTP 500", now, NextTry(now + timedelta(seconds=5)))
        now += timedelta(seconds=5)

    (note,) = outbox.claim(1, "one", now, LEASE)
    outbox.record_failed(note, "HTTP 500", now, NextTry(None))
    row = shop.row(failing)
    assert (row["status"], row["error_message"], row["retry_count"]) == ("FAILED", "HTTP 500", 10)
    assert row["failed_at"] == now
    assert claimed(outbox, now + timedelta(days=1)) == []


def test_failures_that_were_recorded_are_no_deaths_of_workers(shop: Shop, outbox: Outbox) -> None:
    failing, now = shop.add_notification(shop.add_alert()), NOW
    for _ in range(6):
        outbox.claim(1, "dies", now, LEASE)
        now += LEASE * 2
        assert outbox.release_expired(now) == 1
        (note,) = outbox.claim(1, "lives", now, LEASE)
        outbox.record_failed(note, "HTTP 500", now, NextTry(now))

    assert (shop.row(failing)["status"], shop.row(failing)["retry_count"]) == ("PENDING", 12)


def test_a_permanent_error_is_a_dead_letter_at_once_and_frees_what_comes_after(shop: Shop, outbox: Outbox) -> None:
    alert_id = shop.add_alert()
    gone = shop.add_notification(alert_id, at=NOW - timedelta(seconds=1))
    following = shop.add_notification(alert_id)
    (note,) = outbox.claim(1, "one", NOW, LEASE)

    outbox.record_failed(note, "Slack: is_archived", NOW, NextTry(None))

    assert shop.row(gone)["status"] == "FAILED"
    assert claimed(outbox) == [following]


def test_waiting_that_the_provider_asked_for_is_no_try(shop: Shop, outbox: Outbox) -> None:
    waiting, now = shop.add_notification(shop.add_alert()), NOW
    for _ in range(7):
        (note,) = outbox.claim(1, "one", now, LEASE)
        now += timedelta(seconds=30)
        outbox.record_failed(note, "rate limited", now, NextTry(now, counted=False))

    assert (shop.row(waiting)["status"], shop.row(waiting)["retry_count"]) == ("PENDING", 0)


def test_a_row_that_cannot_be_read_does_not_hold_up_the_others(shop: Shop, outbox: Outbox) -> None:
    broken = shop.add_notification(shop.add_alert(), content={"severity": "P9"}, priority=3)
    good = shop.add_notification(shop.add_alert())

    assert claimed(outbox) == [good]
    assert shop.row(broken)["status"] == "FAILED"
    assert outbox.depth() == {"PENDING": 0, "SENDING": 1, "FAILED": 1}


def test_how_long_a_message_could_have_gone_out_is_known(shop: Shop, outbox: Outbox) -> None:
    later = NOW + timedelta(minutes=5)
    shop.add_notification(shop.add_alert(), not_before=later)
    assert outbox.oldest_due(NOW) == timedelta(0), "it waits for its time"
    shop.add_notification(shop.add_alert(), not_before=NOW)
    assert outbox.oldest_due(later + timedelta(minutes=1)) == timedelta(minutes=6)
    outbox.claim(9, "one", later, LEASE)
    assert outbox.oldest_due(later) == timedelta(0), "it is being sent"


def test_many_workers_at_once_never_claim_the_same_twice(shop: Shop, outbox: Outbox) -> None:
    ids = [shop.add_notification(shop.add_alert(), account_id=f"acc_{number}") for number in range(60)]
    workers, barrier = 6, Barrier(6)

    def work(name: str) -> list[str]:
        barrier.wait()
        taken: list[str] = []
        while batch := claimed(outbox, owner=name, limit=3):
            taken += batch
        return taken

    with ThreadPoolExecutor(workers) as pool:
        taken = [id_ for part in pool.map(work, (f"w{n}" for n in range(workers))) for id_ in part]

    # SKIP LOCKED may let a worker find nothing while others hold everything; a last look takes what is left.
    taken += claimed(outbox, limit=60)
    assert sorted(taken) == sorted(ids)
    with shop.database.read() as connection:
        assert connection.scalar(sa.select(sa.func.max(notification.c.retry_count))) == 0


def test_an_empty_outbox_is_asked_once_by_index(shop: Shop, outbox: Outbox) -> None:
    sent = shop.add_notification(shop.add_alert())
    shop.add_notification(shop.add_alert(), not_before=NOW + timedelta(hours=1))
    (note,) = outbox.claim(9, "one", NOW, LEASE)
    outbox.record_sent(note, Receipt(), template_summary(note), NOW)
    assert shop.row(sent)["status"] == "SENT"
    asked: list[tuple[str, Any]] = []

    def note_statement(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        asked.append((statement, parameters))

    sa.event.listen(shop.database.engine, "before_cursor_execute", note_statement)
    assert claimed(outbox) == []
    sa.event.remove(shop.database.engine, "before_cursor_execute", note_statement)

    ((statement, parameters),) = [entry for entry in asked if entry[0].startswith("SELECT")]
    if shop.database.dialect == "sqlite":
        with shop.database.read() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
        assert "ix_notification_status_not_before" in str(plan)


@pytest.mark.parametrize("how", ["failed", "worker died"])
def test_what_was_being_sent_when_its_alert_was_dismissed_is_not_tried_again(
    shop: Shop, outbox: Outbox, how: str
) -> None:
    alert_id, other = shop.add_alert(), shop.add_notification(shop.add_alert(), at=NOW + timedelta(hours=1))
    shop.add_notification(alert_id)
    (note,) = outbox.claim(1, "one", NOW, LEASE)
    with shop.database.write() as connection:
        closed = {"status": "DISMISSED", "session_status": "RESOLVED", "resolved_at": NOW}
        connection.execute(sa.update(alert_dynamic).where(alert_dynamic.c.alert_id == alert_id).values(closed))

    if how == "failed":
        assert outbox.record_failed(note, "HTTP 500", NOW, NextTry(NOW + LEASE))
    else:
        assert outbox.release_expired(NOW + 2 * LEASE) == 1

    assert [row["id"] for row in shop.rows(notification)] == [other]
