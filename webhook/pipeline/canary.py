"""A test message on each channel every so often: whether the way to the provider is open, and how long it takes.

It waits for a thread of its channel as messages do, but stands in no table: no list and no statistic knows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, Protocol
from uuid import uuid4

import structlog

from webhook.domain.alert import AlertStatus, NotifyReason
from webhook.domain.message import Message
from webhook.domain.severity import Severity
from webhook.ports import DeliveryError, Notifier

log = structlog.get_logger()


class Senders(Protocol):
    """What the canary needs of `webhook.pipeline.dispatch.Dispatcher`."""

    def submit(self, channel: str, work: Callable[[Notifier], None]) -> None: ...


class Meter(Protocol):
    def canary_begun(self, channel: str) -> None: ...
    def canary(self, channel: str, seconds: float, at: datetime) -> None: ...
    def canary_failed(self, channel: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Canary:
    """`channels`: the settings with which each is tried, by `notifiers` that remember nothing of it."""

    senders: Senders
    notifiers: Mapping[str, Notifier]
    channels: Mapping[str, Mapping[str, Any]]
    public_url: str
    meter: Meter
    clock: Callable[[], datetime]

    def run_once(self, now: datetime) -> None:
        for channel, settings in self.channels.items():
            self.meter.canary_begun(channel)
            queued = monotonic()
            message = trial_message(now, self.public_url)

            def send(
                _: Notifier,
                channel: str = channel,
                settings: Mapping[str, Any] = settings,
                message: Message = message,
                queued: float = queued,
            ) -> None:
                try:
                    self.notifiers[channel].send(message, settings)
                except DeliveryError as error:
                    self.meter.canary_failed(channel)
                    log.warning("canary_failed", channel=channel, error=str(error))
                    return
                self.meter.canary(channel, monotonic() - queued, self.clock())

            self.senders.submit(channel, send)


def trial_message(now: datetime, public_url: str) -> Message:
    """Of nobody's, and as mild as can be."""
    trial = str(uuid4())
    return Message(
        notification_id=trial,
        alert_id=trial,
        account_id="_canary",
        alert_type="CANARY",
        status=AlertStatus.RESOLVED,
        severity=Severity.P3,
        reason=NotifyReason.RESEND,
        title="TEST: this channel works",
        text="Sentinel sends this message from time to time to measure how long delivery takes. It tells of no attack.",
        suggested_action="Nothing is to be done.",
        merchant="Test",
        facts=[("Test", "delivery")],
        url=public_url,
        chart_url=public_url,
        began_at=now,
        ended_at=None,
        created_at=now,
    )
