"""Who is next: merchants in turn, what providers allow over all workers, and tries that broke off."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from notes import NOW, Shop, shop
from servers import wait_for

from webhook.domain.gathered import gathered
from webhook.domain.retrying import NextTry
from webhook.domain.summary import template_summary
from webhook.ports import Receipt
from webhook.storage.outbox import Outbox
from webhook.storage.pacing import Paces
from webhook.storage.tables import alert_dynamic, notification
from webhook.turns import Turns

__all__ = ["shop"]

LEASE = timedelta(seconds=60)
SECOND = timedelta(seconds=1)


def place(channel: str) -> dict[str, object]:
    return {"channel_settings": {"channel": channel}, "metrics": {}}


def test_one_merchant_s_many_do_not_hold_up_the_others(shop: Shop) -> None:
    flood = [shop.add_notification(shop.add_alert(), reason="interval", at=NOW - timedelta(hours=1)) for _ in range(20)]
    others = [shop.add_notification(shop.add_alert(), account_id=f"acc_{number}") for number in range(5)]
    urgent = shop.add_notification(shop.add_alert(), priority=3, reason="interval")

    ids = [note.notification_id for note in Outbox(shop.database).claim(7, "one", NOW, LEASE)]

    assert ids[0] == urgent
    assert set(ids[1:]) - set(flood) == set(others)
    assert len(set(ids) & set(flood)) == 1


def test_only_what_has_room_is_claimed(shop: Shop) -> None:
    for number in range(4):
        for channel in ("slack", "sms"):
            shop.add_notification(shop.add_alert(), account_id=f"acc_{number}", channel_type=channel, priority=2)
    notes = Outbox(shop.database).claim(9, "one", NOW, LEASE, {"slack": 0, "sms": 3})
    assert [note.channel_type for note in notes] == ["sms"] * 3


def test_a_target_gets_one_message_a_second_from_all_workers_together(shop: Shop) -> None:
    paces = Paces(targets={"slack": SECOND})
    for number in range(6):
        shop.add_notification(shop.add_alert(), account_id=f"acc_{number}", content=place("#shared"))
    elsewhere = shop.add_notification(shop.add_alert(), account_id="acc_9", content=place("#other"), priority=0)
    one, two = Outbox(shop.database, paces), Outbox(shop.database, paces)

    first, other = one.claim(9, "one", NOW, LEASE)
    assert other.notification_id == elsewhere, "who waits for a place holds up no other place"
    assert two.claim(9, "two", NOW, LEASE) == []
    one.record_sent(first, Receipt(), template_summary(first), NOW)
    assert two.claim(9, "two", NOW + 0.9 * SECOND, LEASE) == []
    (second,) = two.claim(9, "two", NOW + SECOND, LEASE)
    assert second.target == first.target
    assert one.claim(9, "one", NOW + 30 * SECOND, LEASE) == [], "it is still being sent"
    two.record_failed(second, "wait", NOW + SECOND, NextTry(NOW + 9 * SECOND, 8 * SECOND, counted=False))
    assert one.claim(9, "one", NOW + 8 * SECOND, LEASE) == []
    assert len(one.claim(9, "one", NOW + 9 * SECOND, LEASE)) == 1


def test_two_workers_at_once_take_a_target_once(shop: Shop) -> None:
    paces, barrier = Paces(targets={"slack": SECOND}), threading.Barrier(4)
    for number in range(8):
        shop.add_notification(shop.add_alert(), account_id=f"acc_{number}")

    def claim(name: int) -> int:
        barrier.wait()
        return len(Outbox(shop.database, paces).claim(4, f"w{name}", NOW, LEASE))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(claim, range(4))) == 1


def test_a_channel_keeps_its_rate(shop: Shop) -> None:
    outbox = Outbox(shop.database, Paces(channels={"sms": SECOND / 10}))
    for number in range(40):
        shop.add_notification(shop.add_alert(), account_id=f"acc_{number}", channel_type="sms")
    taken = [len(outbox.claim(40, "one", NOW + step * SECOND / 20, LEASE)) for step in range(40)]
    assert sum(taken[:20]) <= 11
    assert sum(taken) in (20, 21)


def test_many_workers_keep_a_channels_rate_together(shop: Shop) -> None:
    paces, barrier = Paces(channels={"sms": SECOND}), threading.Barrier(4)
    for number in range(8):
        shop.add_notification(shop.add_alert(), account_id=f"acc_{number}", channel_type="sms")

    def claim(name: int) -> int:
        barrier.wait()
        return len(Outbox(shop.database, paces).claim(4, f"w{name}", NOW, LEASE))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(claim, range(4))) == 1


def test_a_shorter_wait_takes_nothing_from_a_longer_one(shop: Shop) -> None:
    outbox = Outbox(shop.database)
    for number in range(3):
        shop.add_notification(shop.add_alert(), account_id=f"acc_{number}")
    first, second, third = outbox.claim(3, "one", NOW, LEASE)
    outbox.record_failed(first, "wait", NOW, NextTry(NOW, 60 * SECOND, counted=False))
    outbox.record_failed(second, "wait", NOW, NextTry(NOW, 5 * SECOND, counted=False))
    outbox.record_sent(third, Receipt(), template_summary(third), NOW)
    assert outbox.claim(3, "one", NOW + 59 * SECOND, LEASE) == []
    assert len(outbox.claim(3, "one", NOW + 60 * SECOND, LEASE)) == 2


def test_an_account_that_is_limited_makes_its_whole_channel_wait(shop: Shop) -> None:
    outbox, settings = Outbox(shop.database), {"channel_settings": {"phone_numbers": ["+14155550100"]}}
    for number in range(2):
        shop.add_notification(shop.add_alert(), account_id=f"acc_{number}", channel_type="sms")
    (first,) = outbox.claim(1, "one", NOW, LEASE)
    outbox.record_failed(first, "wait", NOW, NextTry(NOW, 60 * SECOND, channel=True, counted=False))
    shop.add_notification(shop.add_alert(), channel_type="sms", content=settings)
    elsewhere = shop.add_notification(shop.add_alert())
    assert [note.notification_id for note in outbox.claim(9, "one", NOW + 59 * SECOND, LEASE)] == [elsewhere]
    assert len(outbox.claim(9, "one", NOW + 60 * SECOND, LEASE)) == 3


def test_many_that_rise_together_are_one_message(shop: Shop) -> None:
    ids = [shop.add_notification(shop.add_alert(), reason="escalated", priority=3) for _ in range(20)]
    (note,) = Outbox(shop.database).claim(9, "one", NOW, LEASE)
    _, message = gathered(note, "http://sentinel.example")
    assert message.title.startswith("20 alerts have risen to")
    Outbox(shop.database).record_sent(note, Receipt("1"), template_summary(note), NOW)
    assert {shop.row(id_)["status"] for id_ in ids} == {"SENT"}


@pytest.mark.parametrize(("reason", "told"), [("first", 0), ("escalated", 0), ("digest", 1), ("mention", 1)])
def test_what_a_worker_died_over_is_not_told_of_a_dismissed_alert(shop: Shop, reason: str, told: int) -> None:
    outbox, alert_id = Outbox(shop.database), shop.add_alert()
    row = shop.add_notification(alert_id, reason=reason)
    outbox.claim(1, "dies", NOW, LEASE)
    with shop.database.write() as connection:
        ended = {"status": "DISMISSED", "session_status": "RESOLVED", "resolved_at": NOW}
        connection.execute(sa.update(alert_dynamic).values(**ended))
    assert len(outbox.claim(1, "two", NOW + 2 * LEASE, LEASE)) == told
    assert len(shop.rows(notification, id=row)) == told


def test_a_try_that_broke_off_in_the_call_is_told_from_one_before_it(shop: Shop) -> None:
    outbox = Outbox(shop.database)
    for number in range(2):
        shop.add_notification(shop.add_alert(), account_id=f"acc_{number}")
    before, during = outbox.claim(2, "dies", NOW, LEASE)
    assert outbox.begin(during, NOW)
    outbox.release_expired(NOW + 2 * LEASE)

    again = {note.notification_id: note for note in outbox.claim(2, "lives", NOW + 2 * LEASE, LEASE)}
    assert not again[before.notification_id].maybe_repeated
    assert again[during.notification_id].maybe_repeated
    assert not outbox.begin(during, NOW + 2 * LEASE), "its lease is another's now"


def test_a_try_that_failed_was_no_broken_one(shop: Shop) -> None:
    outbox = Outbox(shop.database)
    shop.add_notification(shop.add_alert())
    (note,) = outbox.claim(2, "one", NOW, LEASE)
    outbox.begin(note, NOW)
    outbox.record_failed(note, "HTTP 500", NOW, NextTry(NOW))
    (note,) = outbox.claim(2, "dies", NOW, LEASE)
    (note,) = outbox.claim(2, "lives", NOW + 2 * LEASE, LEASE)
    assert not note.maybe_repeated


def test_writes_that_wait_go_together_and_one_that_fails_harms_no_other() -> None:
    go_on, groups = threading.Event(), list[list[int]]()

    def write(items: Sequence[int]) -> list[int]:
        groups.append(list(items))
        if len(groups) == 1:
            go_on.wait()
        if 3 in items:
            raise ValueError(items)
        return [item * 10 for item in items]

    turns = Turns(write)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(turns, 0)
        wait_for(lambda: bool(groups))
        rest = [pool.submit(turns, item) for item in (1, 2, 3, 4)]
        wait_for(lambda: turns.waiting == 4)
        go_on.set()
        assert first.result() == 0
        assert [rest[0].result(), rest[1].result(), rest[3].result()] == [10, 20, 40]
        with pytest.raises(ValueError, match="3"):
            rest[2].result()
    assert [sorted(group) for group in groups[:2]] == [[0], [1, 2, 3, 4]]
