"""The kafka source over the client library's own mock cluster: what it serves, and what it says when that fails."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from exporter_parts import running
from kafka_sources import PATIENCE, Start, cluster, lively_group, payment, start, topic
from servers import free_port, wait_for
from servers_kafka import Cluster, Topic, kafka

from exporter.collectors import kafka_consumer
from exporter.collectors.base import Collection
from exporter.collectors.kafka_partitions import Progress
from exporter.errors import BadAnswer, BudgetExceeded, CollectError, Denied, TimedOut, Unreachable

__all__ = ["cluster", "lively_group", "start", "topic"]  # fixtures
pytestmark = pytest.mark.timeout(600)
JOIN_GROUP = 11


def test_it_is_served_and_followed(topic: Topic) -> None:
    topic.send(payment(1.5, 'Café "Olé"', rate="0.25"), payment(2, "b"))
    source = f"""
    - name: payments
      type: kafka
      interval: 200ms
      max_staleness: 1h
      timeout: 60s
      brokers: {topic.brokers}
      topic: {topic.name}
      group: {topic.name}
      window: 1h
      metrics:
        - {{source_field: rate, prometheus_name: sentinel_rate, labels: [account]}}
        - {{source_field: amount, prometheus_name: sentinel_amount, labels: [account], aggregate: sum}}
    """
    with running(source) as exporter:
        scraped = exporter.tried()
        assert scraped.values("sentinel_amount", "account") == {'Café "Olé"': 1.5, "b": 2}
        assert scraped.values("sentinel_rate", "account") == {'Café "Olé"': 0.25}
        topic.send(payment(3, "b"), payment(4, "c"), partition=1)
        exporter.wait(lambda s: s.values("sentinel_amount", "account").get("c") == 4, "new messages")
        assert exporter.scrape().value("sentinel_amount", account="b") == 5
        wait_for(lambda: topic.committed(topic.name, 3) == {0: 2, 1: 2, 2: 0}, what="commit", timeout=PATIENCE)


def test_a_second_collection_sees_what_came(topic: Topic, start: Start) -> None:
    source = start(topic)
    topic.send(payment(1))
    assert source.publish()["a"] == {"sum(amount)": 1, "count(amount)": 1}
    assert source.measured("kafka_lag_messages") == {"0": 0, "1": 0, "2": 0}
    assert source.measured("kafka_messages") == {"": 1}
    topic.send(payment(2, rate=7), partition=2)
    wait_for(
        lambda: source.collect()["a"] == {"rate": 7, "sum(amount)": 3, "count(amount)": 2},
        what="second message",
        timeout=PATIENCE,
    )


def test_only_what_is_served_is_committed(topic: Topic, start: Start) -> None:
    source = start(topic)
    topic.send(payment(1), payment(2))
    source.collect()
    topic.send(payment(3))
    assert topic.committed(topic.name) == {}
    consumer = source.collector._consumer
    assert consumer is not None
    wait_for(
        lambda: consumer._parts[0].position == 3,
        what="the third message is consumed, and must not be covered",
        timeout=PATIENCE,
    )
    source.collector.published()
    wait_for(lambda: topic.committed(topic.name) == {0: 2}, what="commit of the published offset", timeout=PATIENCE)
    source.publish()
    wait_for(lambda: topic.committed(topic.name) == {0: 3}, what="commit of the third message", timeout=PATIENCE)


def test_garbage_is_counted_once_and_stops_nothing(topic: Topic, start: Start) -> None:
    source = start(topic, max_message_bytes=1000)
    topic.send(b"<html>", b"\xff", b"[1]", b"{}", payment(1), None, b"x" * 2000, payment("much"), payment(2, rate=[1]))
    assert source.collect()["a"]["sum(amount)"] == 3
    counts = {
        "message_not_json": 2, "message_no_object": 1, "message_field_missing": 1, "message_too_large": 1,
        "not_a_number": 1, "not_plain": 1,
    }  # fmt: skip
    assert source.measured("kafka_messages_left_out") == counts | {"tombstone": 1}
    source.publish()  # what was measured is so for good; a warning is told until it is served
    assert source.measured("kafka_messages_left_out") == {}
    assert {reason: count for reason, (count, _) in source.warned().items()} == counts
    assert source.warned()["message_not_json"][1] == (
        f"{topic.name}, partition 0, offset 0: is no JSON (Expecting value at character 0)"
    )
    wait_for(lambda: source.publish() and not source.warned(), what="nothing told twice", timeout=PATIENCE)


def test_label_sets_expire(topic: Topic, start: Start) -> None:
    now = time.time()
    clock = [now]
    source = start(topic, lambda: clock[0], window="60s", expire_after="90s", event_time="at", event_time_unit="s")
    topic.send(payment(1, rate=0.5, at=now), payment(2, "b", at=now - 80))
    assert set(source.collect()) == {"a", "b"}
    clock[0] = now + 11
    assert set(source.collect()) == {"a"}
    clock[0] = now + 61
    assert source.collect() == {"a": {"rate": 0.5, "sum(amount)": 0, "count(amount)": 0}}
    clock[0] = now + 90
    assert source.collect() == {}


def test_more_label_sets_than_allowed(topic: Topic, start: Start) -> None:
    topic.send(*[payment(1, f"acc_{number}") for number in range(20)])
    source = start(topic, max_rows=10)
    with pytest.raises(BudgetExceeded, match=r"more than 10 label sets \(max_rows, max_series\)"):
        source.collect()
    assert source.measured("kafka_lag_messages")["0"] == 0
    cutting = start(topic, group="other", max_rows=10, over_budget="truncate")
    assert len(cutting.collect()) == 10
    assert cutting.warned()["rows_truncated"][0] == 10


def test_a_misspelt_field_is_told_with_those_there_are(topic: Topic) -> None:
    topic.send(payment(1, rate=2))
    source = f"""
    - name: payments
      type: kafka
      brokers: {topic.brokers}
      topic: {topic.name}
      group: {topic.name}
      metrics:
        - {{source_field: amonut, prometheus_name: sentinel_amount, labels: [account]}}
        - {{source_field: rate, prometheus_name: sentinel_rate, labels: [account]}}
    """
    with running(source) as exporter:
        assert exporter.tried().value("sentinel_rate", account="a") == 2
        (state,) = exporter.exporter._scheduler.states
        assert ["did you mean 'amount'?" in warning.detail for warning in state.last_warnings] == [True]


def test_no_broker_is_unreachable_at_the_timeout(start: Start) -> None:
    source = start(Topic(f"127.0.0.1:{free_port()}", "nowhere"))
    assert re.search(r"no broker can be reached: .*Connection refused", str(source.failure_of(Unreachable)))


def test_a_broker_that_goes_and_comes_back(start: Start) -> None:
    with kafka() as cluster:
        topic = cluster.topic()
        source = start(topic)
        topic.send(payment(1))
        source.publish()
        cluster.down()
        source.failure_of(Unreachable)
        cluster.up()

        def back() -> bool:
            try:
                return source.collect()["a"]["sum(amount)"] == 1
            except CollectError:
                return False

        wait_for(back, what="the source recovers", timeout=60)
        source.collector.close()


def test_a_topic_that_is_not_there_until_it_is(
    cluster: Cluster, topic: Topic, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_consumer, "_PROBE", 60.0)
    source = start(Topic(topic.brokers, topic.name + "x"))
    with pytest.raises(BadAnswer, match=f"the cluster has no topic '{topic.name}x': did you mean '{topic.name}'"):
        source.collect()
    later = Topic(topic.brokers, topic.name + "x")
    cluster._call("topic_create", later.name.encode(), 1, 1)
    assert source.collect() == {}


def test_a_user_who_may_not_read_the_topic(cluster: Cluster, topic: Topic, start: Start) -> None:
    cluster.forbid(topic, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(Denied, match=f"the user needs Read and Describe on topic {topic.name}, and Read on group"):
        start(topic).collect()


def test_a_user_who_may_not_use_the_group(cluster: Cluster, topic: Topic, start: Start) -> None:
    cluster.fail(JOIN_GROUP, [KafkaError.GROUP_AUTHORIZATION_FAILED])
    with pytest.raises(Denied, match="Group authorization failed"):
        start(topic).collect()


def test_a_broker_that_is_slow_when_partitions_are_assigned_costs_a_collection_and_not_the_source(
    topic: Topic, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, slow = kafka_consumer.begin, iter([True])

    def begins(consumer: Consumer, *arguments: Any) -> list[Progress]:
        if next(slow, False):
            consumer.get_watermark_offsets(TopicPartition(topic.name, 0), timeout=0)  # raises, in the client's own way
        return begin(consumer, *arguments)

    monkeypatch.setattr(kafka_consumer, "begin", begins)
    topic.send(payment(1))
    source = start(topic)
    with pytest.raises(CollectError, match="Timed out"):
        source.collect()
    assert source.sums() == {"a": 1}


def test_a_collection_that_waits_can_be_cancelled(start: Start) -> None:
    source = start(Topic(f"127.0.0.1:{free_port()}", "nowhere"))
    collection = Collection(datetime.now(UTC), time.monotonic() + 3600)

    def cancel() -> None:
        wait_for(lambda: source.collector._wanted, what="waiting", timeout=60)
        collection.cancelled.set()
        source.collector.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(TimedOut):
        source.collector.collect(collection)
    thread.join()


def test_values_are_not_served_before_they_are_complete(topic: Topic, start: Start, monkeypatch: Any) -> None:
    take, goes_on = kafka_consumer.ConsumerThread._take, threading.Event()

    def slowly(consumer: kafka_consumer.ConsumerThread, messages: Any) -> None:
        if consumer._consumed:
            goes_on.wait()
        take(consumer, messages)

    monkeypatch.setattr(kafka_consumer, "_BATCH", 1)
    monkeypatch.setattr(kafka_consumer.ConsumerThread, "_take", slowly)
    topic.send(*[payment(1)] * 30)
    source = start(topic)
    source.failure_of(TimedOut, "29 messages are still to be read until values are complete")
    goes_on.set()
    assert source.sums() == {"a": 30}
