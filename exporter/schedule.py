"""When a source is collected next. Pure: times are seconds on one monotonic clock, given by the caller.

A cron expression is about the wall clock, so where it matters the caller gives the time on both.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from exporter.cron import Cron

_FIRST_SPREAD = 0.25  # seconds over which the first collections are spread; nobody waits for data noticeably longer
_FIRST_SPREAD_EACH = 0.02  # seconds more for each source: hundreds at once would delay each other, and their servers
_CRON_SPREAD, _CRON_SPREAD_SHARE = 60.0, 0.1  # of the shortest gap
_FIRST_RETRY = 1.0
_LONGEST_RETRY_AFTER = 3600.0


def fraction(name: str) -> float:
    """A number in [0, 1) that is always the same for one name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") / 2**32


def first_spread(sources: int) -> float:
    """Seconds over which the first collections of that many sources are spread."""
    return max(_FIRST_SPREAD, sources * _FIRST_SPREAD_EACH)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A source's times: once at the start, then on a grid of its interval that its name shifts, or those of `cron`.

    So sources with one interval are spread over it, alike at every start, and no gap is longer than the interval.
    Sources with one cron expression are spread over up to a minute after it. `interval` is its longest gap then.
    """

    name: str
    interval: float
    origin: float
    cron: Cron | None = None

    def first(self, start: float, spread: float = _FIRST_SPREAD) -> float:
        """The time of the first collection of a source that is added at `start`."""
        return start + fraction(self.name) * min(spread, self.interval)

    def first_of_warm(self, start: float, wall: float, *, age: float, spread: float = _FIRST_SPREAD) -> float:
        """The same for a source whose data is there already: when it would have been collected anyway."""
        if self.cron is not None:
            due = self._cron_after(self.cron, wall - age) - wall + start
        else:
            due = min(self.regular(start, wall), start - age + self.interval)
        return max(due, self.first(start, spread))

    def regular(self, now: float, wall: float) -> float:
        """The next regular time after `now`, which is `wall` in Unix seconds; times missed are not made up for."""
        if self.cron is not None:
            return now + self._cron_after(self.cron, wall) - wall
        shift = self.origin + fraction(self.name) * self.interval
        return shift + (math.floor((now - shift) / self.interval) + 1) * self.interval

    def after_failure(
        self, now: float, wall: float, *, failures: int, retryable: bool, retry_after: float | None
    ) -> float:
        """The next time after the given number of failures in a row: sooner than the regular one where that can help.

        Waits 1 s, 2 s, 4 s, … up to the interval, and never less than the source asked for (at most an hour).
        """
        due = self.regular(now, wall)
        if retryable:
            due = min(due, now + min(self.interval, _FIRST_RETRY * 2.0 ** min(failures - 1, 30)))
        if retry_after is not None:
            due = max(due, now + min(retry_after, _LONGEST_RETRY_AFTER))
        return due

    def _cron_after(self, cron: Cron, wall: float) -> float:
        """The first time after `wall`, both in Unix seconds."""
        shift = fraction(self.name) * min(_CRON_SPREAD, cron.gaps.shortest * _CRON_SPREAD_SHARE)
        return cron.following(wall - shift) + shift
