"""Messages follow what people do: acknowledged, snoozed or dismissed elsewhere, an alert's message says so.

Nothing is queued for that and nobody is told anew. What could not be brought up to date is tried again each round, for
as long as LOOK_BACK; a new message about the same alert brings it up to date as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from webhook.domain.alert import AlertStatus, NotifyReason
from webhook.domain.masking import change_secrets
from webhook.domain.message import Message, Note, Summary, compose
from webhook.domain.shown import Shown
from webhook.domain.summary import template_summary
from webhook.ports import (
    DeliveryError,
    FollowingNotifier,
    PermanentDeliveryError,
    Receipt,
    Secrets,
    SecretUnreadable,
    Standing,
    TemporaryDeliveryError,
)

LOOK_BACK = timedelta(hours=24)
LONGEST_PAUSE = timedelta(minutes=10)
TRIES = 3
"""In a row, of a message whose alert others change meanwhile."""


log = structlog.get_logger()


class Store(Protocol):
    """What following needs of `webhook.storage.standing.Standings`."""

    def touched(self, since: datetime) -> dict[str, datetime]: ...
    def of(self, alert_ids: Collection[str], channel_type: str) -> tuple[list[Standing], set[str]]: ...
    def record(self, standing: Standing, receipt: Receipt) -> bool: ...


@dataclass(slots=True)
class Follow:
    """Any number of processes may follow: what a message shows is kept with it, and to show it twice is harmless.

    A call that took its time may have put an older state over a newer one. Whoever made it learns so when it records
    it, and shows the newest again.
    """

    store: Store
    notifiers: Mapping[str, FollowingNotifier]
    public_url: str
    secrets: Secrets | None = None
    _seen: dict[str, datetime] = field(default_factory=dict)  # alert → the action up to which all is shown
    _behind: set[str] = field(default_factory=set)
    _overtaken: set[str] = field(default_factory=set)
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
                if self._is_shown(standing):
                    continue
                done = self._bring_up_to_date(notifier, standing, now)
                changed += done
                if not done:
                    waiting.add(standing.note.alert_id)
        return changed, waiting

    def _bring_up_to_date(self, notifier: FollowingNotifier, standing: Standing, now: datetime) -> bool:
        """Whether the message needs no further look: it shows the alert as it is now, or never can."""
        alert_id = standing.note.alert_id
        for _ in range(TRIES):
            # What was read for all alerts together may be minutes old by the time it is this one's turn.
            fresh = self._again(standing)
            if fresh is None:
                return False
            if self._is_shown(fresh):
                return True
            receipt = self._show(notifier, fresh, now)
            if receipt is None:
                return False
            if self.store.record(fresh, receipt):
                self._overtaken.discard(alert_id)
                return True
            self._overtaken.add(alert_id)
        return False

    def _again(self, standing: Standing) -> Standing | None:
        """The same message as it stands now; None while one is being sent, which shows the alert by itself."""
        note = standing.note
        found, _ = self.store.of({note.alert_id}, note.channel_type)
        return next((one for one in found if one.place == standing.place), None)

    def _is_shown(self, standing: Standing) -> bool:
        if standing.shown is None or standing.note.alert_id in self._overtaken:
            return False
        wanted = Shown.read(self._message(standing).shown)
        return wanted is not None and (wanted.look == standing.shown.look or wanted.is_before(standing.shown))

    def _show(self, notifier: FollowingNotifier, standing: Standing, now: datetime) -> Receipt | None:
        """What is to be kept with the message; None where it has to be tried again."""
        note, message = standing.note, self._message(standing)
        try:
            return notifier.follow(message, standing.receipt, self._settings(note))
        except PermanentDeliveryError as error:
            self._say(standing, error)
            return replace(standing.receipt, details={**standing.receipt.details, "shown": message.shown})
        except DeliveryError as error:
            if isinstance(error, TemporaryDeliveryError) and error.retry_after:
                wait = min(error.retry_after, LONGEST_PAUSE.total_seconds())
                self._paused[note.channel_type] = now + timedelta(seconds=wait)
            self._say(standing, error)
        return None

    def _settings(self, note: Note) -> Mapping[str, Any]:
        """With their secrets; a key that is missing may yet be given."""
        secrets = self.secrets
        if secrets is None:
            return note.channel_settings
        try:
            return change_secrets({"": note.channel_settings}, lambda _, text: secrets.decrypt(text))[""]
        except SecretUnreadable as error:
            raise TemporaryDeliveryError(f"the settings of this channel cannot be read: {error}") from None

    def _message(self, standing: Standing) -> Message:
        return compose(*_now(standing), self.public_url)

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
