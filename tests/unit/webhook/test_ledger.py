"""Random deliveries, with resends, reordering and bad alerts: the ledger adds up after each."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from webhook.domain.alert import (
    OPERATIONS_ACCOUNT,
    AlertSession,
    AlertStatus,
    AlertTypes,
    AlertTypeSettings,
    Instance,
    SessionStatus,
    Trigger,
    TriggerStatus,
    condition_fingerprint,
)
from webhook.domain.channel_choice import Channels, channels_for
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.domain.ledger import Changes, IngestSettings, Known, Received, decide
from webhook.domain.payload import Rejected, parse_payload
from webhook.domain.session import closed

START = datetime(2026, 1, 5, 12, tzinfo=UTC)

alerts = st.one_of(
    st.just("not an alert"),
    st.builds(
        lambda account, name, status, start, rate, severity: {
            "status": status,
            "labels": {"alertname": name, "alert_type": "T", "account_id": account, "severity": severity},
            "annotations": {"block_rate": rate},
            "startsAt": (START + timedelta(minutes=start)).isoformat(),
            "fingerprint": f"{account}/{name}",
        },
        account=st.sampled_from(["a", "b", "off", "strict"]),
        name=st.sampled_from(["Detected", "Severe"]),
        status=st.sampled_from(["firing", "firing", "firing", "resolved"]),
        start=st.integers(0, 2),
        rate=st.sampled_from(["0.1", "0.5"]),
        severity=st.sampled_from(["P3", "P2", "P1"]),
    ),
)
CONFIGS = {
    ("off", "T"): MerchantConfig("off", "T", enabled=False),
    ("strict", "T"): MerchantConfig("strict", "T", conditions=(Condition("block_rate", ">", 0.3),)),
}


class Ledger(RuleBasedStateMachine):
    """A store in memory beside the real fold."""

    @initialize()
    def begin(self) -> None:
        self.now = START
        self.numbers = itertools.count()
        self.sessions: dict[str, AlertSession] = {}
        self.instances: dict[tuple[str, datetime], Instance] = {}
        self.told: dict[tuple[str, str], list[datetime]] = {}
        self.received: Counter[str] = Counter()
        self.closed_by_person: set[str] = set()
        self.settings = IngestSettings(AlertTypes(AlertTypeSettings()))

    @rule(delivery=st.lists(alerts, max_size=5), minutes=st.integers(0, 20), resends=st.integers(1, 3))
    def deliver(self, delivery: list[Any], minutes: int, resends: int) -> None:
        self.now += timedelta(minutes=minutes)
        for _ in range(resends):
            self.take(parse_payload({"alerts": delivery}))

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        active = sorted(key for key, session in self.sessions.items() if session.status is AlertStatus.ACTIVE)
        if active:
            chosen = data.draw(st.sampled_from(active))
            self.sessions[chosen] = closed(self.sessions[chosen], AlertStatus.DISMISSED, self.now)
            self.closed_by_person.add(chosen)

    def take(self, items: list[Trigger | Rejected]) -> None:
        delivery = [Received(i, condition_fingerprint(i, ()) if isinstance(i, Trigger) else "") for i in items]
        changes = decide(delivery, self.known(), self.settings, self.now, lambda: f"{next(self.numbers):05}")
        assert len(changes.entries) == len(items)
        assert sum(changes.outcomes().values()) == len(items)
        self.received.update(entry.outcome.value for entry in changes.entries)
        self.record(changes)

    def known(self) -> Known:
        ordered = sorted(self.sessions.values(), key=lambda session: (session.last_triggered_at, session.alert_id))
        passed: dict[str, datetime] = {}
        for instance in self.instances.values():
            if instance.alert_id and instance.status is TriggerStatus.FIRING:
                last = passed.get(instance.alert_id, START)
                passed[instance.alert_id] = max(last, instance.last_passed_at or START)
        return Known(
            sessions={s.condition_fingerprint: s for s in ordered if s.status is AlertStatus.ACTIVE},
            instances={
                key: replace(instance, closed_by_person=instance.alert_id in self.closed_by_person)
                for key, instance in self.instances.items()
            },
            last_passed=passed,
            configs=CONFIGS,
            notified=self.told,
        )

    def record(self, changes: Changes) -> None:
        for session in changes.expired:
            self.sessions[session.alert_id] = session
        for alert_id, session in changes.sessions.items():
            before = self.sessions.get(alert_id)
            assert (before is None) is (alert_id in changes.opened)
            if before is not None:
                assert before.status is AlertStatus.ACTIVE
                assert session.occurrence_count > before.occurrence_count
                assert session.severity.rank >= before.severity.rank
            self.sessions[alert_id] = session
        self.instances.update({key: instance for key, (instance, _) in changes.instances.items()})
        for told in changes.announcements:
            self.told.setdefault((told.session.account_id, "T"), []).append(self.now)

    @invariant()
    def one_active_session_per_attack(self) -> None:
        active = [s.condition_fingerprint for s in self.sessions.values() if s.session_status is SessionStatus.ACTIVE]
        assert len(active) == len(set(active))

    @invariant()
    def counts_add_up(self) -> None:
        counted = sum(self.received[name] for name in ("created", "session_updated", "comment_added"))
        assert sum(session.occurrence_count for session in self.sessions.values()) == counted
        assert len(self.sessions) == self.received["created"]

    @invariant()
    def nobody_who_switched_off_has_an_alert(self) -> None:
        assert all(session.account_id != "off" for session in self.sessions.values())


TestLedger = Ledger.TestCase
TestLedger.settings = hypothesis_settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_alerts_without_a_merchant_go_to_the_on_call_channels_alone() -> None:
    default: Channels = {"slack": {}}
    on_call: Channels = {"slack": {"channel": "C0ONCALL"}}
    assert channels_for(OPERATIONS_ACCOUNT, default, on_call) == on_call
    assert channels_for("acc_1", default, on_call) == default
    assert channels_for(OPERATIONS_ACCOUNT, default, None) == default
