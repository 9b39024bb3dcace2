"""When a model that fails is left alone, and how it is tried again: by one call.

pybreaker holds its lock during the call, so that callers of one model would queue up; circuitbreaker lets everybody
in at once when the time is over; neither keeps a Retry-After.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST = 600.0  # seconds


@dataclass(slots=True)
class Rest:
    """Of one model; `now` is in seconds of any clock that does not go back. Guarded by whoever calls it."""

    after: int = 3
    """Failures in a row."""
    seconds: float = 30.0
    """The first time; twice as long whenever the call that tries it fails again."""
    failures: int = 0
    rests: int = 0
    until: float = 0.0
    trying: bool = False

    def allows(self, now: float) -> bool:
        """Whether it may be asked now; who is allowed to has to say what came of it."""
        if not self.rests:
            return True
        if now < self.until or self.trying:
            return False
        self.trying = True
        return True

    def worked(self) -> None:
        self.failures, self.rests, self.trying = 0, 0, False

    def failed(self, now: float, *, at_once: bool = False, asked_s: float | None = None) -> None:
        """`at_once`: it will not get better by itself soon. `asked_s`: how long its provider wants to be left alone."""
        if self.rests and not self.trying and asked_s is None:
            return  # of a call that began before the rest
        self.failures += 1
        if not (at_once or asked_s or self.trying or self.failures >= self.after):
            return
        rest = self.seconds * 2.0 ** min(self.rests, 10) if asked_s is None else asked_s
        self.rests, self.trying = self.rests + 1, False
        self.until = max(self.until, now + min(rest, LONGEST))

    def not_asked(self) -> None:
        """It was allowed, but nobody came to ask."""
        self.trying = False
