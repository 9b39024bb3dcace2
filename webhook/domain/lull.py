"""How long one more occurrence of an attack is answered as the last one was: until then only counts and times move.

What is decided about an occurrence changes at certain counts and times alone: where a step of severity, a threshold, an
interval, a snooze or a frequency limit is reached. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from webhook.domain.alert import AlertSession, AlertTypeSettings, NotifyReason, Outcome, SessionStatus, Withheld
from webhook.domain.flapping import Flapping, holds_back
from webhook.domain.throttle import DEFAULT_POLICY, NotificationPolicy, decide_notification, limit_reached

FOREVER = datetime.max.replace(tzinfo=UTC)
_UNBOUNDED = 1 << 62
_FREQUENCY = f"withheld:{Withheld.FREQUENCY}"
NO_CHANNEL = f"withheld:{Withheld.NO_CHANNEL}"
_TELLING = frozenset(NotifyReason)
_QUIET = (
    _FREQUENCY,
    NO_CHANNEL,
    *(f"withheld:{why}" for why in (Withheld.STRATEGY, Withheld.SNOOZED, Withheld.FLAPPING)),
)


@dataclass(slots=True)
class Lull:
    """`more` of `room` occurrences came since, `last` when the last one did; the next ones get `outcome`, `notify`.

    `number`: what stands for that, where they only move counts and times.
    """

    alert_id: str
    outcome: Outcome
    notify: str
    rank: int  # of the severity
    until: datetime
    room: int
    last: datetime
    more: int = 0
    number: int = 0

    def holds(self, at: datetime, settings: AlertTypeSettings) -> bool:
        """Whether the same is decided of one more at `at`."""
        if at >= self.until or self.more >= self.room:
            return False
        if self.outcome is Outcome.SESSION_UPDATED:
            return at - self.last < settings.session_timeout
        return at - self.last <= settings.window


def lull_after(
    session: AlertSession,
    notify: str,
    now: datetime,
    *,
    policy: NotificationPolicy,
    recent: Sequence[datetime],
    flapping: Flapping,
    settings: AlertTypeSettings,
) -> Lull | None:
    """What follows an occurrence of which `notify` was said; None: one cannot say.

    `recent` may only grow meanwhile, and is in order; where there are no channels, it may not.
    """
    if notify in _TELLING:
        following = _following(session, policy, recent, now, flapping, settings)
        notify = "" if isinstance(following, NotifyReason) else f"withheld:{following}"
    if notify not in _QUIET:
        return None
    until = min((time for time in _times(session, policy, flapping, settings) if time > now), default=FOREVER)
    if notify == _FREQUENCY:
        limit = limit_reached(policy, recent, now)
        if limit is None:
            return None
        until = min(until, limit.frees_at)
    if notify == NO_CHANNEL:
        following = _following(session, policy, recent, now, flapping, settings)
        if not isinstance(following, NotifyReason):
            return None
    counts = [count for count in _counts(policy, settings) if count > session.occurrence_count]
    room = min(counts, default=_UNBOUNDED) - session.occurrence_count - 1
    active = session.session_status is SessionStatus.ACTIVE
    outcome = Outcome.SESSION_UPDATED if active else Outcome.COMMENT_ADDED
    rank = session.severity.rank
    return Lull(session.alert_id, outcome, notify, rank, until, room, session.last_triggered_at)


def _following(  # noqa: PLR0917 - all that a decision hangs on
    session: AlertSession,
    policy: NotificationPolicy,
    recent: Sequence[datetime],
    now: datetime,
    flapping: Flapping,
    settings: AlertTypeSettings,
) -> NotifyReason | Withheld:
    """What is decided of one more that changes nothing."""
    flaps, told = holds_back(flapping, settings, now), flapping.told_at is not None
    return decide_notification(session, session, policy, recent, now, flapping=flaps, flapping_told=told)


def _times(
    session: AlertSession, policy: NotificationPolicy, flapping: Flapping, settings: AlertTypeSettings
) -> Iterator[datetime]:
    for step in settings.escalation:
        if step.duration is not None:
            yield session.session_started_at + step.duration
    told = session.last_notified_at or session.first_triggered_at
    for interval in (policy.interval, DEFAULT_POLICY.interval):
        if interval is not None:
            yield told + interval
    for snoozed_until in (policy.snoozed_until, session.snoozed_until):
        if snoozed_until is not None:
            yield snoozed_until
    if flapping.since is not None:
        for restart in flapping.restarts:
            yield restart + settings.flapping_window


def _counts(policy: NotificationPolicy, settings: AlertTypeSettings) -> Iterator[int]:
    """Of occurrences: a threshold is another matter when it is reached and after it."""
    for step in settings.escalation:
        if step.occurrence_count is not None:
            yield step.occurrence_count
    for threshold in policy.thresholds:
        yield from (threshold, threshold + 1)
