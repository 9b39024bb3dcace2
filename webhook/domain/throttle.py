"""Whether people are told, and why or why not. Pure; the sliding windows are given as times."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from webhook.domain.alert import AlertSession, NotifyReason, Withheld
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.severity import Severity

LONGEST_WINDOW = timedelta(hours=24)
"""How far back `decide_notification` looks."""


@dataclass(frozen=True, slots=True)
class FrequencyRule:
    """At most `maximum` messages in any `window`, which slides."""

    name: str
    maximum: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Limit:
    """A frequency rule that is used up: `count` messages lie in its window, and a place becomes free at `frees_at`."""

    name: str  # max_alerts_per_hour | max_alerts_per_day | min_interval_minutes
    maximum: int
    window: timedelta
    count: int
    frees_at: datetime

    def as_json(self) -> dict[str, Any]:
        return {
            "limit": self.name,
            "maximum": self.maximum,
            "window_seconds": self.window.total_seconds(),
            "current_count": self.count,
            "frees_at": self.frees_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class NotificationPolicy:
    """How often one merchant wants to hear of one alert type: when to speak (strategy), and at most how often.

    `first`: when an alert opens. `thresholds`: when its count reaches one of them. `interval`: again while it
    lasts. What was held back is owed: a threshold until a message has gone out at or above it. Limits are sliding
    windows over all alerts of the account and type.
    """

    first: bool = True
    thresholds: tuple[int, ...] = ()
    interval: timedelta | None = timedelta(hours=1)
    max_per_hour: int = 5
    max_per_day: int = 20
    min_interval: timedelta = timedelta(0)
    snoozed_until: datetime | None = None
    digest: bool = True  # what was held back is summed up

    @classmethod
    def of(cls, config: MerchantConfig | None) -> NotificationPolicy:
        """From `notification_settings`: {frequency_control, notification_strategy, snooze_until, …}, each optional."""
        if config is None:
            return DEFAULT_POLICY
        settings = config.notification_settings
        limits: Mapping[str, Any] = settings.get("frequency_control") or {}
        strategy: Mapping[str, Any] = settings.get("notification_strategy") or {}
        minutes = strategy.get("interval_minutes", 60)
        return cls(
            first=bool(strategy.get("first", True)),
            thresholds=tuple(strategy.get("thresholds", ())),
            interval=timedelta(minutes=minutes) if minutes else None,
            max_per_hour=limits.get("max_alerts_per_hour", DEFAULT_POLICY.max_per_hour),
            max_per_day=limits.get("max_alerts_per_day", DEFAULT_POLICY.max_per_day),
            min_interval=timedelta(minutes=limits.get("min_interval_minutes", 0)),
            snoozed_until=_time(settings.get("snooze_until")),
            digest=bool(limits.get("digest", True)),
        )

    def limits(self) -> tuple[FrequencyRule, ...]:
        """The frequency rules in force, the shortest first."""
        rules = (
            FrequencyRule("min_interval_minutes", 1, self.min_interval),
            FrequencyRule("max_alerts_per_hour", self.max_per_hour, timedelta(hours=1)),
            FrequencyRule("max_alerts_per_day", self.max_per_day, LONGEST_WINDOW),
        )
        return tuple(rule for rule in rules if rule.window)


def decide_notification(
    before: AlertSession | None,
    after: AlertSession,
    policy: NotificationPolicy,
    recent: Sequence[datetime],
    now: datetime,
    *,
    flapping: bool = False,
    flapping_told: bool = False,
) -> NotifyReason | Withheld:
    """Why people are told of this occurrence, or why not.

    `before` is None for a new alert; `recent` are the times, in order, at which people were told about this account
    and alert type within the last 24 h, of an end excepted. An escalation always passes, also that of an alert which
    opens graver than its rule. At P0 no limit, snooze or sparser strategy holds: people hear of it at once and then
    every hour (or as often as the strategy says). Of a flapping condition people hear once that it flaps, and then
    nothing.
    """
    rose = bool(after.escalations) if before is None else after.severity.rank > before.severity.rank
    if rose:
        return NotifyReason.ESCALATED
    if after.severity is Severity.P0:
        return _due(after, policy, now) or _due(after, DEFAULT_POLICY, now) or Withheld.STRATEGY
    if any(until is not None and now < until for until in (policy.snoozed_until, after.snoozed_until)):
        return Withheld.SNOOZED
    reason = _due(after, policy, now)
    if flapping and not flapping_told:
        reason = NotifyReason.FLAPPING
    if reason is None:
        return Withheld.STRATEGY
    if flapping and flapping_told:
        return Withheld.FLAPPING
    return Withheld.FREQUENCY if limit_reached(policy, recent, now) is not None else reason


def passes_limits(reason: NotifyReason, after: AlertSession) -> bool:
    """Whether frequency limits do not hold for this message."""
    return reason is NotifyReason.ESCALATED or after.severity is Severity.P0


def _due(after: AlertSession, policy: NotificationPolicy, now: datetime) -> NotifyReason | None:
    """What the strategy says. What was withheld is still owed at the next occurrence."""
    if policy.first and after.last_notified_at is None:
        return NotifyReason.FIRST
    if any(after.last_notified_count < threshold <= after.occurrence_count for threshold in policy.thresholds):
        return NotifyReason.THRESHOLD
    last = after.last_notified_at or after.first_triggered_at
    if policy.interval is not None and now - last >= policy.interval:
        return NotifyReason.INTERVAL
    return None


def limit_reached(policy: NotificationPolicy, recent: Sequence[datetime], now: datetime) -> Limit | None:
    """The limit that holds a message back now: of several the one that frees last; None while there is a place.

    `recent` is in order of time.
    """
    reached = [limit for limit in map(partial(_reached, recent, now), policy.limits()) if limit is not None]
    return max(reached, key=lambda limit: limit.frees_at, default=None)


def holding_limit(policy: NotificationPolicy, recent: Sequence[datetime], now: datetime) -> Limit | None:
    """The limit that held a message back; where `recent` leaves a place, others have taken it at this moment."""
    limit = limit_reached(policy, recent, now)
    if limit is not None:
        return limit
    times = list(recent)
    while (limit := limit_reached(policy, times, now)) is None and len(times) < len(recent) + policy.max_per_hour:
        insort(times, now)
    return limit


def _reached(recent: Sequence[datetime], now: datetime, rule: FrequencyRule) -> Limit | None:
    count = len(recent) - bisect_right(recent, now - rule.window)
    if count < rule.maximum:
        return None
    frees = recent[len(recent) - rule.maximum] if rule.maximum else now
    return Limit(rule.name, rule.maximum, rule.window, count, frees + rule.window)


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    time = datetime.fromisoformat(value)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


DEFAULT_POLICY = NotificationPolicy()
