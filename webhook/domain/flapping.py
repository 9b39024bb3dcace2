"""A condition that ends and fires again, and again: flapping, a state of its own with hysteresis. Pure.

It is entered with more than `flapping_restarts` restarts within the `flapping_window` and left when at most half as
many remain in it. While it lasts, messages of new firings and of their ends are held back, and people are told so
once; an escalation and P0 still pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from webhook.domain.alert import AlertTypeSettings
from webhook.domain.metric import format_duration


@dataclass(frozen=True, slots=True)
class Flapping:
    """What is remembered of one condition. `restarts` within the window, oldest first.

    `since` is when it began to flap, None while it does not; `told_at` when people were told that it does.
    """

    restarts: tuple[datetime, ...] = ()
    since: datetime | None = None
    told_at: datetime | None = None


STEADY = Flapping()


def restarted(state: Flapping, settings: AlertTypeSettings, now: datetime) -> Flapping:
    """The state after one more restart, which may begin to be flapping; what had calmed down begins anew."""
    if state.since is not None and not holds_back(state, settings, now):
        state = calmed(state, settings, now)
    restarts = (*_recent(state, settings, now), now)
    if state.since is None and len(restarts) > settings.flapping_restarts:
        return Flapping(restarts, now)
    return replace(state, restarts=restarts)


def holds_back(state: Flapping, settings: AlertTypeSettings, now: datetime) -> bool:
    """Whether it flaps and has not calmed down yet."""
    return state.since is not None and len(_recent(state, settings, now)) > settings.flapping_restarts // 2


def calmed(state: Flapping, settings: AlertTypeSettings, now: datetime) -> Flapping:
    """The state once it does not hold back any more: what remains in the window still counts."""
    return Flapping(_recent(state, settings, now))


def describe_begin(state: Flapping, settings: AlertTypeSettings) -> str:
    """One sentence for the alert's history."""
    window = format_duration(settings.flapping_window)
    return f"Flapping: it ended and fired again {len(state.restarts)} times within {window}; messages are held back"


def _recent(state: Flapping, settings: AlertTypeSettings, now: datetime) -> tuple[datetime, ...]:
    return tuple(time for time in state.restarts if now - time < settings.flapping_window)
