"""What follows a try that failed: when the next one is, or why there is none. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=5)
GIVE_UP_AFTER = timedelta(hours=24)
"""So long after it was queued a message that still fails is a dead letter: a provider may be away for hours."""

LONGEST_PAUSE = timedelta(minutes=10)
"""A provider that asks us to wait longer is asked again after this."""

MOST_UNSURE = 3
"""Tries without a word of what came of them, where nobody could tell a repeat: the last of them is final."""

LAST_WAIT = timedelta(minutes=10)
"""Before the last of these: what is only slow has answered others by then, and what was away is back."""


class Wait(StrEnum):
    """Who is to wait when a provider asks for it."""

    PLACE = "place"
    MESSAGE = "message"
    CHANNEL = "channel"


@dataclass(frozen=True, slots=True)
class Failure:
    """One that may pass. `tries`: that failed before it, `unsure_before`: of them those that may have been taken.

    `asked_s`: how long `whose` messages are to wait. `unsure`, `blind` as in `TemporaryDeliveryError`.
    """

    tries: int
    unsure_before: int = 0
    asked_s: float | None = None
    whose: Wait = Wait.PLACE
    unsure: bool = False
    blind: bool = False


@dataclass(frozen=True, slots=True)
class NextTry:
    """`at` is None where there is none, with `why` in words; `pause`: nothing goes to its place for so long.

    `channel`: nor anywhere else on its channel. `counted` is False where this one only met somebody who asked to wait.
    """

    at: datetime | None
    pause: timedelta = timedelta(0)
    channel: bool = False
    why: str = ""
    counted: bool = True


def retry_wait(tries: int, spread: float) -> timedelta:
    """Time before the next try after `tries` (≥ 1) failed ones: 5 s, 20 s, 80 s, …, at most 5 min.

    `spread` in 0..1 takes away up to half of it, so that many failures do not come back in one moment.
    """
    longest = min(FIRST_WAIT * 4.0 ** min(tries - 1, 10), LONGEST_WAIT)
    return longest * (1 - spread / 2)


def next_try(failure: Failure, queued_at: datetime, now: datetime, spread: float) -> NextTry:
    """`spread` as in `retry_wait`."""
    alone, channel = failure.whose is Wait.MESSAGE, failure.whose is Wait.CHANNEL
    longest = GIVE_UP_AFTER if alone else LONGEST_PAUSE
    asked = timedelta(seconds=min(failure.asked_s or 0, longest.total_seconds()))
    pause = timedelta(0) if alone else asked
    if now - queued_at >= GIVE_UP_AFTER:
        return NextTry(None, pause, channel)
    unsure = failure.unsure_before + 1
    if not (failure.unsure and failure.blind) or unsure < MOST_UNSURE - 1:
        wait = asked or retry_wait(failure.tries + 1, spread)
        return NextTry(now + wait, pause, channel, counted=not asked)
    if unsure == MOST_UNSURE - 1:
        return NextTry(now + LAST_WAIT * (1 - spread / 2), pause, channel)
    why = (
        f"it may have arrived: {unsure} tries got no answer, and repeats cannot be told apart there; "
        "look before sending it again"
    )
    return NextTry(None, pause, channel, why)
