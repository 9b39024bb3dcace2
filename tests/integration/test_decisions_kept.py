"""What is decided once and must hold later: owed thresholds, verdicts of repeats, early rises, unheard alerts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from ingest_shop import MINUTE, START, Shop, firing, save_configs, shop

from webhook.domain.alert import AlertTypes, AlertTypeSettings
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.domain.explanation import StepKind, explain
from webhook.domain.ledger import IngestSettings
from webhook.domain.payload import parse_payload
from webhook.domain.severity import EscalationStep, Severity
from webhook.pipeline.ingest import ingest
from webhook.pipeline.sweep import Sweep
from webhook.storage.explaining import read_facts
from webhook.storage.outbox import Outbox
from webhook.storage.sweeping import Sweeping
from webhook.storage.tables import alert, alert_comment, alert_dynamic, alert_instance, alert_trigger_log, notification

__all__ = ["shop"]


class Holds:
    """An Alertmanager with these alerts; counts how often it was asked."""

    def __init__(self, *fingerprints: str) -> None:
        self._fingerprints, self.asked = frozenset(fingerprints), 0

    def firing(self) -> frozenset[str]:
        self.asked += 1
        return self._fingerprints


def sweep(shop: Shop, firing: Holds | None = None, *, after: timedelta = timedelta(0)) -> Any:
    shop.now += after
    types = shop.settings.types
    sweeping = Sweeping(shop.database, types, shop.settings.channels)
    return Sweep(sweeping, Outbox(shop.database), types, firing or Holds()).run_once(shop.now)


def from_grafana(shop: Shop, alert: dict[str, Any], *, after: timedelta = timedelta(0)) -> str:
    shop.now += after
    received = parse_payload({"orgId": 1, "alerts": [alert]})
    return ingest(shop.store, received, shop.settings, shop.now).entries[0].label


def reasons(shop: Shop) -> list[str]:
    return [row["reason"] for row in shop.rows(notification)]


def test_a_silent_alert_of_grafana_expires_and_nobody_is_told_that_it_ended(shop: Shop) -> None:
    """Its contact point repeats every 4 hours, and no Alertmanager of ours holds it."""
    holds = Holds()
    assert from_grafana(shop, firing()) == "created"
    swept = sweep(shop, holds, after=16 * MINUTE)
    assert (swept.instances_ended, swept.expired, swept.resolved, holds.asked) == (0, 1, 0, 0)
    assert reasons(shop) == ["first"]
    assert from_grafana(shop, firing(), after=timedelta(hours=4)) == "comment_added", "it is the same attack"
    assert reasons(shop) == ["first", "interval"]
    sweep(shop, holds, after=16 * MINUTE)
    assert from_grafana(shop, firing(status="resolved"), after=MINUTE) == "resolved"
    sweep(shop, holds, after=16 * MINUTE)
    assert reasons(shop) == ["first", "interval", "resolved"], "it said so itself"


def test_an_alert_that_is_never_heard_of_again_is_closed_without_an_all_clear(shop: Shop) -> None:
    from_grafana(shop, firing())
    sweep(shop, after=16 * MINUTE)
    sweep(shop, after=timedelta(hours=25))
    (state,) = shop.rows(alert_dynamic)
    assert (state["status"], state["resolved_by"]) == ("RESOLVED", "system")
    assert "not known" in state["resolution_note"]
    assert reasons(shop) == ["first"]
    assert from_grafana(shop, firing(), after=MINUTE) == "created", "it fires on: people hear of it again"
    assert reasons(shop) == ["first", "first"]


def test_alertmanager_is_asked_about_its_own_alone(shop: Shop) -> None:
    shop.deliver(firing("a"), firing("b"))
    from_grafana(shop, firing("g"))
    swept = sweep(shop, Holds("CardTestingDetected/a"), after=16 * MINUTE)
    assert (swept.instances_confirmed, swept.instances_ended) == (1, 1)
    status = {row["account_id"]: (row["source"], row["status"]) for row in shop.rows(alert_instance)}
    assert status == {
        "a": ("alertmanager", "FIRING"),
        "b": ("alertmanager", "RESOLVED"),
        "g": ("grafana", "FIRING"),
    }


def test_a_threshold_that_a_limit_held_back_is_told_as_soon_as_there_is_a_place(shop: Shop) -> None:
    settings = {
        "frequency_control": {"min_interval_minutes": 30},
        "notification_strategy": {"first": False, "thresholds": [2, 4], "interval_minutes": 0},
    }
    save_configs(shop.database, [MerchantConfig("acc_001", "CARD_TESTING", notification_settings=settings)], START)
    told = [shop.deliver(firing(), after=9 * MINUTE).entries[0].notify for _ in range(7)]
    assert told == [
        "withheld:strategy",
        "threshold",
        "withheld:strategy",
        "withheld:frequency",
        "withheld:frequency",
        "threshold",
        "withheld:strategy",
    ]


@pytest.mark.parametrize("first", [True, False])
def test_what_was_withheld_is_not_owed_after_a_rise_that_the_sweep_has_told(shop: Shop, first: bool) -> None:
    strategy = {"first": first, "thresholds": [2], "interval_minutes": 0}
    muted = {"notification_strategy": strategy, "snooze_until": (START + timedelta(hours=3)).isoformat()}
    save_configs(shop.database, [MerchantConfig("acc_001", "CARD_TESTING", notification_settings=muted)], START)
    for _ in range(13):
        shop.deliver(firing(severity="P2"))
        shop.now += 10 * MINUTE - timedelta(seconds=1)
    assert sweep(shop).escalated == 1, "by two hours, before a delivery brings it about"
    assert reasons(shop) == ["escalated"]
    assert shop.deliver(firing(severity="P2"), after=timedelta(hours=1)).entries[0].notify == "withheld:strategy"


@pytest.mark.parametrize("rate", ["0.1", "0.5"])
def test_repeats_and_late_ones_are_judged_too(shop: Shop, rate: str) -> None:
    own = MerchantConfig("acc_001", "CARD_TESTING", conditions=(Condition("block_rate", ">", 0.3),))
    save_configs(shop.database, [own], START)
    met = rate == "0.5"
    repeated = firing(block_rate=rate)
    shop.deliver(firing(block_rate="0.4"))
    assert shop.outcomes(repeated, after=MINUTE) == (["duplicate"] if met else ["suppressed:" + NOT_MET])
    shop.deliver(firing(status="resolved"), after=MINUTE)
    assert shop.outcomes(repeated, after=MINUTE) == ["stale"]
    for row in shop.rows(alert_trigger_log, status="FIRING")[1:]:
        assert row["verdict"]["passed"] is met
        assert row["verdict"]["conditions"] == [
            {"metric": "block_rate", "value": float(rate), "operator": ">", "threshold": 0.3, "met": met}
        ]
        assert row["verdict"]["config_version"] == 1


NOT_MET = "conditions not met: block_rate 0.1 is not > 0.3"


@pytest.mark.parametrize("muted", [False, True])
def test_a_step_that_the_first_occurrence_reaches_takes_effect_with_it(shop: Shop, muted: bool) -> None:
    steps = (EscalationStep(Severity.P1, occurrence_count=1),)
    shop.settings = IngestSettings(AlertTypes(AlertTypeSettings(escalation=steps)))
    if muted:
        silent = {"frequency_control": {"max_alerts_per_hour": 0}, "notification_strategy": {"first": False}}
        save_configs(shop.database, [MerchantConfig("acc_001", "CARD_TESTING", notification_settings=silent)], START)

    (entry,) = shop.deliver(firing(severity="P3")).entries
    assert (entry.label, entry.notify) == ("created", "escalated")
    (state,), (row,) = shop.rows(alert_dynamic), shop.rows(alert)
    assert (row["original_severity"], state["current_severity"], state["last_escalated_at"]) == ("P3", "P1", START)
    (rise,) = state["escalation_history"]["escalations"]
    assert (rise["from_severity"], rise["to_severity"], rise["occurrence_count"]) == ("P3", "P1", 1)
    (comment,) = shop.rows(alert_comment)
    assert comment["content"] == "Severity rose from P3 to P1 because it occurred once"
    (told,) = shop.rows(notification)
    assert (told["content"]["severity"], told["comment_id"], told["reason"]) == ("P1", comment["id"], "escalated")

    assert shop.deliver(firing(severity="P3"), after=5 * MINUTE).entries[0].notify == "withheld:strategy"
    assert entry.alert_id is not None
    with shop.database.read() as connection:
        facts = read_facts(connection, entry.alert_id)
    assert facts is not None
    kinds = [step.kind for step in explain(facts, shop.settings.types["CARD_TESTING"]).steps]
    assert kinds.count(StepKind.ESCALATED) == kinds.count(StepKind.NOTIFIED) == 1


def test_flapping_that_calmed_while_the_worker_was_away_begins_anew_and_owes_its_ends(shop: Shop) -> None:
    def one_round() -> str:
        start = shop.now
        told = shop.deliver(firing(starts_at=start)).entries[0].notify
        shop.deliver(firing(starts_at=start, status="resolved"), after=MINUTE)
        return told

    told = []
    for _ in range(6):
        told.append(one_round())
        sweep(shop, after=14 * MINUTE)
        shop.now += MINUTE
    assert told[-2:] == ["flapping", "withheld:flapping"]
    assert reasons(shop)[-1] == "flapping"
    shop.now += timedelta(hours=10)  # without a worker
    told = []
    for _ in range(3):
        told.append(one_round())
        shop.now += 9 * MINUTE
    assert told == ["first", "withheld:strategy", "withheld:strategy"]
    ended = {row["alert_id"] for row in shop.rows(notification, reason="resolved")}
    flapped = {row["alert_id"] for row in shop.rows(notification, reason="flapping")}
    assert flapped <= ended, "its end, held back meanwhile, is told by the delivery that finds it calm"
    assert sweep(shop, after=16 * MINUTE).calmed == 0
    heard = [(row["alert_id"], row["reason"]) for row in shop.rows(notification) if row["reason"] == "resolved"]
    assert len(heard) == len(set(heard)), "each once"
