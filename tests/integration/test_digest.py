"""What was held back is summed up: once an hour, once for each merchant, and not when a later message told it."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from notes import NOW, Shop, shop

from webhook.domain.alert import AlertTypes
from webhook.domain.gathered import gathered
from webhook.pipeline.sweep import Sweep
from webhook.ports import Receipt
from webhook.storage.closing import _withdraw
from webhook.storage.frequency import read_notified
from webhook.storage.outbox import Outbox
from webhook.storage.sweeping import Sweeping
from webhook.storage.tables import alert_config, alert_dynamic, alert_trigger_log, notification

__all__ = ["shop"]

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
LATER = NOW + HOUR


def sweep_of(shop: Shop) -> Sweep:
    types = AlertTypes()
    return Sweep(
        Sweeping(shop.database, types, {"console": {}}, operations={"pager": {}}), Outbox(shop.database), types
    )


def hold_back(shop: Shop, alert_id: str, at: datetime, why: str = "frequency", account: str = "acc_017") -> None:
    row = {
        "id": str(uuid.uuid4()), "alert_id": alert_id, "source": "alertmanager", "fingerprint": "f",
        "condition_fingerprint": "c", "alert_name": "A", "alert_type": "CARD_TESTING", "account_id": account,
        "status": "FIRING", "severity": "P2", "starts_at": at, "metrics_data": {}, "labels": {}, "annotations": {},
        "verdict": {}, "outcome": "session_updated", "notify": f"withheld:{why}", "created_at": at,
    }  # fmt: skip
    with shop.database.write() as connection:
        connection.execute(sa.insert(alert_trigger_log).values(row))


def configure(shop: Shop, **settings: Any) -> None:
    row = {
        "id": str(uuid.uuid4()), "account_id": "acc_017", "alert_type": "CARD_TESTING", "enabled": True,
        "logic": "all", "channel_preferences": {}, "notification_settings": settings, "version": 1,
        "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    with shop.database.write() as connection:
        connection.execute(sa.insert(alert_config).values(row))


def digests(shop: Shop) -> list[dict[str, Any]]:
    return shop.rows(notification, reason="digest")


def test_what_was_held_back_is_told_after_an_hour_and_then_every_hour(shop: Shop) -> None:
    sweep, graver, other = sweep_of(shop), shop.add_alert(current_severity="P1"), shop.add_alert()
    for minute in range(12):
        hold_back(shop, graver if minute % 3 else other, NOW + minute * MINUTE)
    hold_back(shop, other, NOW + HOUR / 2, "strategy")
    assert sweep.tell_held_back(LATER - MINUTE) == 0
    assert sweep.tell_held_back(LATER) == 1
    assert sweep.tell_held_back(LATER + HOUR) == 0, "all of it was told"
    hold_back(shop, other, LATER + 2 * MINUTE)
    assert sweep.tell_held_back(LATER + HOUR) == 0
    assert sweep.tell_held_back(LATER + HOUR + 2 * MINUTE) == 1

    first, _ = digests(shop)
    assert (first["alert_id"], first["channel_type"], first["priority"]) == (graver, "console", 2)
    (note,) = Outbox(shop.database).claim(1, "one", LATER, HOUR)
    summary, message = gathered(note, "http://sentinel.example")
    assert message.title == "13 further triggers held back: Northwind Books"
    assert "since 2025-11-21 10:42:30 UTC were merged into 2 alerts" in message.text
    assert "12 by frequency limits, 1 by the notification strategy" in message.text
    assert "• P1 Card testing attack: 8\n• P2 Card testing attack: 5" in message.text
    before = shop.alert(graver)
    Outbox(shop.database).record_sent(note, Receipt("1"), summary, LATER)
    after = shop.alert(graver)
    assert (after["title"], after["last_notified_at"]) == (before["title"], before["last_notified_at"])
    with shop.database.read() as connection:
        assert read_notified(connection, {("acc_017", "CARD_TESTING")}, LATER) == {}, "it takes no place of a message"


@pytest.mark.parametrize("why", ["told later", "snoozed", "dismissed", "off", "merchant snoozed", "no channel", "told"])
def test_nothing_is_summed_up_where_there_is_no_need_or_no_wish(shop: Shop, why: str) -> None:
    alert_id = shop.add_alert()
    hold_back(shop, alert_id, NOW, {"no channel": "no_channel"}.get(why, "snoozed"))
    changes: dict[str, Any] = {}
    if why == "told later":
        shop.add_notification(alert_id, at=NOW + MINUTE, reason="resolved", status="SENT", sent_at=NOW + MINUTE)
    if why == "told":
        sweep_of(shop).tell_held_back(LATER)
        with shop.database.write() as connection:
            connection.execute(sa.delete(notification))
    if why == "snoozed":
        changes = {"snoozed_until": LATER + MINUTE}
    if why == "dismissed":
        changes = {"status": "DISMISSED", "session_status": "RESOLVED", "resolved_at": NOW}
    if why == "off":
        configure(shop, frequency_control={"digest": False})
    if why == "merchant snoozed":
        configure(shop, snooze_until=(LATER + MINUTE).isoformat())
    if changes:
        with shop.database.write() as connection:
            connection.execute(sa.update(alert_dynamic).values(changes))
    assert sweep_of(shop).tell_held_back(LATER) == 0
    assert digests(shop) == []
    after_the_snooze = sweep_of(shop).tell_held_back(LATER + 2 * MINUTE)
    assert after_the_snooze == (1 if "snoozed" in why else 0)


def test_what_was_snoozed_for_days_is_told_when_the_snooze_ends(shop: Shop) -> None:
    """Though others of its merchant were told of meanwhile."""
    sweep, asleep, other = sweep_of(shop), shop.add_alert(), shop.add_alert()
    hold_back(shop, asleep, NOW, "snoozed")
    hold_back(shop, other, NOW)
    with shop.database.write() as connection:
        until = sa.update(alert_dynamic).where(alert_dynamic.c.alert_id == asleep)
        connection.execute(until.values(snoozed_until=NOW + 100 * HOUR))
    assert sweep.tell_held_back(LATER) == 1
    assert sweep.tell_held_back(NOW + 99 * HOUR) == 0
    assert sweep.tell_held_back(NOW + 101 * HOUR) == 1
    assert [row["content"]["digest"]["triggers"] for row in digests(shop)] == [1, 1]
    assert sweep.tell_held_back(NOW + 103 * HOUR) == 0


def test_a_dismissed_alert_takes_no_digest_with_it(shop: Shop) -> None:
    gravest = shop.add_alert(current_severity="P1")
    hold_back(shop, gravest, NOW)
    hold_back(shop, shop.add_alert(), NOW)
    sweep_of(shop).tell_held_back(LATER)
    with shop.database.write() as connection:
        _withdraw(connection, [gravest])
    assert len(digests(shop)) == 1


def test_a_text_message_tells_of_what_is_told_by_text_alone(shop: Shop) -> None:
    channels = {"console": {}, "sms": {"phone_numbers": ["+14155550100"]}}
    sweep = Sweep(Sweeping(shop.database, AlertTypes(), channels), Outbox(shop.database), AlertTypes())
    hold_back(shop, shop.add_alert(current_severity="P3"), NOW)
    hold_back(shop, shop.add_alert(current_severity="P3", account_id="acc_2"), NOW, account="acc_2")
    hold_back(shop, shop.add_alert(current_severity="P1", account_id="acc_2"), NOW, account="acc_2")
    assert sweep.tell_held_back(LATER) == 2
    told = {(row["account_id"], row["channel_type"]): row["content"]["digest"]["alerts"] for row in digests(shop)}
    assert told == {("acc_017", "console"): 1, ("acc_2", "console"): 2, ("acc_2", "sms"): 1}


def test_many_workers_tell_it_once(shop: Shop) -> None:
    alert_id = shop.add_alert()
    hold_back(shop, alert_id, NOW)
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: sweep_of(shop).tell_held_back(LATER), range(4)))
    assert sorted(told) == [0, 0, 0, 1]
    assert len(digests(shop)) == 1


def test_digests_of_operations_go_to_the_on_call_channel(shop: Shop) -> None:
    hold_back(shop, shop.add_alert(account_id="_operations"), NOW, account="_operations")
    sweep_of(shop).tell_held_back(LATER)
    assert [row["channel_type"] for row in digests(shop)] == ["pager"]
