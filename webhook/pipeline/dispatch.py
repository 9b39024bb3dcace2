"""Delivery: claim → summarise → send → record → chart. Text first: nothing waits for a picture.

Each notification is handled in a thread of a small pool, so that a slow provider or model does not hold the others;
charts are drawn and attached in a pool of their own, after the text was recorded as sent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from webhook.domain.alert import AlertTypes, NotifyReason
from webhook.domain.masking import change_secrets
from webhook.domain.message import Message, Note, Summary, chart_metric, compose, ended_at, merchant_of
from webhook.domain.summary import template_summary
from webhook.pipeline.chart import AlertChart
from webhook.pipeline.lane import Lane
from webhook.ports import (
    DeliveryError,
    HistoryUnavailable,
    Notifier,
    PermanentDeliveryError,
    Receipt,
    Secrets,
    SecretUnreadable,
    StoreUnavailable,
    Summariser,
    TemporaryDeliveryError,
)

LEASE = timedelta(seconds=60)
"""Longer than the slowest summary (30 s) and send together: a lease must not end while its worker is still busy."""

RECORD_WITHIN = timedelta(seconds=10)
"""Beside a summary of 30 s and a send of 10 s this leaves the lease a margin for the last try's own wait."""

SUMMARY_BUDGET = timedelta(seconds=5)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=5)
GIVE_UP_AFTER = timedelta(hours=24)
"""So long after it was queued a message that still fails is a dead letter: a provider may be away for hours."""

LONGEST_PAUSE = timedelta(minutes=10)
"""A provider that asks us to wait longer is asked again after this."""

Target = tuple[str, tuple[tuple[str, str], ...]]
"""A channel type and the settings of one merchant's channel: what a provider's limits are for."""

ROOM_WITHIN = 0.1  # seconds; whoever waits for a free thread goes on as soon as there is one

log = structlog.get_logger()


class Outbox(Protocol):
    """What dispatch needs of `webhook.storage.outbox.Outbox`."""

    def claim(self, limit: int, owner: str, now: datetime, lease: timedelta) -> list[Note]: ...
    def record_sent(self, note: Note, receipt: Receipt, summary: Summary, now: datetime) -> bool: ...
    def record_failed(
        self, note: Note, error: str, now: datetime, *, retry_at: datetime | None, counted: bool = True
    ) -> bool: ...
    def record_chart(self, note: Note, outcome: Mapping[str, Any]) -> None: ...


class Meter(Protocol):
    """Where deliveries are counted."""

    def sent(self, note: Note, now: datetime) -> None: ...
    def failed(self, note: Note, *, permanent: bool) -> None: ...
    def chart(self, outcome: str) -> None: ...


def retry_wait(tries: int, spread: float) -> timedelta:
    """Time before the next try after `tries` (≥ 1) failed ones: 5 s, 20 s, 80 s, …, at most 5 min.

    `spread` in 0..1 takes away up to half of it, so that many failures do not come back in one moment.
    """
    longest = min(FIRST_WAIT * 4.0 ** min(tries - 1, 10), LONGEST_WAIT)
    return longest * (1 - spread / 2)


@dataclass(slots=True)
class Dispatcher:
    """Sends what is in the outbox. `clock` gives the time of recording, after a call of unknown length."""

    outbox: Outbox
    notifiers: Mapping[str, Notifier]
    public_url: str
    owner: str
    clock: Callable[[], datetime]
    meter: Meter
    secrets: Secrets | None = None
    alert_types: AlertTypes = field(default_factory=AlertTypes)
    summariser: Summariser | None = None
    chart: AlertChart | None = None
    parallel: int = 8
    summary_budget: timedelta = SUMMARY_BUDGET
    _senders: Lane = field(init=False)
    _drawers: Lane = field(init=False)
    _paused: dict[Target, datetime] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._senders, self._drawers = Lane("send", self.parallel), Lane("chart", 2)

    def run_once(self, now: datetime) -> int:
        """Claim what free threads can take and start sending it; return how many were claimed."""
        free = self._senders.free(ROOM_WITHIN)
        if not free:
            return 0
        for target, until in self._paused.copy().items():
            if until <= now:
                self._paused.pop(target, None)
        notes = self.outbox.claim(free, self.owner, now, LEASE)
        for note in notes:
            self._senders.submit(self._deliver, note)
        return len(notes)

    def finish(self, timeout: float | None = None) -> None:
        """Wait for the texts, then for the charts, each at most `timeout` seconds."""
        self._senders.finish(timeout)
        self._drawers.finish(timeout)

    def close(self) -> None:
        """Finish the texts; charts that were not begun are left out."""
        self._senders.close()
        self._drawers.close(drop_queued=True)

    def _deliver(self, note: Note) -> None:
        notifier = self.notifiers.get(note.channel_type)
        if notifier is None:
            self._failed(note, PermanentDeliveryError(f"channel {note.channel_type!r} is not configured"))
            return
        if (until := self._paused.get(_target(note))) is not None:
            error = f"the provider asked us to wait until {until:%H:%M:%S} UTC"
            self.outbox.record_failed(note, error, self.clock(), retry_at=until, counted=False)
            return
        summary = self._summarise(note)
        message = compose(note, summary, self.public_url)
        try:
            settings = self._decrypted(note)
            receipt = notifier.send(message, settings, _before(note))
        except DeliveryError as error:
            self._failed(note, error)
            return
        now = self.clock()
        if not self._record_sent(note, receipt, summary, now):
            _log(note).warning("notification_lease_lost")
        self.meter.sent(note, now)
        _log(note).info(
            "notification_sent",
            channel=note.channel_type,
            reason=note.reason,
            severity=note.severity,
            try_=note.retry_count + 1,
        )
        if self.chart is not None and note.reason is not NotifyReason.MENTION:
            self._drawers.submit(self._attach, note, message, notifier, receipt, settings)

    def _decrypted(self, note: Note) -> Mapping[str, Any]:
        """The channel's settings with their secrets, right before they are used; a missing key may yet be given."""
        if self.secrets is None:
            return note.channel_settings
        secrets = self.secrets
        try:
            return change_secrets({"": note.channel_settings}, lambda _, text: secrets.decrypt(text))[""]
        except SecretUnreadable as error:
            raise TemporaryDeliveryError(f"the settings of this channel cannot be read: {error}") from None

    def _record_sent(self, note: Note, receipt: Receipt, summary: Summary, now: datetime) -> bool:
        """As long as the lease allows: a message whose sending is not recorded is sent again."""
        recording = Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_exponential(0.1, max=2),
            stop=stop_after_delay(RECORD_WITHIN),
            reraise=True,
        )
        return recording(self.outbox.record_sent, note, receipt, summary, now)

    def _summarise(self, note: Note) -> Summary:
        """Within the budget, whatever models do."""
        if self.summariser is None or note.reason is NotifyReason.MENTION:
            return template_summary(note)
        return self.summariser.summarise(note, self.summary_budget)

    def _failed(self, note: Note, error: DeliveryError) -> None:
        now = self.clock()
        counted, retry_at = True, None
        if isinstance(error, TemporaryDeliveryError):
            pause = self._pause(note, error.retry_after, now)
            counted = not pause
            if now - note.queued_at < GIVE_UP_AFTER:
                spread = random.random()  # noqa: S311 - spreads load, guards nothing
                retry_at = now + (pause or retry_wait(note.retry_count + 1, spread))
        self.outbox.record_failed(note, str(error), now, retry_at=retry_at, counted=counted)
        self.meter.failed(note, permanent=retry_at is None)
        _log(note).warning("notification_failed", channel=note.channel_type, error=str(error), retry_at=retry_at)

    def _pause(self, note: Note, asked_s: float | None, now: datetime) -> timedelta:
        """How long to leave the note's target alone, where its provider asks for that; others may go on."""
        if not asked_s:
            return timedelta(0)
        pause = timedelta(seconds=min(asked_s, LONGEST_PAUSE.total_seconds()))
        self._paused[_target(note)] = now + pause
        _log(note).warning("channel_paused", channel=note.channel_type, asked_s=asked_s, paused_s=pause.total_seconds())
        return pause

    def _attach(
        self, note: Note, message: Message, notifier: Notifier, receipt: Receipt, settings: Mapping[str, Any]
    ) -> None:
        """Draw and attach; whatever happens here, the text has gone out."""
        try:
            image = self._draw(note)
            if image is None:
                return
            notifier.attach(message, receipt, image, settings)
        except (HistoryUnavailable, DeliveryError) as error:
            self._without_chart(note, str(error))
        except Exception as error:
            self._without_chart(note, repr(error))
            raise
        else:
            self.outbox.record_chart(note, {"bytes": len(image)})
            self.meter.chart("attached")

    def _without_chart(self, note: Note, error: str) -> None:
        self.outbox.record_chart(note, {"error": error})
        self.meter.chart("failed")
        _log(note).warning("chart_failed", error=error)

    def _draw(self, note: Note) -> bytes | None:
        default = self.alert_types[note.alert_type].default_metric
        metric = chart_metric(list(note.metrics), note.thresholds, default)
        if metric is None or self.chart is None:
            return None
        ended = note.reason is NotifyReason.RESOLVED
        return self.chart.draw(
            metric=metric,
            threshold=note.thresholds.get(metric),
            account_id=note.account_id,
            merchant=merchant_of(note),
            start=note.first_triggered_at,
            end=ended_at(note) if ended else None,
            now=self.clock(),
            alert_type=note.alert_type,
        )


def _before(note: Note) -> Receipt | None:
    if note.told_before is None:
        return None
    details = dict(note.told_before)
    return Receipt(str(details.pop("reference", "")), details)


def _target(note: Note) -> Target:
    """Secrets in it are encrypted: the same ones until the merchant changes them."""
    return note.channel_type, tuple(sorted((name, str(value)) for name, value in note.channel_settings.items()))


def _log(note: Note) -> structlog.stdlib.BoundLogger:
    bound: structlog.stdlib.BoundLogger = log.bind(
        trace_id=note.notification_id,
        alert_id=note.alert_id,
        notification_id=note.notification_id,
        merchant_id=note.account_id,
    )
    return bound
