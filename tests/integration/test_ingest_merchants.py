"""What merchants have set for themselves decides, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from ingest_shop import MINUTE, START, Shop, firing, save_configs, shop

from webhook.domain.alert import AlertTypes, AlertTypeSettings
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.domain.ledger import IngestSettings
from webhook.pipeline.sweep import Sweep
from webhook.storage.outbox import Outbox
from webhook.storage.sweeping import Sweeping
from webhook.storage.tables import (
    alert,
    alert_dynamic,
    alert_instance,
    alert_trigger_log,
    notification,
)

__all__ = ["shop"]


def test_a_merchants_own_threshold_suppresses_and_says_why(shop: Shop) -> None:
    condition = Condition("block_rate", ">", 0.4)
    save_configs(shop.database, [MerchantConfig("acc_001", "CARD_TESTING", conditions=(condition,))], START)
    (label,) = shop.outcomes(firing(), after=MINUTE)
    assert label.startswith("suppressed:conditions not met: block_rate 0.35038363171355497 is not > 0.4")
    (row,) = shop.rows(alert_trigger_log)
    assert row["verdict"]["conditions"][0]["met"] is False
    assert row["verdict"]["config_version"] == 1
    assert (shop.rows(alert), shop.rows(notification)) == ([], [])

    # Judged anew at each delivery, not held back by the occurrence interval.
    assert shop.outcomes(firing(block_rate="0.5"), after=timedelta(seconds=10)) == ["created"]
    (told,) = shop.rows(notification)
    assert told["content"]["thresholds"] == {"block_rate": 0.4}


@pytest.mark.parametrize("change", ["threshold", "disabled"])
def test_what_its_merchant_does_not_want_any_more_ends_without_rising(shop: Shop, change: str) -> None:
    """The rule's own threshold is lower: Alertmanager goes on repeating for six hours."""
    wanted = MerchantConfig("acc_001", "CARD_TESTING", conditions=(Condition("block_rate", ">", 0.6),))
    save_configs(shop.database, [wanted], START)
    shop.deliver(firing(block_rate="0.7"))
    with shop.database.write() as connection:
        connection.execute(sa.update(notification).values(status="SENT", sent_at=shop.now))
    if change == "disabled":
        save_configs(shop.database, [replace(wanted, enabled=False)], START)
    rate = "0.3" if change == "threshold" else "0.7"
    types = shop.settings.types
    sweep = Sweep(Sweeping(shop.database, types, {"console": {}}), Outbox(shop.database), types)
    for _ in range(73):
        assert shop.outcomes(firing(block_rate=rate), after=5 * MINUTE)[0].startswith("suppressed:")
        sweep.run_once(shop.now)

    (state,) = shop.rows(alert_dynamic)
    assert (state["current_severity"], state["status"], state["resolved_by"]) == ("P3", "RESOLVED", "system")
    assert state["resolved_at"] == START + 20 * MINUTE, "the first look after a session timeout"
    assert [row["reason"] for row in shop.rows(notification)] == ["first", "resolved"]
    assert shop.rows(alert_instance)[0]["status"] == "FIRING"

    save_configs(shop.database, [wanted], START)
    assert shop.outcomes(firing(block_rate="0.8"), after=5 * MINUTE) == ["created"]


def test_a_resend_within_the_interval_is_judged_too(shop: Shop) -> None:
    shop.deliver(firing())
    save_configs(shop.database, [MerchantConfig("acc_001", "CARD_TESTING", enabled=False)], START)
    assert shop.outcomes(firing(), after=MINUTE) == ["suppressed:disabled"]
    (instance,) = shop.rows(alert_instance)
    assert (instance["last_heard_at"], instance["last_passed_at"]) == (shop.now, START)


def test_disabled_suppresses_and_preferences_choose_the_channels(shop: Shop) -> None:
    preferences = {"slack": {"enabled": True, "channel": "#a"}, "console": {"enabled": False}}
    off = MerchantConfig("acc_001", "CARD_TESTING", enabled=False, channel_preferences=preferences)
    save_configs(shop.database, [off], START)
    assert shop.outcomes(firing()) == ["suppressed:disabled"]
    assert save_configs(shop.database, [replace(off, enabled=True)], START) == {"updated": 1}
    assert save_configs(shop.database, [replace(off, enabled=True)], START) == {"unchanged": 1}
    shop.deliver(firing(), after=MINUTE)
    (told,) = shop.rows(notification)
    assert (told["channel_type"], told["content"]["channel_settings"]) == ("slack", {"channel": "#a"})
    assert shop.rows(alert_trigger_log)[-1]["verdict"]["config_version"] == 2


def test_the_hourly_limit_holds_across_the_merchants_alerts(shop: Shop) -> None:
    settings = {"frequency_control": {"max_alerts_per_hour": 2}}
    config = MerchantConfig("acc_001", "CARD_TESTING", notification_settings=settings)
    save_configs(shop.database, [config], START)
    shop.settings = IngestSettings(AlertTypes(AlertTypeSettings(fingerprint_fields=("alertname",))))
    shop.deliver(firing(name="A"), firing(name="B"), firing(name="C"))
    assert [row["notify"] for row in shop.rows(alert_trigger_log)].count("withheld:frequency") == 1
    shop.deliver(firing(name="D"), after=MINUTE)
    assert len(shop.rows(notification)) == 2
    # What was withheld is still owed.
    shop.deliver(firing(name="D"), after=61 * MINUTE)
    assert len(shop.rows(notification)) == 3
