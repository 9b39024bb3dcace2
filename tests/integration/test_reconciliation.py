"""What fired and ended while nothing was received is found again, once, with its times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from ingest_shop import MINUTE, START, Shop, firing, shop

from webhook.domain.alert import AlertTypes
from webhook.domain.missed import Fired, Matcher, Silence, fingerprint
from webhook.pipeline.reconcile import Reconciliation
from webhook.pipeline.sweep import Sweep
from webhook.ports import HistoryUnavailable
from webhook.storage.outbox import Outbox
from webhook.storage.reception import Reception
from webhook.storage.sweeping import Sweeping
from webhook.storage.tables import alert_dynamic, alert_instance, alert_trigger_log, notification

__all__ = ["shop"]
TIMEOUT = 15 * MINUTE
OUTAGE = START + 30 * MINUTE
BACK = OUTAGE + 30 * MINUTE


@dataclass
class World:
    """Alertmanager and Prometheus as far as reconciliation asks them; `away` is who does not answer."""

    given_up: int = 0
    firings: list[Fired] = field(default_factory=list)
    quiet: list[Silence] = field(default_factory=list)
    away: str = ""
    asked: int = 0
    known: Mapping[str, str] = field(default_factory=lambda: {"summary": "cards are tested", "block_rate": "0.41"})

    def mark(self) -> str:
        if self.away == "alertmanager":
            raise HistoryUnavailable("connection refused")
        return f"started {self.given_up}"

    def silences(self) -> list[Silence]:
        return self.quiet

    def fired(self, since: datetime, until: datetime) -> list[Fired]:
        self.asked += 1
        if self.away == "prometheus":
            raise HistoryUnavailable("connection refused")
        return [one for one in self.firings if since < one.starts_at and one.ends_at < until]

    def annotations(self, fired: Fired) -> dict[str, str]:
        return {**self.known, "description": f"of {fired.labels['alertname']}"}

    def close(self) -> None:
        pass


def fired(start: datetime, *, minutes: int = 5, severity: str = "P2", name: str = "CardTestingDetected") -> Fired:
    labels = {"alertname": name, "alert_type": "CARD_TESTING", "severity": severity, "account_id": "acc_001"}
    return Fired(labels, start, start + minutes * MINUTE)


def of(shop: Shop, world: World) -> Reconciliation:
    reception = Reception(shop.database, lookback=TIMEOUT)
    return Reconciliation(world, world, reception, shop.store, shop.settings, TIMEOUT, shop.metrics)


def after_an_outage(shop: Shop, *firings: Fired) -> tuple[Reconciliation, World]:
    """The last look before it, and then deliveries have failed."""
    world = World(firings=list(firings))
    reconciliation = of(shop, world)
    assert reconciliation.run_once(OUTAGE) == 0
    world.given_up = 3
    return reconciliation, world


def sweep(shop: Shop, now: datetime) -> None:
    types = AlertTypes()
    Sweep(Sweeping(shop.database, types, shop.settings.channels), Outbox(shop.database), types).run_once(now)


def test_it_is_told_once_with_its_times(shop: Shop) -> None:
    missed = fired(OUTAGE + 3 * MINUTE)
    reconciliation, _ = after_an_outage(shop, missed)

    assert reconciliation.run_once(BACK) == 1
    assert reconciliation.run_once(BACK + MINUTE) == 0, "it has been heard of"
    sweep(shop, BACK + MINUTE)

    (alert,) = shop.rows(alert_dynamic)
    assert (alert["first_triggered_at"], alert["status"]) == (missed.starts_at, "RESOLVED")
    (instance,) = shop.rows(alert_instance)
    assert (instance["status"], instance["resolved_at"]) == ("RESOLVED", missed.ends_at)
    told = {row["reason"]: row["content"] for row in shop.rows(notification)}
    assert set(told) == {"first", "resolved"}
    assert told["first"]["metrics"] == {"block_rate": 0.41}
    assert told["resolved"]["resolved_at"] == missed.ends_at.isoformat()
    assert [row["outcome"] for row in shop.rows(alert_trigger_log)] == ["created", "resolved"]
    assert "reconciliation" in shop.rows(alert_trigger_log)[0]["annotations"]["found_by"]
    assert shop.count("sentinel_alerts_received") == 2, "the ledger adds up"


def test_where_nothing_failed_prometheus_is_not_asked(shop: Shop) -> None:
    world = World(firings=[fired(OUTAGE + MINUTE)])
    reconciliation = of(shop, world)

    assert [reconciliation.run_once(OUTAGE), reconciliation.run_once(BACK)] == [0, 0]
    assert world.asked == 0


def test_what_was_received_is_left_alone(shop: Shop) -> None:
    start = OUTAGE + MINUTE
    shop.deliver(firing(starts_at=start, severity="P2"), after=start + MINUTE - START)
    reconciliation, _ = after_an_outage(shop, fired(start))

    assert reconciliation.run_once(BACK) == 0
    assert len(shop.rows(alert_dynamic)) == 1


def test_of_one_attack_the_gravest_is_told_as_alertmanager_does(shop: Shop) -> None:
    start = OUTAGE + MINUTE
    severe = fired(start + MINUTE, severity="P1", name="CardTestingCritical")
    reconciliation, _ = after_an_outage(shop, fired(start, minutes=8), severe)

    assert reconciliation.run_once(BACK) == 1
    (alert,) = shop.rows(alert_dynamic)
    assert (alert["current_severity"], alert["occurrence_count"]) == ("P1", 1)


def test_a_graver_one_raises_what_was_known(shop: Shop) -> None:
    """Its session goes on from later than that, and does not fall back to it."""
    start = OUTAGE - 2 * MINUTE
    shop.deliver(firing(starts_at=start), after=start - START)
    later = OUTAGE + 8 * MINUTE
    shop.deliver(firing(starts_at=start), after=later - start)
    severe = fired(OUTAGE + 3 * MINUTE, minutes=2, severity="P1", name="CardTestingCritical")
    reconciliation, _ = after_an_outage(shop, severe)

    assert reconciliation.run_once(BACK) == 1
    (alert,) = shop.rows(alert_dynamic)
    assert (alert["current_severity"], alert["session_last_active"]) == ("P1", later)
    assert [row["reason"] for row in shop.rows(notification)].count("escalated") == 1


@pytest.mark.parametrize(("covered", "found"), [(timedelta(minutes=30), 0), (timedelta(minutes=2), 1)])
def test_what_was_silenced_stays_so(shop: Shop, covered: timedelta, found: int) -> None:
    reconciliation, world = after_an_outage(shop, fired(OUTAGE + 3 * MINUTE))
    matcher = Matcher("account_id", "acc_00[1-3]", is_regex=True)
    world.quiet = [Silence([matcher, Matcher("severity", "P0", is_equal=False)], OUTAGE, OUTAGE + 3 * MINUTE + covered)]

    assert reconciliation.run_once(BACK) == found


def test_it_waits_for_who_is_away(shop: Shop) -> None:
    reconciliation, world = after_an_outage(shop, fired(OUTAGE + 3 * MINUTE))
    world.away = "alertmanager"
    assert reconciliation.run_once(BACK) == 0
    world.away = "prometheus"
    assert reconciliation.run_once(BACK + MINUTE) == 0
    world.away = ""
    assert reconciliation.run_once(BACK + 40 * MINUTE) == 1


def test_what_may_still_be_delivered_is_left_to_alertmanager(shop: Shop) -> None:
    reconciliation, _ = after_an_outage(shop, fired(BACK - 6 * MINUTE))

    assert reconciliation.run_once(BACK) == 0
    assert reconciliation.run_once(BACK + 5 * MINUTE) == 1


def test_what_comes_late_all_the_same_is_known(shop: Shop) -> None:
    missed = fired(OUTAGE + 3 * MINUTE, minutes=20)
    reconciliation, _ = after_an_outage(shop, missed)
    reconciliation.run_once(BACK)
    late = firing(starts_at=missed.starts_at) | {"fingerprint": fingerprint(missed.labels)}

    assert shop.outcomes(late, after=BACK + MINUTE - START) == ["stale"]


def test_a_session_timeout_without_a_failure_ends_it(shop: Shop) -> None:
    reconciliation, world = after_an_outage(shop)
    reconciliation.run_once(BACK)
    reconciliation.run_once(BACK + TIMEOUT)
    world.firings = [fired(BACK + TIMEOUT + MINUTE)]
    asked = world.asked

    assert reconciliation.run_once(BACK + 4 * TIMEOUT) == 0
    assert world.asked == asked, "what Alertmanager keeps to itself now is its own decision"


def test_a_firing_that_was_under_way_while_its_end_was_found_is_stale(shop: Shop) -> None:
    """Alertmanager tries a delivery for minutes and says what was true when it began."""
    alert = firing()
    shop.deliver(alert)
    found = START + TIMEOUT + MINUTE
    types = AlertTypes()

    class Nothing:
        def firing(self) -> frozenset[str]:
            return frozenset()

    Sweep(Sweeping(shop.database, types, shop.settings.channels), Outbox(shop.database), types, Nothing()).run_once(
        found
    )

    assert shop.outcomes(alert, after=found + MINUTE - START) == ["stale"]
    assert shop.outcomes(alert, after=5 * MINUTE) == ["created"], "and believed when it goes on"
