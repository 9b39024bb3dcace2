"""A thread that reads a topic in a consumer group, and keeps what the messages add up to.

Everything about the client and the state happens in this one thread. A collection asks it for a reading and waits.
Offsets are committed when a reading that covers them is served, and not before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Literal

import polars as pl
import structlog
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as ClientMessage

from exporter.collectors.kafka_errors import (
    collect_error,
    is_about_connection,
    is_final,
    is_unknown_topic,
    unknown_topic,
)
from exporter.collectors.kafka_messages import Decoder, Decoding, Message, Tally
from exporter.collectors.kafka_partitions import Progress, begin, lag, newest_times
from exporter.collectors.kafka_state import AHEAD, LabelSets, StateSpec
from exporter.errors import CollectError, TimedOut

_BATCH = 5_000
_POLL = 0.1  # seconds; how long a collection waits when there are no messages
_PROBE = 1.0
_PAUSE = 0.5  # seconds between questions to brokers that do not answer
_BEHAVIOUR = {
    "client.id": "sentinel-exporter",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",  # where a position was deleted; a new group's start is decided when assigned
    "enable.partition.eof": True,
    "partition.assignment.strategy": "cooperative-sticky",  # what a consumer keeps, it need not read again
    "allow.auto.create.topics": False,
    "fetch.wait.max.ms": 200,  # a question to the broker waits behind a fetch that waits for messages
    "queued.max.messages.kbytes": 32 * 1024,
    "fetch.max.bytes": 16 * 1024 * 1024,
}
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Subscription:
    """What to read, and what of it to keep."""

    source: str
    topic: str
    group: str
    start: Literal["latest", "earliest"]
    decoding: Decoding
    state: StateSpec
    commits: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """The state at one moment. `covers` says how far it goes in each partition.

    `tally` and `consumed` count messages since the thread began. `shared` counts label sets that come from several
    partitions while other consumers have some of the topic's; 0 when there are no others.
    """

    frame: pl.DataFrame
    fields: tuple[str, ...] | None
    covers: tuple[tuple[Progress, int], ...]
    lags: Mapping[int, int]
    tally: Tally
    consumed: int
    over_budget: bool
    shared: int


class ConsumerThread:
    """Consumes from `start` to `stop`. `redact` takes secrets out of log lines; `clock` gives Unix seconds."""

    def __init__(
        self,
        subscription: Subscription,
        settings: Mapping[str, str],
        redact: Callable[[str], str],
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._subscription = subscription
        self._redact = redact
        self._client_log = logging.Logger(f"kafka.{subscription.source}", logging.DEBUG)  # noqa: LOG001 - gone with the thread
        self._client_log.addHandler(_ClientLog(subscription.source, redact))
        self._clock = clock
        self._decoder = Decoder(subscription.decoding)
        self._state = LabelSets(subscription.state)
        self._parts: dict[int, Progress] = {}
        self._assigned = False
        self._all_partitions = 0
        self._tally = Tally()
        self._consumed = 0
        self._refusal: KafkaError | None = None
        self._trouble: CollectError | None = None
        self._lock = threading.Lock()
        self._wanted: Future[Reading] | None = None
        self._broken: Exception | None = None
        self._failure: Exception | None = None
        self._served: SimpleQueue[Reading] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kafka-{subscription.source}", daemon=True)

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Leave the group; whether that was done within `timeout` seconds."""
        self._stopped.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def reading(self) -> Future[Reading]:
        """A reading, as soon as the state is complete; or the error that ended the thread."""
        wanted: Future[Reading] = Future()
        with self._lock:
            if self._failure is not None:
                wanted.set_exception(self._failure)
            self._wanted = wanted
        return wanted

    def served(self, reading: Reading) -> None:
        """A reading is served now: what it covers may be committed."""
        self._served.put(reading)

    def why_not(self) -> CollectError:
        """Why there is no reading yet."""
        if self._trouble is not None:
            return self._trouble
        if not self._assigned:
            return TimedOut(
                f"group {self._subscription.group} assigned no partitions in time: those of a member that died without "
                "leaving are free after its session_timeout (or set instance); if none did, raise timeout"
            )
        missing = sum(progress.missing for progress in list(self._parts.values()))
        return TimedOut(f"{missing} messages are still to be read until values are complete; raise timeout if it lasts")

    def _run(self) -> None:
        try:
            self._consume()
        except KafkaException as error:
            self._fail(self._collect_error(error.args[0]))
        except Exception as error:  # noqa: BLE001 - raised again in the collection that waits, or by the next one
            self._fail(error)

    def _consume(self) -> None:
        callbacks = {"error_cb": self._on_error, "on_commit": self._on_commit}
        consumer = Consumer({**_BEHAVIOUR, **self.settings, **callbacks}, logger=self._client_log)
        try:
            consumer.subscribe(
                [self._subscription.topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=lambda _, partitions: self._drop(partitions),
            )
            while not self._stopped.is_set():
                self._take(consumer.consume(_BATCH, _POLL))
                if self._broken is not None:
                    raise self._broken
                if self._note_served():
                    self._commit(consumer, _due(self._parts.values()), wait=False)
                if self._refusal is not None:
                    raise self._refused(consumer, self._refusal)
                self._answer(consumer)
        finally:
            consumer.close()

    def _fail(self, error: Exception) -> None:
        text = self._redact(f"{type(error).__name__}: {error}")
        log.warning("kafka consumer ended", source=self._subscription.source, error=text)
        with self._lock:
            self._failure, wanted = error, self._wanted
        if wanted is not None and not wanted.done() and wanted.set_running_or_notify_cancel():
            wanted.set_exception(error)

    def _take(self, messages: Sequence[ClientMessage]) -> None:
        """Decode a batch and add it to the state. What was served before counts for the state only."""
        new: list[Message] = []
        again: list[Message] = []
        now = self._clock()
        for message in messages:
            progress = self._parts.get(message.partition() or 0)
            error = message.error()
            if error is not None:
                self._take_error(error, message, progress)
            elif progress is not None:
                taken = _message(message, now)
                progress.position = taken.offset + 1
                (new if taken.offset >= progress.counted_from else again).append(taken)
        self._consumed += len(new)
        for batch, tally in ((again, Tally()), (new, self._tally)):
            events = [event for message in batch for event in self._decoder.events(message, tally)]
            if events:
                self._state.add(events, now, tally)

    def _take_error(self, error: KafkaError, message: ClientMessage, progress: Progress | None) -> None:
        if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - public, by its name
            self._on_error(error)
        elif progress is not None:
            progress.at_end(message.offset() or 0)

    def _answer(self, consumer: Consumer) -> None:
        """Give the collection that waits its reading, if the state is complete and the brokers are there."""
        wanted = self._wanted
        ready = self._assigned and not any(progress.missing for progress in self._parts.values())
        if wanted is None or wanted.done() or not ready or not self._reachable(consumer):
            return
        reading = self._read(consumer)
        if wanted.set_running_or_notify_cancel():
            wanted.set_result(reading)

    def _reachable(self, consumer: Consumer) -> bool:
        """Whether a broker answers about the topic; a client that lost all of them would just be quiet."""
        topic = self._subscription.topic
        try:
            found = consumer.list_topics(topic, timeout=_PROBE).topics[topic]
        except KafkaException as error:
            self._on_error(error.args[0])
            self._stopped.wait(_PAUSE)
            return False
        if found.error is not None:
            self._on_error(found.error)
            return False
        self._all_partitions = len(found.partitions)
        self._trouble = None
        return True

    def _read(self, consumer: Consumer) -> Reading:
        now, topic = self._clock(), self._subscription.topic
        frame, fields = self._state.frame(now), None
        if frame.columns:
            columns = self._subscription.state.columns
            frame = frame.drop(name for name, (_, field) in columns.items() if field in self._decoder.absent)
            fields = tuple(dict.fromkeys((*frame.columns, *self._decoder.example_fields)))
        return Reading(
            frame,
            fields,
            covers=tuple((progress, progress.position) for progress in self._parts.values()),
            lags={number: lag(consumer, topic, progress) for number, progress in self._parts.items()},
            tally=self._tally.copy(),
            consumed=self._consumed,
            over_budget=self._state.over_budget(now),
            shared=self._state.shared if len(self._parts) < self._all_partitions else 0,
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Errors are kept for the thread: the client would hand them on as something that no `except` catches."""
        try:
            self._begin(consumer, partitions)
        except Exception as error:  # noqa: BLE001 - raised again in the thread
            self._broken = error

    def _begin(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begin where messages still matter. What nobody read because it is too old is tallied as late."""
        subscription = self._subscription
        since = self._clock() - subscription.state.horizon - AHEAD
        added = begin(consumer, partitions, since, subscription.start, self._newest)
        topic = subscription.topic
        consumer.incremental_assign([TopicPartition(topic, each.partition, each.position) for each in added])
        if new := [each for each in added if each.committed is None and subscription.start == "latest"]:
            self._commit(consumer, {each.partition: each.position for each in new}, wait=True)
        for each in added:
            self._parts[each.partition] = each
            if each.committed is not None and each.position > each.counted_from:
                skipped = Message(each.partition, each.counted_from, since, None, None)
                what = "messages came while nobody consumed, and are too old now"
                self._tally.add("message_late", skipped, what, count=each.position - each.counted_from)
        self._assigned = True

    def _newest(self, partitions: list[TopicPartition]) -> Mapping[int, float]:
        """By a client of its own: this thread's waits for its partitions."""
        settings = {name: value for name, value in self.settings.items() if name != "group.instance.id"}
        client = Consumer({**_BEHAVIOUR, **settings}, logger=self._client_log)
        try:
            return newest_times(client, partitions)
        finally:
            client.close()

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Commit what is served before another consumer takes over."""
        self._note_served()
        going = [self._parts[each.partition] for each in partitions if each.partition in self._parts]
        self._commit(consumer, _due(going), wait=True)
        self._drop(partitions)

    def _drop(self, partitions: Sequence[TopicPartition]) -> None:
        """Forget partitions; those that were lost are another consumer's already, so nothing is committed.

        Without any there is nothing to serve until the group has decided again.
        """
        gone = {each.partition for each in partitions}
        self._parts = {number: progress for number, progress in self._parts.items() if number not in gone}
        self._state.forget(gone, self._clock())
        self._assigned = bool(self._parts)

    def _note_served(self) -> bool:
        """Take note of the readings that were served since; whether there were any."""
        noted = False
        while True:
            try:
                reading = self._served.get_nowait()
            except Empty:
                return noted
            noted = True
            self._tally.forget_examples(reading.tally)
            for progress, position in reading.covers:
                progress.served = position

    def _commit(self, consumer: Consumer, due: Mapping[int, int], *, wait: bool) -> None:
        """A commit that fails costs no data: the messages are read again."""
        topic = self._subscription.topic
        offsets = [TopicPartition(topic, number, offset) for number, offset in due.items()]
        if not offsets or not self._subscription.commits:
            return
        try:
            if wait:
                consumer.commit(offsets=offsets, asynchronous=False)
            else:
                consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._on_commit(error.args[0], [])

    def _on_commit(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        if error is not None:
            log.info("kafka commit failed", source=self._subscription.source, error=self._redact(error.str()))
        for each in partitions:
            progress = self._parts.get(each.partition)
            if progress is not None and each.error is None and error is None:
                progress.committed = each.offset

    def _on_error(self, error: KafkaError) -> None:
        """Note what the client reports: what is final ends the thread, the rest passes or explains a timeout."""
        if is_final(error):
            self._refusal = self._refusal or error
        elif self._trouble is None or not is_about_connection(error):
            self._trouble = self._collect_error(error)

    def _collect_error(self, error: KafkaError) -> CollectError:
        return collect_error(error, self._subscription.topic, self._subscription.group)

    def _refused(self, consumer: Consumer, error: KafkaError) -> CollectError:
        """The error that ends the thread; for a topic that is not there with the nearest that is."""
        if not is_unknown_topic(error):
            return self._collect_error(error)
        try:
            known = consumer.list_topics(timeout=_PROBE).topics
        except KafkaException:
            known = {}
        return unknown_topic(self._subscription.topic, known)


def _message(message: ClientMessage, now: float) -> Message:
    """One of the client's messages; `now` stands in for a timestamp that old brokers do not have."""
    kind, milliseconds = message.timestamp()
    at = now if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1000
    partition, offset = message.partition(), message.offset()
    assert partition is not None  # None is for messages that were not sent yet
    assert offset is not None
    return Message(partition, offset, at, message.key(), message.value())


def _due(parts: Iterable[Progress]) -> dict[int, int]:
    return {each.partition: each.due for each in parts if each.due is not None}


class _ClientLog(logging.Handler):
    """Hands the client's log lines on, without secrets."""

    def __init__(self, source: str, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._source = source
        self._redact = redact

    def emit(self, record: logging.LogRecord) -> None:
        """Failed connections, of which there are many, are told by the collection that fails for them."""
        text = record.getMessage()
        tell = log.info if record.levelno >= logging.WARNING and not text.startswith("FAIL") else log.debug
        tell("kafka client", source=self._source, text=self._redact(text))
