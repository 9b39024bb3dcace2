"""A Kafka cluster for the tests: the mock cluster that Kafka's client library has, on free loopback ports.

It keeps messages, groups and commits as brokers do. It has no index by time (it answers that no message is recent
enough), no users and no TLS: `Topic.since` knows the times of what was sent, and `servers_kafka_gate` puts users and
TLS in front.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka

_PRODUCER = 0
_names = itertools.count(1)


def _library() -> ctypes.CDLL:
    """The client library that the Python package brings along, whose functions for tests the package leaves out."""
    (path,) = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka-*")
    library = ctypes.CDLL(str(path))
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_destroy.argtypes = [ctypes.c_void_p]
    return library


class Cluster:
    """A running cluster of one broker. A consumer joins a group that is new without the usual delay.

    Where others were in the group before, it waits for them for nearly their session timeout, even if they have left.
    """

    def __init__(self) -> None:
        self._library = _library()
        self._client = self._library.rd_kafka_new(_PRODUCER, None, ctypes.create_string_buffer(512), 512)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, 1)
        self._call("group_initial_rebalance_delay_ms", 0)
        found: bytes = self._library.rd_kafka_mock_cluster_bootstraps(ctypes.c_void_p(self._cluster))
        self.brokers = found.decode()
        self.port = int(self.brokers.rsplit(":", 1)[1])

    def topic(self, partitions: int = 1) -> Topic:
        """A new topic."""
        name = f"topic-{next(_names)}"
        self._call("topic_create", name.encode(), partitions, 1)
        return Topic(self.brokers, name)

    def forbid(self, topic: Topic, error: int) -> None:
        """Answer questions about the topic with an error."""
        self._call("topic_set_error", topic.name.encode(), error)

    def fail(self, request: int, errors: Sequence[int]) -> None:
        """Answer the next requests of a kind with these errors."""
        array = (ctypes.c_int * len(errors))(*errors)
        self._call("push_request_errors_array", ctypes.c_int16(request), ctypes.c_size_t(len(errors)), array)

    def delete_before(self, topic: Topic, partition: int, offset: int) -> None:
        self._call("partition_delete_records", topic.name.encode(), partition, ctypes.c_int64(offset))

    def down(self) -> None:
        self._call("broker_set_down", 1)

    def up(self) -> None:
        self._call("broker_set_up", 1)

    def close(self) -> None:
        self._call("cluster_destroy")
        self._library.rd_kafka_destroy(self._client)

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, f"rd_kafka_mock_{name}")
        function(ctypes.c_void_p(self._cluster), *arguments)


class Topic:
    """A topic and who writes to it. What was sent is kept, with its offset and timestamp."""

    def __init__(self, brokers: str, name: str) -> None:
        self.brokers = brokers
        self.name = name
        self.sent: dict[int, list[tuple[int, float]]] = {}
        self._producer = confluent_kafka.Producer({"bootstrap.servers": brokers, "linger.ms": 0, "log_level": 0})

    def send(self, *values: Any, partition: int = 0, at: float | None = None, key: str | None = None) -> None:
        """Write messages, objects as JSON and bytes as they are, and wait until they are there."""

        def noted(error: confluent_kafka.KafkaError | None, message: confluent_kafka.Message) -> None:
            assert error is None, error
            offset = message.offset()
            assert offset is not None
            self.sent.setdefault(partition, []).append((offset, milliseconds / 1000))

        milliseconds = int((time.time() if at is None else at) * 1000)
        for value in values:
            content = value if isinstance(value, bytes) or value is None else json.dumps(value)
            self._producer.produce(self.name, content, key, partition, noted, milliseconds)
        assert self._producer.flush(60) == 0

    def since(self, _: object, partitions: list[confluent_kafka.TopicPartition], at: float) -> dict[int, int | None]:
        """Each partition's first offset at or after a time, which brokers find by their index."""
        return {
            each.partition: next((offset for offset, sent in self.sent.get(each.partition, []) if sent >= at), None)
            for each in partitions
        }

    def committed(self, group: str, partitions: int = 1) -> dict[int, int]:
        """What the group has committed, by partition."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": group, "log_level": 0})
        asked = [confluent_kafka.TopicPartition(self.name, number) for number in range(partitions)]
        try:
            return {each.partition: each.offset for each in consumer.committed(asked, timeout=60) if each.offset >= 0}
        finally:
            consumer.close()


_MEMBER = """
import json, sys
from confluent_kafka import Consumer
consumer = Consumer(json.loads(sys.argv[1]))
consumer.subscribe([sys.argv[2]])
while not consumer.assignment():
    consumer.poll(0.1)
print("assigned", flush=True)
while True:
    consumer.poll(0.1)
"""


def dead_member(topic: Topic, session_timeout: float) -> None:
    """A consumer of the topic's group had all partitions, and was killed; it did not leave."""
    settings = {
        "bootstrap.servers": topic.brokers, "group.id": topic.name, "enable.auto.commit": False,
        "session.timeout.ms": int(session_timeout * 1000), "partition.assignment.strategy": "cooperative-sticky",
    }  # fmt: skip
    command = [sys.executable, "-c", _MEMBER, json.dumps(settings), topic.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as member:
        try:
            assert member.stdout is not None
            assert member.stdout.readline() == b"assigned\n"
        finally:
            member.kill()


@contextmanager
def kafka() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.close()
