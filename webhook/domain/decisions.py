"""What a fold over stored triggers says of each: the same of many, so each holds a number. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from webhook.domain.alert import Outcome


class Decision(NamedTuple):
    """What becomes of a trigger. The outcome is None where it is not compared; the alert is there where it counts."""

    outcome: Outcome | None
    alert_id: str | None = None
    notify: str = ""


UNCOMPARED, DUPLICATE, SUPPRESSED, RESOLVED, STALE = range(5)
"""Numbers of decisions in which nothing is said of an alert or of telling people."""

_PLAIN = (None, Outcome.DUPLICATE, Outcome.SUPPRESSED, Outcome.RESOLVED, Outcome.STALE)


@dataclass(slots=True)
class Decisions:
    """What a fold says of each trigger, by its place: the number of what it says, which is the same for many.

    `told`: of what people are told, and on which channels. `reasons` are those that are neither the verdict's nor the
    only one of their outcome. `ended`: alerts that time ended and people are told of, `perhaps` with those of the last
    minutes; `rises`: how often time made them graver.
    """

    numbers: list[int] = field(default_factory=list)
    told: dict[int, frozenset[str]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    perhaps: set[str] = field(default_factory=set)
    rises: dict[str, int] = field(default_factory=dict)
    _said: list[Decision] = field(default_factory=lambda: list(map(Decision, _PLAIN)))
    _number_of: dict[Decision, int] = field(
        default_factory=lambda: {Decision(kind): n for n, kind in enumerate(_PLAIN)}
    )

    def numbered(self, decision: Decision) -> int:
        number = self._number_of.setdefault(decision, len(self._said))
        if number == len(self._said):
            self._said.append(decision)
        return number

    def said(self, number: int) -> Decision:
        """What this number stands for."""
        return self._said[number]

    def of(self, place: int) -> Decision:
        """Of the trigger at this place."""
        return self._said[self.numbers[place]]
