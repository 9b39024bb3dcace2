"""The kafka source in its group: restarts, replicas, members that died, and what is committed."""

from __future__ import annotations

import time
from typing import Any

import pytest
from kafka_sources import PATIENCE, Start, cluster, lively_group, payment, start, topic
from servers import wait_for
from servers_kafka import Cluster, Topic, dead_member

from exporter.collectors import kafka_partitions
from exporter.errors import TimedOut

__all__ = ["cluster", "lively_group", "start", "topic"]  # fixtures
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def indexed(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> Topic:
    """The topic with an index by time that works."""
    monkeypatch.setattr(kafka_partitions, "offsets_since", topic.since)
    return topic


def test_what_was_collected_but_not_published_is_read_again(topic: Topic, start: Start) -> None:
    topic.send(payment(1), payment(2), b"garbage")
    first = start(topic)
    first.publish()
    topic.send(payment(4), b"garbage")
    wait_for(lambda: first.sums() == {"a": 7}, what="third payment", timeout=PATIENCE)
    first.collector.close()
    second = start(topic)
    assert second.sums() == {"a": 7}
    assert second.measured("kafka_messages") == {"": 2}
    assert second.warned()["message_not_json"][0] == 1


def test_a_restart_shows_the_whole_window_and_counts_no_message_twice(topic: Topic, start: Start) -> None:
    for number in range(6):
        topic.send(payment(2**number), partition=number % 3)
    topic.send(b"garbage")
    first = start(topic)
    assert first.publish()["a"]["sum(amount)"] == 63
    first.collector.close()
    assert topic.committed(topic.name, 3) == {0: 3, 1: 2, 2: 2}
    second = start(topic)
    assert second.sums() == {"a": 63}
    assert second.measured("kafka_messages") == {"": 0}
    assert second.warned() == {}


def test_what_is_served_is_committed_before_another_takes_over(
    topic: Topic, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exporter.collectors.kafka_consumer import ConsumerThread

    commit = ConsumerThread._commit

    def slow(self: Any, consumer: Any, due: Any, *, wait: bool) -> None:
        """As if the commit after publishing had not reached the broker yet."""
        if wait:
            commit(self, consumer, due, wait=wait)

    monkeypatch.setattr(ConsumerThread, "_commit", slow)
    source = start(topic)
    topic.send(payment(1), payment(2))
    source.publish()
    topic.send(payment(3))
    source.collector.close()
    assert topic.committed(topic.name) == {0: 2}


def test_messages_that_came_while_it_was_down_are_not_missed(topic: Topic, start: Start) -> None:
    first = start(topic)
    topic.send(payment(1))
    first.publish()
    first.collector.close()
    topic.send(payment(2), partition=1)
    second = start(topic)
    assert second.sums() == {"a": 3}
    assert second.measured("kafka_messages") == {"": 1}


def test_what_became_too_old_while_it_was_down_is_passed_over_and_told(topic: Topic, start: Start) -> None:
    now = time.time()
    first = start(topic)
    topic.send(payment(1, at=now), at=now)
    first.publish()
    first.collector.close()
    topic.send(*[payment(2, at=now)] * 5, at=now)
    topic.send(payment(4, at=now + 500), at=now + 500)
    second = start(topic, lambda: now + 510, window="60s", event_time="at", event_time_unit="s")
    assert second.sums() == {"a": 4}
    assert second.warned()["message_late"][0] == 5


def test_an_index_by_time_saves_reading_what_became_too_old(indexed: Topic, start: Start) -> None:
    now = time.time()
    first = start(indexed)
    indexed.send(payment(1, at=now), at=now)
    first.publish()
    first.collector.close()
    indexed.send(*[payment(2, at=now)] * 5, at=now)
    indexed.send(payment(4, at=now + 500), at=now + 500)
    second = start(indexed, lambda: now + 510, window="60s", event_time="at", event_time_unit="s")
    assert second.sums() == {"a": 4}
    assert second.measured("kafka_messages") == {"": 1}
    assert second.warned()["message_late"][0] == 5


def test_an_idle_topic_is_not_read_again(topic: Topic, start: Start) -> None:
    now = time.time()
    first = start(topic)
    topic.send(*[payment(1)] * 50, at=now)
    first.publish()
    first.collector.close()
    second = start(topic, lambda: now + 500, window="60s")
    assert second.sums() == {}
    assert {each.position for each in second.collector._consumer._parts.values()} == {0, 50}  # type: ignore[union-attr]
    third = start(topic, lambda: now + 10, group=topic.name)
    second.collector.close()
    assert third.sums() == {"a": 50}


def test_two_replicas_share_and_one_takes_over_nothing_lost_or_doubled(topic: Topic, start: Start) -> None:
    accounts = {"a": 0, "b": 1, "c": 2}
    for account, partition in accounts.items():
        topic.send(payment(1, account), payment(2, account), partition=partition)
    one, two = start(topic), start(topic)
    assert one.publish().keys() == accounts.keys()

    def shared() -> bool:
        first, second = one.publish(), two.publish()
        assert not first.keys() & second.keys()
        return bool(first and second) and len(first) + len(second) == 3

    two.publish()
    wait_for(shared, what="both replicas have partitions", timeout=PATIENCE)
    for account, partition in accounts.items():
        topic.send(payment(4, account), partition=partition)
    whole = dict.fromkeys(accounts, 7)
    wait_for(lambda: one.sums() | two.sums() == whole, what="new messages on both replicas", timeout=PATIENCE)
    assert "label_sets_shared" not in one.warned() | two.warned()
    one.publish()
    two.publish()
    one.collector.close()
    topic.send(payment(8, "a"), payment(8, "b"), payment(8, "c"), partition=0)
    wait_for(lambda: two.sums() == dict.fromkeys(accounts, 15), what="one replica has taken over", timeout=PATIENCE)


def test_a_label_set_in_several_partitions_adds_up_and_is_warned_of_with_replicas(topic: Topic, start: Start) -> None:
    for partition in range(3):
        topic.send(payment(1), partition=partition)
    one, two = start(topic), start(topic)
    assert one.sums() == {"a": 3}
    assert one.warned() == {}
    wait_for(lambda: two.sums() == {"a": 1}, what="second replica has a partition", timeout=PATIENCE)
    assert one.sums() == {"a": 2}
    assert one.warned()["label_sets_shared"][0] == 1


def test_a_new_group_may_begin_with_what_comes(topic: Topic, start: Start) -> None:
    topic.send(payment(1))
    source = start(topic, start="latest")
    assert source.collect() == {}
    topic.send(payment(2))
    wait_for(lambda: source.sums() == {"a": 2}, what="the new message", timeout=PATIENCE)
    source.collector.close()
    topic.send(payment(4))
    assert start(topic, start="latest").sums() == {"a": 7}  # now the window is known to the group


@pytest.mark.parametrize("begin", ["latest", "earliest"])
def test_a_trial_leaves_no_offsets(topic: Topic, start: Start, begin: str) -> None:
    topic.send(payment(1))
    source = start(topic, trial=True, start=begin)
    source.publish()
    source.collector.close()
    assert topic.committed(source.collector._config.group_id, 3) == {}


def test_a_member_that_died_may_have_the_partitions_still(topic: Topic, start: Start) -> None:
    topic.send(payment(1))
    dead_member(topic, session_timeout=300)
    start(topic).failure_of(TimedOut, "after its session_timeout")


def test_deleted_messages_are_no_obstacle(cluster: Cluster, topic: Topic, start: Start) -> None:
    source = start(topic)
    topic.send(*[payment(1)] * 4)
    source.publish()
    source.collector.close()
    topic.send(*[payment(2)] * 4)
    cluster.delete_before(topic, 0, 6)
    assert start(topic).sums() == {"a": 4}
