"""Random deliveries, people and sweeps over the real store: the ledger adds up after each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from ingest_shop import MINUTE, START, Shop, by, firing, save_configs
from prometheus_client import CollectorRegistry

from webhook.domain.action import DismissReason
from webhook.domain.alert import AlertStatus
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.domain.report import Report, ReportedMetric
from webhook.pipeline.ingest import IngestMetrics
from webhook.pipeline.reports import ReportIntake
from webhook.pipeline.sweep import Sweep
from webhook.storage.outbox import Outbox
from webhook.storage.reporting import ReportRuns
from webhook.storage.sweeping import Sweeping
from webhook.storage.tables import alert_dynamic, alert_trigger_log, metadata, notification

COUNTED = ("created", "session_updated", "comment_added")
LIMITS = {"frequency_control": {"max_alerts_per_hour": 2, "max_alerts_per_day": 6}}

alerts = st.one_of(
    st.just("not an alert"),
    st.builds(
        lambda account, name, status, start, rate, severity: firing(
            account, name=name, status=status, starts_at=START + start * MINUTE, block_rate=rate, severity=severity
        ),
        account=st.sampled_from(["a", "b", "off", "strict"]),
        name=st.sampled_from(["Detected", "Severe"]),
        status=st.sampled_from(["firing", "firing", "firing", "resolved"]),
        start=st.integers(0, 5),
        rate=st.sampled_from(["0.1", "0.5"]),
        severity=st.sampled_from(["P3", "P3", "P2", "P0"]),
    ),
)


class NothingFires:
    def firing(self) -> frozenset[str]:
        return frozenset()


class Ledger(RuleBasedStateMachine):
    shop: Shop

    @initialize()
    def begin(self) -> None:
        shop = self.shop
        shop.now, shop.registry = START, CollectorRegistry()
        shop.metrics = IngestMetrics(shop.registry)
        with shop.database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(sa.delete(table))
        strict = (Condition("block_rate", ">", 0.3),)
        configs = [
            MerchantConfig("off", "CARD_TESTING", enabled=False),
            MerchantConfig("strict", "CARD_TESTING", conditions=strict),
            MerchantConfig("b", "CARD_TESTING", notification_settings=LIMITS),
        ]
        save_configs(shop.database, configs, shop.now)
        self.received = self.raised_by_sweep = 0

    @rule(delivery=st.lists(alerts, max_size=5), minutes=st.sampled_from([0, 1, 6, 16]), resends=st.integers(1, 2))
    def deliver(self, delivery: list[Any], minutes: int, resends: int) -> None:
        self.shop.now += minutes * MINUTE
        for _ in range(resends):
            self.shop.deliver(*delivery)
            self.received += len(delivery)

    @rule(delivery=st.lists(alerts, min_size=2, max_size=5).flatmap(st.permutations))
    def deliver_in_another_order(self, delivery: list[Any]) -> None:
        self.shop.deliver(*delivery, *reversed(delivery))
        self.received += 2 * len(delivery)

    @rule(rate=st.sampled_from([0.1, 0.5]), minutes=st.sampled_from([1, 6]))
    def report(self, rate: float, minutes: int) -> None:
        shop = self.shop
        shop.now += minutes * MINUTE
        report = Report("a", "CARD_TESTING", [ReportedMetric("block_rate", rate, 0.3)], {})
        intake = ReportIntake(shop.store, ReportRuns(shop.database), shop.settings, shop.metrics, lambda: shop.now)
        intake.take(report, None, shop.now)
        self.received += 1

    @rule(minutes=st.sampled_from([0, 16, 70, 60 * 25]))
    def sweep(self, minutes: int) -> None:
        shop = self.shop
        shop.now += timedelta(minutes=minutes)
        sweeping = Sweeping(shop.database, shop.settings.types, shop.settings.channels)
        swept = Sweep(sweeping, Outbox(shop.database), shop.settings.types, NothingFires()).run_once(shop.now)
        self.raised_by_sweep += swept.escalated

    @rule(data=st.data(), resolves=st.booleans())
    def close(self, data: st.DataObject, resolves: bool) -> None:
        active = sorted(
            self.shop.rows(alert_dynamic, status="ACTIVE"),
            key=lambda row: (row["condition_fingerprint"], row["first_triggered_at"]),
        )
        if active:
            alert_id = data.draw(st.sampled_from([row["alert_id"] for row in active]))
            if resolves:
                self.shop.actions.resolve(alert_id, "seen", by("mia", self.shop.now))
            else:
                self.shop.actions.dismiss(alert_id, DismissReason.OTHER, "seen", by("mia", self.shop.now))

    @invariant()
    def what_is_queued_is_sent(self) -> None:
        """So that a person's word withdraws nothing, and all that was decided can be counted."""
        with self.shop.database.write() as connection:
            queued = sa.update(notification).where(notification.c.status == "PENDING")
            connection.execute(queued.values(status="SENT", sent_at=self.shop.now))

    @invariant()
    def each_alert_received_has_one_row_and_one_outcome(self) -> None:
        rows = [row for row in self.shop.rows(alert_trigger_log) if row["source"] != "sweep"]
        assert len(rows) == self.received == self.shop.count("sentinel_alerts_received")
        for outcome, number in Counter(row["outcome"] for row in rows).items():
            assert self.shop.count("sentinel_alert_outcomes", outcome=outcome) == number

    @invariant()
    def each_alert_has_as_many_occurrences_as_were_counted(self) -> None:
        rows = self.shop.rows(alert_trigger_log)
        counted = Counter(row["alert_id"] for row in rows if row["outcome"] in COUNTED)
        states = self.shop.rows(alert_dynamic)
        assert {row["alert_id"]: row["occurrence_count"] for row in states} == counted
        assert len(states) == sum(row["outcome"] == "created" for row in rows)
        active = [row["condition_fingerprint"] for row in states if row["session_status"] == "ACTIVE"]
        assert len(active) == len(set(active))

    @invariant()
    def each_alert_has_the_messages_that_were_decided(self) -> None:
        told = Counter((row["alert_id"], row["reason"]) for row in self.shop.rows(notification))
        decided = Counter(
            (row["alert_id"], row["notify"])
            for row in self.shop.rows(alert_trigger_log)
            if row["notify"] and not row["notify"].startswith("withheld")
        )
        of_sweep = Counter({key: n - decided[key] for key, n in told.items() if key[1] == "escalated"})
        assert sum(of_sweep.values()) == self.raised_by_sweep
        ends = {key: n for key, n in told.items() if key[1] == "resolved"}
        assert {key: n for key, n in told.items() if key not in ends} == decided + of_sweep
        assert set(ends.values()) <= {1}
        by_person = [row for row in self.shop.rows(alert_dynamic) if row["authenticated_as"]]
        heard = {alert_id for alert_id, _ in told}
        for row in by_person:
            wanted = row["status"] == AlertStatus.RESOLVED.value and row["alert_id"] in heard
            assert ((row["alert_id"], "resolved") in ends) is wanted


@pytest.fixture
def ledger(store_url: str) -> Iterator[type[Ledger]]:
    shop = Shop(store_url)
    yield type("LedgerOverStore", (Ledger,), {"shop": shop})
    shop.database.close()


def test_the_ledger_adds_up(ledger: type[Ledger], store_url: str) -> None:
    examples = 8 if store_url.startswith("sqlite") else 3
    run_state_machine_as_test(
        ledger, settings=hypothesis_settings(max_examples=examples, stateful_step_count=12, deadline=None)
    )
