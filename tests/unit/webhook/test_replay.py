"""The replay's short way, held against the ledger's own: whatever comes, they tell the same."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from webhook.domain.alert import AlertTypes, AlertTypeSettings
from webhook.domain.evaluation import Condition, MerchantConfig, Verdict
from webhook.domain.ledger import IngestSettings
from webhook.domain.past import Past
from webhook.domain.replay import replay
from webhook.domain.severity import Severity
from webhook.domain.triggers import FIRING, RESOLVED, SWEPT, Name, Said, StoredTrigger, Triggers, triggers_of

START = datetime(2026, 1, 5, tzinfo=UTC)
CHANNELS: list[dict[str, Any]] = [
    {},
    {"console": {"enabled": True}, "sms": {"phone_numbers": ["+4915112345678"]}},
    {"console": {"enabled": False}},
    {"console": {"enabled": False}, "sms": {"phone_numbers": ["+4915112345678"], "min_severity": "P1"}},
]
MINUTE = timedelta(minutes=1)
CONDITIONS = ("a" * 32, "b" * 32, "c" * 32)
RULES = (("Detected", Severity.P3), ("Severe", Severity.P2), ("Critical", Severity.P1))


class Stream:
    """Triggers of three conditions with three rules each, some of them reports, as two Alertmanagers deliver them."""

    def __init__(self, seed: int) -> None:
        self.chosen = random.Random(seed)
        self.now = START
        self.firing: dict[tuple[str, str], tuple[datetime, float]] = {}
        self.pace = self.chosen.choice([1, 3, 5, 9])
        self.calm = self.chosen.random()
        self.reports = self.chosen.random() < 0.3

    def triggers(self, deliveries: int) -> Triggers:
        return triggers_of(row for _ in range(deliveries) for row in self.delivery())

    def delivery(self) -> list[StoredTrigger]:
        quiet = self.chosen.random() < 0.02
        self.now += self.chosen.uniform(30, 2000) * MINUTE if quiet else self.chosen.uniform(0.1, self.pace) * MINUTE
        rows = [row for condition in CONDITIONS for rule in RULES for row in self.of_rule(condition, *rule)]
        if rows and self.chosen.random() < 0.05:
            rows.append(self.chosen.choice(rows))  # the same twice in one delivery
        return rows

    def of_rule(self, condition: str, name: str, severity: Severity) -> list[StoredTrigger]:
        key = (condition, name)
        if key not in self.firing:
            if self.chosen.random() < 0.9 + 0.08 * self.calm:
                return []
            self.firing[key] = (self.now, self.chosen.uniform(0, 1))
        elif self.chosen.random() < 0.2:
            return []  # not in this one
        starts_at, rate = self.firing[key]
        ended = self.chosen.random() < 0.1 * (1.1 - self.calm)
        if ended:
            del self.firing[key]
        if self.chosen.random() < 0.1:
            self.firing[key] = (starts_at, self.chosen.uniform(0, 1))
        return [self.row(condition, name, severity, starts_at, rate, ended=ended)]

    def row(
        self, condition: str, name: str, severity: Severity, starts_at: datetime, rate: float, *, ended: bool
    ) -> StoredTrigger:
        own = Verdict(rate > 0.4, "its own") if self.reports and name == "Detected" else None
        outcome, notify = self.chosen.choice([("created", "first"), ("duplicate", ""), ("session_updated", "")])
        kind = (SWEPT if self.chosen.random() < 0.2 else RESOLVED) if ended else FIRING
        return StoredTrigger(
            self.now,
            Name(condition, (f"{name}/{condition}", starts_at), name),
            kind,
            severity,
            (
                {"block_rate": rate} if self.chosen.random() < 0.9 else {},
                {"region": self.chosen.choice(["AP", "EU"])},
            ),
            Said("resolved", "") if ended else Said(outcome, notify),
            f"alert-{condition}-{self.now.day}",
            own,
        )

    def past(self) -> Past:
        """People close alerts and were told before."""

        def some_time() -> datetime:
            return START + self.chosen.uniform(0, 3000) * MINUTE

        closings = sorted((some_time(), self.chosen.choice(CONDITIONS)) for _ in range(self.chosen.randint(0, 6)))
        notified = sorted(some_time() for _ in range(self.chosen.randint(0, 6)))
        closed = frozenset({(f"Detected/{CONDITIONS[0]}", START + MINUTE)})
        return Past(
            START + self.chosen.choice([0, 120]) * MINUTE,
            closings=closings,
            resent=sorted((some_time(), self.chosen.choice(CONDITIONS)) for _ in range(self.chosen.randint(0, 3))),
            notified=notified,
            closed=closed,
            starts={CONDITIONS[1]: START},
            channels={(condition, START + 7 * MINUTE): frozenset({"console"}) for condition in CONDITIONS},
            ended=frozenset(f"alert-{condition}-5" for condition in CONDITIONS),
            rises={f"alert-{CONDITIONS[0]}-6": 2},
            compared={CONDITIONS[2]: START + self.chosen.choice([0, 200]) * MINUTE},
        )

    def config(self) -> MerchantConfig:
        some = [
            Condition("block_rate", ">", self.chosen.choice([0.1, 0.5])),
            Condition("region", "in", ["AP"]),
            Condition("failed_auth_rate", ">", 0.5),
        ]
        settings: dict[str, Any] = {
            "frequency_control": {
                "max_alerts_per_hour": self.chosen.choice([0, 1, 5, 100]),
                "max_alerts_per_day": self.chosen.choice([3, 20, 1000]),
                "min_interval_minutes": self.chosen.choice([0, 20]),
            },
            "notification_strategy": {
                "first": self.chosen.random() < 0.8,
                "thresholds": self.chosen.choice([[], [3, 8, 30]]),
                "interval_minutes": self.chosen.choice([0, 1, 30, 60]),
            },
        }
        if self.chosen.random() < 0.3:
            settings["snooze_until"] = (START + timedelta(hours=5)).isoformat()
        return MerchantConfig(
            "acc",
            "CARD_TESTING",
            enabled=self.chosen.random() < 0.95,
            logic=self.chosen.choice(["all", "any"]),
            conditions=tuple(self.chosen.sample(some, self.chosen.choice([0, 1, 1, 2, 3]))),
            notification_settings=settings,
            channel_preferences=self.chosen.choice(CHANNELS),
        )

    def settings(self) -> IngestSettings:
        types = AlertTypeSettings(
            session_timeout=self.chosen.choice([15, 40]) * MINUTE,
            window=self.chosen.choice([2, 24]) * 60 * MINUTE,
            occurrence_interval=self.chosen.choice([0.5, 4.5, 30]) * MINUTE,
            flapping_restarts=self.chosen.choice([1, 3]),
            flapping_window=self.chosen.choice([40, 60, 300]) * MINUTE,
        )
        return IngestSettings(types=AlertTypes(types))


@pytest.mark.parametrize("seed", range(60))
def test_the_short_way_tells_what_the_ledger_tells(seed: int) -> None:
    stream = Stream(seed)
    config, settings, past, rows = stream.config(), stream.settings(), stream.past(), stream.triggers(250)
    until = rows.at[-1] + stream.chosen.choice([0, 10, 30, 600]) * MINUTE
    short, full = (replay(rows, past, config, settings, until=until, short=way) for way in (True, False))
    assert short.triggers > 50
    assert short == full
