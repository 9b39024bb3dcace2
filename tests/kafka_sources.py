"""A Kafka source for the tests: a collector, and what its last collection said; and the fixtures that tests share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from servers import wait_for
from servers_kafka import Cluster, Topic, kafka

from exporter.collectors import kafka as kafka_module
from exporter.collectors import kafka_consumer
from exporter.collectors.base import Collection
from exporter.collectors.kafka import KafkaCollector, KafkaConfig
from exporter.errors import CollectError

PATIENCE = 100.0  # seconds
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

    def collect(self, timeout: float = PATIENCE) -> dict[str, dict[str, Any]]:
        self.last = Collection(datetime.now(UTC), time.monotonic() + timeout)
        frame = self.collector.collect(self.last)
        return {row.pop("account"): row for row in frame.to_dicts()}

    def publish(self, timeout: float = PATIENCE) -> dict[str, dict[str, Any]]:
        found = self.collect(timeout)
        self.collector.published()
        return found

    def failure_of(self, kind: type[CollectError], words: str = "") -> CollectError:
        """The failure of the first collection that fails with this error, however long the client takes to see why."""

        def failed() -> CollectError | None:
            try:
                self.collect(timeout=0.5)
            except CollectError as error:
                return error if isinstance(error, kind) and words in str(error) else None
            return None

        found = wait_for(failed, what=f"{kind.__name__} {words}", timeout=60)
        assert found is not None
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


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with kafka() as cluster:
        yield cluster


@pytest.fixture
def topic(cluster: Cluster) -> Topic:
    """A topic of three partitions. Its index by time knows of no message, whatever there is."""
    return cluster.topic(3)


@pytest.fixture
def lively_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members hear soon of each other, and join again soon.

    The cluster forgets a member that stands still for a second while it joins, and never answers it; the client waits
    for its answer for as long as it may go without a poll.
    """
    monkeypatch.setattr(kafka_module, "_HEARTBEAT", 0.5)
    monkeypatch.setattr(kafka_module, "_LEAVE_WITHIN", 60.0)
    monkeypatch.setitem(kafka_consumer._BEHAVIOUR, "max.poll.interval.ms", "15000")


@pytest.fixture
def start(lively_group: None) -> Iterator[Start]:
    """`start(topic, **keys)` makes a source; sources of one topic are in one group."""
    collectors: list[KafkaCollector] = []

    def make(topic: Topic, clock: Callable[[], float] = time.time, *, trial: bool = False, **keys: Any) -> Source:
        whole = {
            "name": "payments", "type": "kafka", "brokers": topic.brokers, "topic": topic.name, "group": topic.name,
            "window": "1h", "session_timeout": "4s", "metrics": METRICS,
        }  # fmt: skip
        config = KafkaConfig.model_validate(whole | keys)
        collector = KafkaCollector(config.for_trial() if trial else config, clock)
        collectors.append(collector)
        return Source(collector)

    yield make
    for collector in collectors:
        collector.close()


def payment(amount: float, account: str = "a", **more: Any) -> dict[str, Any]:
    return {"account": account, "amount": amount} | more
