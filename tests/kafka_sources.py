"""A Kafka source for the tests: a collector, and what its last collection said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from servers_kafka import Topic

from exporter.collectors.base import Collection
from exporter.collectors.kafka import KafkaCollector, KafkaConfig

METRICS = [
    {"source_field": "rate", "prometheus_name": "rate", "labels": ["account"]},
    {"source_field": "amount", "prometheus_name": "amount", "labels": ["account"], "aggregate": "sum"},
    {"source_field": "amount", "prometheus_name": "payments", "labels": ["account"], "aggregate": "count"},
]


@dataclass
class Source:
    """A collector, and what its last collection said."""

    collector: KafkaCollector
    last: Collection = field(default_factory=lambda: Collection(datetime.now(UTC), 0))

    def collect(self, timeout: float = 15) -> dict[str, dict[str, Any]]:
        self.last = Collection(datetime.now(UTC), time.monotonic() + timeout)
        frame = self.collector.collect(self.last)
        return {row.pop("account"): row for row in frame.to_dicts()}

    def publish(self, timeout: float = 15) -> dict[str, dict[str, Any]]:
        found = self.collect(timeout)
        self.collector.published()
        return found

    def sums(self) -> dict[str, float]:
        return {account: row["sum(amount)"] for account, row in self.collect().items()}

    def measured(self, name: str) -> dict[str, float]:
        """A measure's values by the last of its labels."""
        found = [measure for measure in self.last.measures if measure.name == name]
        return {["", *measure.labels.values()][-1]: measure.value for measure in found}

    def warned(self) -> dict[str, tuple[int, str]]:
        return {warning.reason: (warning.count, warning.detail) for warning in self.last.warnings}


Start = Callable[..., Source]


@contextmanager
def sources() -> Iterator[Start]:
    """`start(topic, **keys)` makes a source; sources of one topic are in one group."""
    collectors: list[KafkaCollector] = []

    def make(topic: Topic, clock: Callable[[], float] = time.time, *, trial: bool = False, **keys: Any) -> Source:
        whole = {
            "name": "payments", "type": "kafka", "brokers": topic.brokers, "topic": topic.name, "group": topic.name,
            "window": "60s", "session_timeout": "2s", "metrics": METRICS,
        }  # fmt: skip
        config = KafkaConfig.model_validate(whole | keys)
        collector = KafkaCollector(config.for_trial() if trial else config, clock)
        collectors.append(collector)
        return Source(collector)

    try:
        yield make
    finally:
        for collector in collectors:
            collector.close()


def payment(amount: float, account: str = "a", **more: Any) -> dict[str, Any]:
    return {"account": account, "amount": amount} | more
