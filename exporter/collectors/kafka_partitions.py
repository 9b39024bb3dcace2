"""How far a Kafka source has read each of its partitions, and where it begins one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import (
    OFFSET_INVALID,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

_ANSWER_WITHIN = 10.0
_PATIENCE = 0.1
_LAST = 10  # messages; the last offsets may be marks of transactions, and times need not be in order


@dataclass(slots=True)
class Progress:
    """One partition, from being assigned to being revoked. All offsets are of the next message.

    `counted_from` is where messages are new: those before it were served before, and are read again for the state.
    `complete_at` is where the partition ended when it was assigned: from there on the state is complete.
    `served` is up to where the published values go, `committed` what the group has stored; None when nothing.
    """

    partition: int
    position: int
    counted_from: int
    complete_at: int
    committed: int | None
    served: int | None = None

    @property
    def missing(self) -> int:
        """Messages to read until the state is complete."""
        return max(0, self.complete_at - self.position)

    @property
    def due(self) -> int | None:
        """The offset to commit, None when there is none or it is committed."""
        return self.served if self.served != self.committed else None

    def at_end(self, offset: int) -> None:
        """The partition ends here, though the last offsets may hold no message."""
        self.position = max(self.position, offset)
        self.complete_at = min(self.complete_at, self.position)


def offsets_since(consumer: Consumer, partitions: list[TopicPartition], at: float) -> dict[int, int | None]:
    """Offset of each partition's first message at or after a time in Unix seconds; None where there is none."""
    wanted = [TopicPartition(each.topic, each.partition, max(0, int(at * 1000))) for each in partitions]
    found = consumer.offsets_for_times(wanted, timeout=_ANSWER_WITHIN)
    return {each.partition: each.offset if each.offset >= 0 else None for each in _sound(found)}


def begin(
    consumer: Consumer,
    partitions: list[TopicPartition],
    since: float,
    start: Literal["latest", "earliest"],
    newest: Callable[[list[TopicPartition]], Mapping[int, float]],
) -> list[Progress]:
    """Where to begin newly assigned partitions; `since` is how far back messages still matter, in Unix seconds.

    What the group committed was served, but what it added up to is not known any more. So reading begins with the
    first message that still matters, before the committed offset or after it. An index by time that knows of none is
    believed only if the `newest` messages of these partitions are older too; else all that is kept is read.
    KafkaException when brokers don't answer.
    """
    if not partitions:
        return []
    committed = {
        each.partition: each.offset if each.offset >= 0 else None
        for each in _sound(consumer.committed(partitions, timeout=_ANSWER_WITHIN))
    }
    kept = {each.partition: _kept(consumer, each) for each in partitions}  # before the index is asked, which may grow
    matters = offsets_since(consumer, partitions, since)
    doubtful = [
        TopicPartition(each.topic, each.partition, max(low, high - _LAST))
        for each in partitions
        for low, high in [kept[each.partition]]
        if matters[each.partition] is None and committed[each.partition] is not None and high > low
    ]
    for number, at in newest(doubtful).items() if doubtful else ():
        if at >= since:
            matters[number] = kept[number][0]
    return [
        _begin(number, kept[number], committed[number], matters[number], start)
        for number in (each.partition for each in partitions)
    ]


def newest_times(consumer: Consumer, partitions: list[TopicPartition]) -> dict[int, float]:
    """The highest timestamp of the messages from each partition's offset on, in Unix seconds.

    `consumer` is one that has nothing else to do. A partition without messages there, or whose messages have no
    timestamp, is left out. KafkaException when brokers don't answer.
    """
    consumer.assign(partitions)
    found: dict[int, float] = {}
    waiting = {each.partition for each in partitions}
    until = time.monotonic() + _ANSWER_WITHIN
    while waiting:
        if time.monotonic() > until:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - public, by its name
        for message in consumer.consume(_LAST * len(partitions), _PATIENCE):
            number, error = message.partition() or 0, message.error()
            if error is None:
                kind, milliseconds = message.timestamp()
                if kind != TIMESTAMP_NOT_AVAILABLE:
                    found[number] = max(found.get(number, 0.0), milliseconds / 1000)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - public, by its name
                waiting.discard(number)
    return found


def lag(consumer: Consumer, topic: str, progress: Progress) -> int:
    """Messages that are not read yet, by what the last fetch told; no request is made."""
    watermarks = consumer.get_watermark_offsets(TopicPartition(topic, progress.partition), cached=True)
    end = watermarks[1] if watermarks and watermarks[1] != OFFSET_INVALID else progress.complete_at
    return max(0, end - progress.position)


def _kept(consumer: Consumer, at: TopicPartition) -> tuple[int, int]:
    """The first offset that the partition keeps, and the one after its last."""
    watermarks = consumer.get_watermark_offsets(at, timeout=_ANSWER_WITHIN)
    assert watermarks is not None  # None is for the cached ones only
    return watermarks


def _begin(
    number: int,
    kept: tuple[int, int],
    committed: int | None,
    matters: int | None,
    start: Literal["latest", "earliest"],
) -> Progress:
    low, high = kept
    if committed is not None:
        counted_from = min(max(committed, low), high)
        position = counted_from if matters is None else matters
    elif start == "earliest":
        position = counted_from = low if matters is None else matters
    else:
        position = counted_from = high
    return Progress(number, position, counted_from, high, committed)


def _sound(found: list[TopicPartition]) -> list[TopicPartition]:
    """The answer about each partition; KafkaException when one has an error instead."""
    for each in found:
        if each.error is not None:
            raise KafkaException(each.error)
    return found
