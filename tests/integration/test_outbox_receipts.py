"""What a provider tells after it took a message: delivered, or not after all; also when it is faster than we are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from notes import NOW, Shop

from webhook.domain.message import Note
from webhook.domain.summary import template_summary
from webhook.ports import Receipt
from webhook.storage.outbox import Outbox
from webhook.storage.receipts import Receipts

LATER = NOW + timedelta(seconds=9)


@pytest.fixture
def shop(store_url: str) -> Iterator[Shop]:
    shop = Shop(store_url)
    yield shop
    shop.close()


def claimed(shop: Shop) -> Note:
    (note,) = Outbox(shop.database).claim(9, "one", NOW, timedelta(minutes=1))
    return note


def sent(shop: Shop, reference: str = "SM123") -> Note:
    shop.add_notification(shop.add_alert(), channel_type="sms")
    note = claimed(shop)
    assert Outbox(shop.database).record_sent(note, Receipt(reference), template_summary(note), NOW)
    return note


def test_what_arrived_is_delivered_once(shop: Shop) -> None:
    receipts, note = Receipts(shop.database), sent(shop)
    assert receipts.record_delivered(note.notification_id, LATER)
    assert receipts.record_delivered(note.notification_id, LATER + timedelta(hours=1))

    row = shop.row(note.notification_id)
    assert (row["status"], row["delivered_at"], row["sent_at"]) == ("DELIVERED", LATER, NOW)
    assert receipts.record_bounced(note.notification_id, "late", LATER)
    assert shop.row(note.notification_id)["status"] == "DELIVERED", "it cannot become undelivered"


def test_what_bounces_is_a_dead_letter(shop: Shop) -> None:
    receipts, note = Receipts(shop.database), sent(shop)
    assert receipts.record_bounced(note.notification_id, "unknown number", LATER)
    row = shop.row(note.notification_id)
    assert (row["status"], row["failed_at"], row["error_message"]) == ("FAILED", LATER, "unknown number")


def test_a_provider_may_be_faster_than_we_record(shop: Shop) -> None:
    receipts, outbox = Receipts(shop.database), Outbox(shop.database)
    for tell in (receipts.record_delivered, lambda id_, at: receipts.record_bounced(id_, "unknown number", at)):
        shop.add_notification(shop.add_alert(), channel_type="sms")
        note = claimed(shop)
        assert tell(note.notification_id, NOW)
        assert outbox.record_sent(note, Receipt("SM9"), template_summary(note), LATER)
        told = shop.row(note.notification_id)
        if told["delivered_at"] is None:
            assert (told["status"], told["error_message"]) == ("FAILED", "unknown number")
        else:
            assert (told["status"], told["delivered_at"]) == ("DELIVERED", NOW)


def test_nothing_is_known_of_what_was_not_sent(shop: Shop) -> None:
    receipts, waiting = Receipts(shop.database), shop.add_notification(shop.add_alert())
    assert not receipts.record_delivered(waiting, NOW)
    assert not receipts.record_bounced("00000000-0000-4000-8000-000000000000", "?", NOW)
    assert shop.row(waiting)["status"] == "PENDING"
