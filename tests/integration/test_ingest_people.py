"""What a person closes stays closed, and who is told of it, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from ingest_shop import MINUTE, Shop, by, firing, shop

from webhook.domain.action import DismissReason
from webhook.domain.ledger import IngestSettings
from webhook.domain.session import IllegalChange
from webhook.ports import AlertNotFound
from webhook.storage.access_tables import audit_log
from webhook.storage.outbox import Outbox
from webhook.storage.tables import alert_comment, alert_dynamic, notification

__all__ = ["shop"]


@pytest.mark.parametrize("close", ["resolve", "dismiss"])
def test_what_a_person_closed_stays_closed_until_it_fires_anew(shop: Shop, close: str) -> None:
    (entry,) = shop.deliver(firing()).entries
    assert entry.alert_id is not None
    shop.now += MINUTE
    if close == "resolve":
        shop.actions.resolve(entry.alert_id, "blocked", by("ana", shop.now))
    else:
        shop.actions.dismiss(entry.alert_id, DismissReason.OTHER, "a sale", by("ana", shop.now))
    assert shop.outcomes(firing(), after=5 * MINUTE) == ["stale"]
    assert shop.outcomes(firing(), after=timedelta(hours=30)) == ["stale"]
    assert shop.outcomes(firing(starts_at=shop.now)) == ["created"]


def test_resolving_tells_who_was_told_and_leaves_a_trail(shop: Shop) -> None:
    shop.settings = IngestSettings(channels={"console": {}, "slack": {"channel": "#fraud"}})
    (entry,) = shop.deliver(firing(), firing(name="CardTestingSevere", block_rate="0.5")).entries[:1]
    assert entry.alert_id is not None
    assert shop.outcomes(firing(block_rate="0.3"), after=5 * MINUTE) == ["session_updated"]
    was_sent(shop, "console", "slack")
    shop.actions.resolve(entry.alert_id, "blocked", by("ana", shop.now + MINUTE))

    (state,) = shop.rows(alert_dynamic)
    assert (state["status"], state["session_status"]) == ("RESOLVED", "RESOLVED")
    assert (state["resolved_by"], state["resolution_note"]) == ("ana", "blocked")
    ends = [row for row in shop.rows(notification) if row["reason"] == "resolved"]
    assert {row["channel_type"]: row["content"]["channel_settings"] for row in ends} == {
        "console": {},
        "slack": {"channel": "#fraud"},
    }
    assert all(row["content"]["status"] == "RESOLVED" for row in ends)
    assert all(row["content"]["peaks"] == {"block_rate": 0.5} for row in ends)
    assert all(row["content"]["metrics"] == {"block_rate": 0.3} for row in ends)
    (audit,) = shop.rows(audit_log)
    assert (audit["actor"], audit["authenticated_as"]) == ("ana", "admin token")
    assert shop.rows(alert_comment)[-1]["content"] == "Alert resolved by ana: blocked"
    with pytest.raises(IllegalChange):
        shop.actions.dismiss(entry.alert_id, DismissReason.OTHER, "", by("bo", shop.now))
    with pytest.raises(AlertNotFound):
        shop.actions.resolve("11111111-1111-4111-8111-111111111111", "", by("bo", shop.now))


def was_sent(shop: Shop, *channels: str) -> None:
    with shop.database.write() as connection:
        sent = sa.update(notification).where(notification.c.channel_type.in_(channels))
        connection.execute(sent.values(status="SENT", sent_at=shop.now))


def test_dismissing_tells_nobody_what_was_not_sent_yet(shop: Shop) -> None:
    shop.settings = IngestSettings(channels={"console": {}, "slack": {}})
    (entry,) = shop.deliver(firing()).entries
    assert entry.alert_id is not None
    was_sent(shop, "slack")
    shop.actions.dismiss(entry.alert_id, DismissReason.OTHER, "a sale", by("ana", shop.now))
    assert [(row["channel_type"], row["reason"]) for row in shop.rows(notification)] == [("slack", "first")]
    assert Outbox(shop.database).claim(9, "worker", shop.now + MINUTE, MINUTE) == []
    assert shop.rows(audit_log)[0]["details"]["withdrawn"] == ["console:first"]


def test_a_person_who_resolves_comes_before_what_was_not_sent_yet(shop: Shop) -> None:
    shop.settings = IngestSettings(channels={"console": {}, "slack": {}})
    (entry,) = shop.deliver(firing()).entries
    assert entry.alert_id is not None
    was_sent(shop, "slack")
    shop.deliver(firing(name="CardTestingSevere", severity="P1"), after=MINUTE)
    assert len(shop.rows(notification, reason="escalated")) == 2
    shop.actions.resolve(entry.alert_id, "blocked", by("ana", shop.now))
    told = [(row["channel_type"], row["reason"]) for row in shop.rows(notification)]
    assert told == [("slack", "first"), ("slack", "resolved")]


def test_what_a_person_closed_stays_closed_whatever_they_call_themselves(shop: Shop) -> None:
    (entry,) = shop.deliver(firing()).entries
    assert entry.alert_id is not None
    shop.actions.dismiss(entry.alert_id, DismissReason.OTHER, "a sale", by("system", shop.now))
    assert shop.outcomes(firing(), after=5 * MINUTE) == ["stale"]
