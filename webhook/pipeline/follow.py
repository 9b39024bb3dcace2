"""Messages follow what people do: acknowledged, snoozed or dismissed elsewhere, an alert's message says so.

Nothing is queued for that and nobody is told anew. What could not be brought up to date is tried again each round, for
as long as LOOK_BACK; a new message about the same alert brings it up to date as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from webhook.domain.alert import AlertStatus, NotifyReason
from webhook.domain.message import Note, Summary, compose
from webhook.domain.summary import template_summary
from webhook.ports import (
    DeliveryError,
    FollowingNotifier,
    PermanentDeliveryError,
    Receipt,
    Standing,
    TemporaryDeliveryError,
)

LOOK_BACK = timedelta(hours=24)
LONGEST_PAUSE = timedelta(minutes=10)

log = structlog.get_logger()


class Store(Protocol):
    """What following needs of `webhook.storage.standing.Standings`."""

    def touched(self, since: datetime) -> dict[str, datetime]: ...
    def of(self, alert_ids: Collection[str], channel_type: str) -> tuple[list[Standing], set[str]]: ...
    def record(self, standing: Standing, receipt: Receipt) -> None: ...


@dataclass(slots=True)
class Follow:
    """Any number of processes may follow: what a message shows is kept with it, and to show it twice is harmless."""

    store: Store
    notifiers: Mapping[str, FollowingNotifier]
    public_url: str
    _seen: dict[str, datetime] = field(default_factory=dict)  # alert → the action up to which all is shown
    _behind: set[str] = field(default_factory=set)
    _paused: dict[str, datetime] = field(default_factory=dict)

    def run_once(self, now: datetime) -> int:
        """Bring up to date what people have touched; return how many messages were changed."""
        touched = self.store.touched(now - LOOK_BACK)
        self._seen = {alert_id: at for alert_id, at in self._seen.items() if alert_id in touched}
        news = {alert_id for alert_id, at in touched.items() if self._seen.get(alert_id) != at}
        for notifier in self.notifiers.values():
            self._behind |= notifier.behind()
        if not news | self._behind:
            return 0
        changed, waiting = self._follow(news | self._behind, now)
        self._behind &= waiting
        self._seen |= {alert_id: touched[alert_id] for alert_id in news - waiting}
        return changed

    def show(self, alert_ids: Collection[str], now: datetime) -> None:
        """Of one action, without waiting for a round; what cannot be shown now is left to the worker's rounds."""
        self._follow(alert_ids, now)

    def _follow(self, alert_ids: Collection[str], now: datetime) -> tuple[int, set[str]]:
        """How many messages were changed, and which alerts have to be looked at again."""
        changed, waiting = 0, set[str]()
        for channel_type, notifier in self.notifiers.items():
            if self._paused.get(channel_type, now) > now:
                waiting |= set(alert_ids)
                continue
            standings, busy = self.store.of(alert_ids, channel_type)
            waiting |= busy
            for standing in standings:
                if standing.shown == standing.note.attention.mark:
                    continue
                done = self._show(notifier, standing, now)
                changed += done
                if not done:
                    waiting.add(standing.note.alert_id)
        return changed, waiting

    def _show(self, notifier: FollowingNotifier, standing: Standing, now: datetime) -> bool:
        """Whether the message needs no further look: it shows the alert now, or never can."""
        note = standing.note
        try:
            receipt = notifier.follow(compose(*_now(standing), self.public_url), standing.receipt)
        except PermanentDeliveryError as error:
            receipt = replace(standing.receipt, details={**standing.receipt.details, "shown": note.attention.mark})
            self._say(standing, error)
        except DeliveryError as error:
            if isinstance(error, TemporaryDeliveryError) and error.retry_after:
                wait = min(error.retry_after, LONGEST_PAUSE.total_seconds())
                self._paused[note.channel_type] = now + timedelta(seconds=wait)
            self._say(standing, error)
            return False
        self.store.record(standing, receipt)
        return True

    def _say(self, standing: Standing, error: DeliveryError) -> None:
        note = standing.note
        log.warning("message_not_followed", alert_id=note.alert_id, channel=note.channel_type, error=str(error))


def _now(standing: Standing) -> tuple[Note, Summary]:
    """What is shown: the alert, even where a comment on it was told last. An end has a title that no alert keeps."""
    note, summary = standing.note, standing.summary
    if note.reason is NotifyReason.MENTION:
        ended = note.status is AlertStatus.RESOLVED
        note = replace(note, reason=NotifyReason.RESOLVED if ended else NotifyReason.RESEND)
    if note.reason is NotifyReason.RESOLVED:
        summary = replace(summary, title=template_summary(note).title)
    return note, summary
