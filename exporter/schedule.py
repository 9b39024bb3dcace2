"""When a source is collected next. Pure: times are seconds on one monotonic clock, given by the caller."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

_FIRST_SPREAD = 0.25  # seconds over which the first collections are spread; nobody waits for data noticeably longer
_FIRST_RETRY = 1.0
_LONGEST_RETRY_AFTER = 3600.0


def fraction(name: str) -> float:
    """A number in [0, 1) that is always the same for one name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") / 2**32


@dataclass(frozen=True, slots=True)
class Schedule:
    """A source's times: once at the start, then on a grid of its interval that its name shifts.

    So sources with one interval are spread over it, alike at every start, and no gap is longer than the interval.
    """

    name: str
    interval: float
    origin: float

    def first(self) -> float:
        return self.origin + fraction(self.name) * min(_FIRST_SPREAD, self.interval)

    def regular(self, now: float) -> float:
        """The next time on the grid after `now`; times missed meanwhile are not made up for."""
        shift = self.origin + fraction(self.name) * self.interval
        return shift + (math.floor((now - shift) / self.interval) + 1) * self.interval

    def after_failure(self, now: float, *, failures: int, retryable: bool, retry_after: float | None) -> float:
        """The next time after the given number of failures in a row: sooner than the grid where that can help.

        Waits 1 s, 2 s, 4 s, … up to the interval, and never less than the source asked for (at most an hour).
        """
        due = self.regular(now)
        if retryable:
            due = min(due, now + min(self.interval, _FIRST_RETRY * 2.0 ** min(failures - 1, 30)))
        if retry_after is not None:
            due = max(due, now + min(retry_after, _LONGEST_RETRY_AFTER))
        return due
