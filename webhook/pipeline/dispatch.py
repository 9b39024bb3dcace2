"""Delivery: claim → summarise → begin → send → record → chart. Text first: nothing waits for a picture.

Each channel has threads of its own, so that a provider that hangs holds up nobody else's messages, and no more is
claimed than they can take. Charts are drawn and attached in other threads, after the text was recorded as sent.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any, ParamSpec, Protocol

import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from webhook.domain.alert import AlertTypes, NotifyReason
from webhook.domain.gathered import gathered, is_gathered
from webhook.domain.masking import change_secrets
from webhook.domain.message import Message, Note, Summary, chart_metric, compose, ended_at, merchant_of
from webhook.domain.retrying import Failure, NextTry, next_try
from webhook.domain.summary import template_summary
from webhook.pipeline.chart import AlertChart
from webhook.pipeline.lane import Lane
from webhook.pipeline.later import Later
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

LEASE = timedelta(seconds=90)
"""Longer than the slowest summary (30 s) and send (three calls of 15 s) together: a lease must not end before."""

RECORD_WITHIN = timedelta(seconds=10)
"""Beside a summary of 30 s and a send of 45 s this leaves the lease a margin for the last try's own wait."""

SUMMARY_BUDGET = timedelta(seconds=5)
MOST_CHARTS = 50
"""Charts that wait to be drawn; further messages go without, for a picture that comes an hour late helps nobody."""

TEXTS_FIRST = 30.0
"""Seconds that a chart waits for a moment without texts: to draw takes the time of fifty of them."""

LOOK_AGAIN = 0.1  # seconds, between looks for such a moment

CHART_TRIES = 4
LONGEST_CHART_WAIT = timedelta(minutes=2)
"""A chart that a rate limit holds up is tried again, within so many tries that each wait so long at most."""

ROOM_WITHIN = 0.1  # seconds; whoever waits for a free thread goes on as soon as there is one
BREATH = 0.05
"""Seconds between two claims while messages are being sent: a claim costs as much for one message as for eight."""

P = ParamSpec("P")
Attach = Callable[..., None]  # takes `chart_png`, knows the rest
log = structlog.get_logger()


class Outbox(Protocol):
    """What dispatch needs of `webhook.storage.outbox.Outbox`."""

    def claim(
        self, limit: int, owner: str, now: datetime, lease: timedelta, room: Mapping[str, int] | None = None
    ) -> list[Note]: ...
    def begin(self, note: Note, now: datetime) -> bool: ...
    def record_sent(
        self, note: Note, receipt: Receipt, summary: Summary, now: datetime, kept: Mapping[str, Any]
    ) -> bool: ...
    def record_failed(
        self, note: Note, error: str, now: datetime, following: NextTry, *, unsure: bool = False
    ) -> bool: ...
    def record_chart(self, note: Note, outcome: Mapping[str, Any]) -> None: ...


class Meter(Protocol):
    """Where deliveries are counted."""

    def sent(self, note: Note, now: datetime) -> None: ...
    def repeated(self, note: Note) -> None: ...
    def failed(self, note: Note, *, permanent: bool) -> None: ...
    def paused(self, note: Note, seconds: float) -> None: ...
    def chart(self, outcome: str) -> None: ...


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
    _lanes: dict[str, Lane] = field(init=False)
    _others: Lane = field(init=False)
    _drawers: Lane = field(init=False)
    _later: Later = field(init=False, default_factory=lambda: Later(MOST_CHARTS))
    _room: threading.Event = field(init=False, default_factory=threading.Event)
    _closing: threading.Event = field(init=False, default_factory=threading.Event)
    _claimed_at: float = field(init=False, default=-BREATH)

    def __post_init__(self) -> None:
        widths = {name: min(self.parallel, notifier.parallel) for name, notifier in self.notifiers.items()}
        self._lanes = {name: Lane(f"send-{name}", width, self._room.set) for name, width in widths.items()}
        self._others, self._drawers = Lane("send", 1, self._room.set), Lane("chart", 2)

    def run_once(self, now: datetime) -> int:
        """Claim what free threads can take and start sending it; return how many were claimed."""
        for attach in self._later.due(now):
            self._drawers.submit(attach)
        self._wait_for_room()
        room = {name: lane.free() for name, lane in self._lanes.items()}
        limit = sum(room.values()) + self._others.free()
        if not limit:
            return 0
        self._claimed_at = monotonic()
        notes = self.outbox.claim(limit, self.owner, now, LEASE, room)
        for note in notes:
            self._lanes.get(note.channel_type, self._others).submit(self._deliver, note)
        return len(notes)

    def _wait_for_room(self) -> None:
        """Until nothing is being sent; else for a BREATH, and where a channel is full until half of it is free."""
        earliest, until = self._claimed_at + BREATH, monotonic() + ROOM_WITHIN
        full = [lane for lane in self._lanes.values() if not lane.free()]
        while (now := monotonic()) < until and any(lane.open for lane in self._lanes.values()):
            self._room.clear()
            if now < earliest:
                self._room.wait(min(earliest, until) - now)
            elif full and all(lane.free() < (lane.width + 1) // 2 for lane in full):
                self._room.wait(until - now)
            else:
                return

    def full(self) -> bool:
        """Whether some channel has no thread left: what waits for it can be claimed as soon as one is."""
        return any(not lane.free() for lane in self._lanes.values())

    def submit(self, channel: str, work: Callable[[Notifier], None]) -> None:
        """Let `work` wait for a thread of the channel, as messages do."""
        self._lanes[channel].submit(work, self.notifiers[channel])

    def draw(self, work: Callable[[], None]) -> None:
        """Let `work` wait for a thread that draws, and for a moment without texts, TEXTS_FIRST at most."""
        self._drawers.submit(self._after_texts, work, monotonic() + TEXTS_FIRST)

    def _after_texts(self, work: Callable[[], None], until: float) -> None:
        lanes = (*self._lanes.values(), self._others)
        while any(lane.open for lane in lanes) and monotonic() < until and not self._closing.wait(LOOK_AGAIN):
            pass
        if not self._closing.is_set():
            work()

    def finish(self, timeout: float | None = None) -> None:
        """Wait for the texts, then for the charts, `timeout` seconds at most for all of them."""
        until = None if timeout is None else monotonic() + timeout
        for lane in (*self._lanes.values(), self._others, self._drawers):
            lane.finish(None if until is None else max(0.0, until - monotonic()))

    def close(self, timeout: float | None = None) -> None:
        """Finish the texts, `timeout` seconds at most; charts that were not begun are left out."""
        until = None if timeout is None else monotonic() + timeout
        self._closing.set()
        for lane in (*self._lanes.values(), self._others, self._drawers):
            left = None if until is None else max(0.0, until - monotonic())
            lane.close(left, drop_queued=lane is self._drawers or until is not None)

    def busy(self) -> bool:
        """Whether anything is under way still."""
        return any(lane.open for lane in (*self._lanes.values(), self._others, self._drawers))

    def _deliver(self, note: Note) -> None:
        notifier = self.notifiers.get(note.channel_type)
        if notifier is None:
            self._failed(note, PermanentDeliveryError(f"channel {note.channel_type!r} is not configured"))
            return
        summary, message = self._message(note)
        try:
            settings = self._decrypted(note)
            if not self._begin(note):
                return
            receipt = notifier.send(message, settings, None if is_gathered(note) else _before(note))
        except DeliveryError as error:
            self._failed(note, error)
            return
        now = self.clock()
        wanted = self.chart is not None and not is_gathered(note) and note.reason is not NotifyReason.MENTION
        crowded = wanted and self._drawers.open >= MOST_CHARTS
        kept = {"chart": {"error": f"{MOST_CHARTS} charts wait to be drawn"}} if crowded else {}
        if not self._stored(self.outbox.record_sent, note, receipt, summary, now, kept):
            _log(note).warning("notification_lease_lost")
        self.meter.sent(note, now)
        _log(note).info(
            "notification_sent",
            channel=note.channel_type,
            reason=note.reason,
            severity=note.severity,
            try_=note.retry_count + 1,
            alerts=len(note.companions) + 1,
        )
        if crowded:
            self.meter.chart("failed")
        elif wanted:
            attach = partial(notifier.attach, message, receipt, settings=settings)
            self.draw(lambda: self._draw_and_attach(note, attach))

    def _message(self, note: Note) -> tuple[Summary, Message]:
        if is_gathered(note):
            return gathered(note, self.public_url)
        summary = self._summarise(note)
        return summary, compose(note, summary, self.public_url)

    def _begin(self, note: Note) -> bool:
        """Whether the provider may be called: not when the lease ended meanwhile, for another worker sends it then."""
        if not self._stored(self.outbox.begin, note, self.clock()):
            _log(note).warning("notification_lease_lost")
            return False
        if note.maybe_repeated:
            _log(note).warning("notification_maybe_repeated", channel=note.channel_type)
            self.meter.repeated(note)
        return True

    def _decrypted(self, note: Note) -> Mapping[str, Any]:
        """The channel's settings with their secrets, right before they are used; a missing key may yet be given."""
        if self.secrets is None:
            return note.channel_settings
        secrets = self.secrets
        try:
            return change_secrets({"": note.channel_settings}, lambda _, text: secrets.decrypt(text))[""]
        except SecretUnreadable as error:
            raise TemporaryDeliveryError(f"the settings of this channel cannot be read: {error}") from None

    def _stored(self, write: Callable[P, bool], *args: P.args, **kwargs: P.kwargs) -> bool:
        """As long as the lease allows: a message whose sending is not recorded is sent again."""
        storing = Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_exponential(0.1, max=2),
            stop=stop_after_delay(RECORD_WITHIN),
            reraise=True,
        )
        return storing(write, *args, **kwargs)

    def _summarise(self, note: Note) -> Summary:
        """Within the budget, whatever models do: a message that has waited so long for its turn waits for no model."""
        waited = timedelta(0) if note.retry_count else max(timedelta(0), self.clock() - note.queued_at)
        if self.summariser is None or note.reason is NotifyReason.MENTION or waited >= self.summary_budget:
            return template_summary(note)
        return self.summariser.summarise(note, self.summary_budget - waited)

    def _failed(self, note: Note, error: DeliveryError) -> None:
        now = self.clock()
        following, unsure = NextTry(None), False
        if isinstance(error, TemporaryDeliveryError):
            unsure = error.unsure
            failure = Failure(
                note.retry_count, note.maybe_repeated, error.retry_after, error.whose, unsure=unsure, blind=error.blind
            )
            spread = random.random()  # noqa: S311 - spreads load, guards nothing
            following = next_try(failure, note.queued_at, now, spread)
            if following.pause:
                paused_s = following.pause.total_seconds()
                self.meter.paused(note, paused_s)
                _log(note).warning(
                    "channel_paused", channel=note.channel_type, asked_s=error.retry_after, paused_s=paused_s
                )
        words = f"{error}; {following.why}" if following.why else str(error)
        self._stored(self.outbox.record_failed, note, words, now, following, unsure=unsure)
        self.meter.failed(note, permanent=following.at is None)
        _log(note).warning("notification_failed", channel=note.channel_type, error=words, retry_at=following.at)

    def _draw_and_attach(self, note: Note, attach: Attach) -> None:
        """Whatever happens here, the text has gone out."""
        try:
            image = self._draw(note)
        except HistoryUnavailable as error:
            self._without_chart(note, str(error))
        except Exception as error:
            self._without_chart(note, repr(error))
            raise
        else:
            if image is not None:
                self._attach(note, attach, image)

    def _attach(self, note: Note, attach: Attach, image: bytes, tries: int = 1) -> None:
        """Only what a rate limit refused is tried again: anything else may have arrived."""
        try:
            attach(chart_png=image)
        except DeliveryError as error:
            asked = error.retry_after if isinstance(error, TemporaryDeliveryError) else None
            wait = timedelta(seconds=asked or 0)
            again = partial(self._attach, note, attach, image, tries + 1)
            bounded = asked and tries < CHART_TRIES and wait <= LONGEST_CHART_WAIT
            if bounded and self._later.add(self.clock() + wait, again):
                self.meter.chart("retried")
            else:
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
            operator=note.operators.get(metric, ">"),
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


def _log(note: Note) -> structlog.stdlib.BoundLogger:
    bound: structlog.stdlib.BoundLogger = log.bind(
        trace_id=note.notification_id,
        alert_id=note.alert_id,
        notification_id=note.notification_id,
        merchant_id=note.account_id,
    )
    return bound
