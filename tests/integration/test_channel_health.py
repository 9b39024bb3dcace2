"""How channels fare as metrics, over each database: what the outbox holds, and what providers asked for."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from notes import NOW, Shop, shop
from prometheus_client import CollectorRegistry

from webhook.pipeline.delivery_metrics import DeliveryMetrics
from webhook.storage.channel_health import ChannelHealth, channel_health
from webhook.storage.delivery_tables import pace

__all__ = ["shop"]


def health(shop: Shop, accounts: frozenset[str] | None = None) -> dict[str, ChannelHealth]:
    with shop.database.read() as connection:
        return channel_health(connection, NOW, accounts)


def paused(shop: Shop, notification_id: str, until: timedelta) -> None:
    with shop.database.write() as connection:
        target = shop.row(notification_id)["target"]
        connection.execute(sa.insert(pace).values(target=target, free_at=NOW + until))


def test_what_is_tried_again_and_paused_is_told_by_channel_and_account(shop: Shop) -> None:
    alert_id = shop.add_alert()
    shop.add_notification(alert_id, status="SENT", sent_at=NOW - timedelta(minutes=1))
    failing = shop.add_notification(alert_id, retry_count=2, error_message="Slack: HTTP 503")
    shop.add_notification(alert_id, channel_type="sms", account_id="acc_018")
    paused(shop, failing, timedelta(minutes=5))
    found = health(shop)
    assert found["slack"] == ChannelHealth(
        last_sent_at=NOW - timedelta(minutes=1),
        waiting=1,
        retrying=1,
        retry_error="Slack: HTTP 503",
        paused_until=NOW + timedelta(minutes=5),
    )
    assert found["sms"] == ChannelHealth(waiting=1)
    assert set(health(shop, frozenset({"acc_018"}))) == {"sms"}
    assert health(shop, frozenset({"acc_nobody"})) == {}


def test_a_place_to_which_something_is_being_sent_is_not_paused(shop: Shop) -> None:
    alert_id = shop.add_alert()
    sending = shop.add_notification(alert_id, status="SENDING", lease_until=NOW + timedelta(minutes=1))
    shop.add_notification(alert_id)
    paused(shop, sending, timedelta(minutes=1))
    assert health(shop)["slack"].paused_until is None
    assert health(shop)["slack"].waiting == 2


def test_the_metrics_are_what_the_outbox_holds_and_go_with_the_lead(shop: Shop) -> None:
    alert_id = shop.add_alert()
    shop.add_notification(alert_id, status="SENT", sent_at=NOW)
    paused(shop, shop.add_notification(alert_id, retry_count=1), timedelta(minutes=5))
    registry = CollectorRegistry()
    metrics = DeliveryMetrics(registry)

    def told(name: str) -> float | None:
        return registry.get_sample_value(f"sentinel_channel_{name}", {"channel": "slack"})

    metrics.channels(health(shop))
    assert told("last_success_timestamp_seconds") == NOW.timestamp()
    assert told("last_failure_timestamp_seconds") is None
    assert (told("waiting"), told("retrying")) == (1, 1)
    assert told("paused_until_timestamp_seconds") == (NOW + timedelta(minutes=5)).timestamp()
    metrics.channels({})
    assert told("waiting") is None, "another worker tells it now"
