"""Very many alerts at once: of one merchant one message, of as many merchants one each, the gravest first."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from notes import NOW, Shop, shop

from webhook.domain.message import Note
from webhook.domain.summary import template_summary
from webhook.domain.target import target_of
from webhook.ports import Receipt
from webhook.storage.outbox import Outbox
from webhook.storage.pacing import Paces
from webhook.storage.tables import alert, alert_dynamic, notification

__all__ = ["shop"]

MANY, MERCHANTS = 2000, 300
SECOND, LEASE = timedelta(seconds=1), timedelta(seconds=90)
Sent = list[tuple[datetime, Note]]


def flood(shop: Shop, many: int, notification_of: Callable[[int], dict[str, Any]]) -> None:
    """Alerts whose first message waits; what `notification_of` says of each is its own."""
    told = shop.add_notification(shop.add_alert())
    with shop.database.write() as connection:
        samples = {
            table: dict(connection.execute(sa.select(table)).mappings().one()) for table in (alert, alert_dynamic)
        }
        message = dict(connection.execute(sa.select(notification).where(notification.c.id == told)).mappings().one())
        rows: dict[sa.Table, list[dict[str, Any]]] = {alert: [], alert_dynamic: [], notification: []}
        for number in range(1, many):
            ids = {"id": str(uuid.uuid4()), "condition_fingerprint": uuid.uuid4().hex}
            own = notification_of(number)
            account = {"account_id": own.get("account_id", message["account_id"])}
            rows[alert].append(samples[alert] | ids | account)
            rows[alert_dynamic].append(samples[alert_dynamic] | ids | {"id": str(uuid.uuid4()), "alert_id": ids["id"]})
            row = message | {"id": str(uuid.uuid4()), "alert_id": ids["id"]} | own
            rows[notification].append(row | {"target": target_of("slack", row["content"]["channel_settings"])})
        for table, those in rows.items():
            connection.execute(sa.insert(table), those)


def waiting(shop: Shop) -> int:
    query = sa.select(sa.func.count()).select_from(notification).where(notification.c.status != "SENT")
    with shop.database.read() as connection:
        return connection.scalar(query) or 0


def deliver(shop: Shop, paces: Paces) -> Sent:
    """All that waits, by a worker that sends what it may each second."""
    outbox, now, sent = Outbox(shop.database, paces), NOW, Sent()
    while waiting(shop):
        while notes := outbox.claim(100, "one", now, LEASE):
            for note in notes:
                assert outbox.begin(note, now)
                assert outbox.record_sent(note, Receipt(), template_summary(note), now)
                sent.append((now, note))
        now += SECOND
    return sent


def test_of_one_merchant_they_are_a_handful_of_messages(shop: Shop) -> None:
    flood(shop, MANY, lambda _: {})
    sent = deliver(shop, Paces(targets={"slack": SECOND}))
    assert len(sent) <= 5
    assert sum(1 + len(note.companions) for _, note in sent) == MANY


def test_of_as_many_merchants_everyone_is_served_the_gravest_first_and_no_limit_is_broken(shop: Shop) -> None:
    def own(number: int) -> dict[str, Any]:
        place = "#shared" if number % 20 == 0 else f"#shop-{number}"
        content = {"severity": "P0" if number % 50 == 1 else "P2", "channel_settings": {"channel": place}}
        priority = 3 if number % 50 == 1 else 1
        return {"account_id": f"acc_{number}", "priority": priority, "content": content | REST}

    flood(shop, MERCHANTS, own)
    sent = deliver(shop, Paces(targets={"slack": SECOND}))
    assert sorted(note.account_id for _, note in sent) == sorted(
        ["acc_017", *(f"acc_{n}" for n in range(1, MERCHANTS))]
    )
    urgent = [note.severity.name == "P0" for _, note in sent]
    assert urgent == sorted(urgent, reverse=True)
    assert sum(urgent) == MERCHANTS // 50
    shared = [at for at, note in sent if note.target == target_of("slack", {"channel": "#shared"})]
    assert len(shared) == MERCHANTS // 20 - 1
    assert all(later - earlier >= SECOND for earlier, later in pairwise(shared))


REST: dict[str, Any] = {"status": "ACTIVE", "reason": "first", "merchant_name": "A shop", "rule_summary": "Blocked",
                        "metrics": {}, "thresholds": {}, "occurrence_count": 1}  # fmt: skip
