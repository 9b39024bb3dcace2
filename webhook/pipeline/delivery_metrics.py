"""What the worker counts: messages, charts, and what time brought about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from webhook.domain.alert import NotifyReason
from webhook.domain.message import Note
from webhook.pipeline.sweep import Swept


class ChannelState(Protocol):
    """What is shown of `webhook.storage.channel_health.ChannelHealth`."""

    @property
    def last_sent_at(self) -> datetime | None: ...
    @property
    def last_failed_at(self) -> datetime | None: ...
    @property
    def paused_until(self) -> datetime | None: ...
    @property
    def waiting(self) -> int: ...
    @property
    def retrying(self) -> int: ...


def _timestamp(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


class DeliveryMetrics:
    """What was sent, how long it took, and what the sweep did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._notifications = Counter(
            "sentinel_notifications", "Attempts to deliver.", ["channel", "reason", "outcome"], registry=registry
        )
        self._delay = Histogram(
            "sentinel_notification_delay_seconds",
            "From the decision, or its replay, to the provider's answer.",
            ["channel"],
            buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800),
            registry=registry,
        )
        self._repeated = Counter(
            "sentinel_notifications_maybe_repeated",
            "Tries of messages that the provider may have already: an answer was lost or a worker died.",
            ["channel"],
            registry=registry,
        )
        self._pauses = Counter(
            "sentinel_notification_pause_seconds",
            "How long providers asked that a place be left alone.",
            ["channel"],
            registry=registry,
        )
        self._charts = Counter("sentinel_charts", "Charts for messages.", ["outcome"], registry=registry)
        self._canary = Histogram(
            "sentinel_canary_seconds",
            "From a test message's queueing to the provider's answer.",
            ["channel"],
            buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60),
            registry=registry,
        )
        self._canary_at = Gauge(
            "sentinel_canary_last_success_timestamp_seconds",
            "When a test message last went through; 0 until one did in this worker.",
            ["channel"],
            registry=registry,
        )
        self._canary_failed = Counter(
            "sentinel_canary_failures", "Test messages that failed.", ["channel"], registry=registry
        )
        self._sweeps = Counter("sentinel_sweep_changes", "What the sweep did.", ["change"], registry=registry)
        self._purged = Counter("sentinel_purged_rows", "Rows older than their retention.", ["table"], registry=registry)
        self._leading = Gauge("sentinel_sweep_leader", "1 in the one worker that sweeps.", registry=registry)
        self._outbox = Gauge("sentinel_outbox", "Notifications not yet delivered.", ["status"], registry=registry)
        self._oldest = Gauge(
            "sentinel_outbox_oldest_seconds",
            "How long the message that waits longest has been due; 0 in workers that do not sweep.",
            registry=registry,
        )
        self._swept_at = Gauge(
            "sentinel_sweep_last_success_timestamp_seconds", "When this worker last swept well.", registry=registry
        )
        self._channel_at = Gauge(
            "sentinel_channel_last_success_timestamp_seconds",
            "When a message was last taken by a provider, within a day.",
            ["channel"],
            registry=registry,
        )
        self._channel_failed_at = Gauge(
            "sentinel_channel_last_failure_timestamp_seconds",
            "When a message was last given up, within a day.",
            ["channel"],
            registry=registry,
        )
        self._channel_waiting = Gauge(
            "sentinel_channel_waiting", "Messages that wait or are being sent.", ["channel"], registry=registry
        )
        self._channel_retrying = Gauge(
            "sentinel_channel_retrying", "Messages that failed and are tried again.", ["channel"], registry=registry
        )
        self._channel_paused = Gauge(
            "sentinel_channel_paused_until_timestamp_seconds",
            "Until when a provider asked to leave a place alone for which messages wait; 0 for none.",
            ["channel"],
            registry=registry,
        )
        self._errors = Counter("sentinel_worker_errors", "Rounds that failed.", ["loop"], registry=registry)

    def begun(self, channels: Iterable[str]) -> None:
        """There are series of what they send and give up from now on: a rate does not see what begins with 1."""
        for channel in channels:
            for reason in NotifyReason:
                for outcome in ("sent", "failed"):
                    self._notifications.labels(channel, reason.value, outcome)
            self._delay.labels(channel)

    def sent(self, note: Note, now: datetime) -> None:
        self._notifications.labels(note.channel_type, note.reason.value, "sent").inc()
        self._delay.labels(note.channel_type).observe(max(0.0, (now - note.queued_at).total_seconds()))

    def repeated(self, note: Note) -> None:
        self._repeated.labels(note.channel_type).inc()

    def failed(self, note: Note, *, permanent: bool) -> None:
        self._notifications.labels(note.channel_type, note.reason.value, "failed" if permanent else "retried").inc()

    def paused(self, note: Note, seconds: float) -> None:
        self._pauses.labels(note.channel_type).inc(seconds)

    def canary_begun(self, channel: str) -> None:
        """From now on there is a series of it, 0 until a test message went through: what is not there no rule sees."""
        self._canary_at.labels(channel)
        self._canary_failed.labels(channel)

    def canary(self, channel: str, seconds: float, at: datetime) -> None:
        self._canary.labels(channel).observe(seconds)
        self._canary_at.labels(channel).set(at.timestamp())

    def canary_failed(self, channel: str) -> None:
        self._canary_failed.labels(channel).inc()

    def chart(self, outcome: str) -> None:
        self._charts.labels(outcome).inc()

    def swept(self, swept: Swept, depth: dict[str, int], oldest: timedelta, at: datetime) -> None:
        """`oldest`: how long the message that waits longest has been due."""
        for change, number in swept.counts().items():
            self._sweeps.labels(change).inc(number)
        for status, number in depth.items():
            self._outbox.labels(status).set(number)
        self._oldest.set(oldest.total_seconds())
        self._swept_at.set(at.timestamp())

    def channels(self, health: Mapping[str, ChannelState]) -> None:
        """Of all workers together, told by one of them; by the others nothing."""
        gauges: tuple[tuple[Gauge, Callable[[ChannelState], float | None]], ...] = (
            (self._channel_at, lambda state: _timestamp(state.last_sent_at)),
            (self._channel_failed_at, lambda state: _timestamp(state.last_failed_at)),
            (self._channel_waiting, lambda state: state.waiting),
            (self._channel_retrying, lambda state: state.retrying),
            (self._channel_paused, lambda state: _timestamp(state.paused_until) or 0.0),
        )
        for gauge, value_of in gauges:
            gauge.clear()
            for channel, state in health.items():
                if (value := value_of(state)) is not None:
                    gauge.labels(channel).set(value)

    def purged(self, rows: Mapping[str, int]) -> None:
        for table, number in rows.items():
            self._purged.labels(table).inc(number)

    def leading(self, *, leads: bool) -> None:
        """Only the leader tells what is in the outbox: the sum over all workers is what there is."""
        self._leading.set(leads)
        if not leads:
            self._outbox.clear()
            self._oldest.set(0)

    def error(self, loop: str) -> None:
        self._errors.labels(loop).inc()
