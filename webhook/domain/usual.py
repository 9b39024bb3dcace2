"""What a metric usually is at an hour: the middle of the same hour of the days before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import quantiles

DAYS = 7
"""How many days before are looked at, so that every day of the week is among them."""

LEAST_DAYS = 3
"""Of fewer values no middle is told: two days may both have been odd."""


@dataclass(frozen=True, slots=True)
class Usual:
    """The middle half of what was measured at each of the `times`, and its median. `days`: of how many at most."""

    times: Sequence[datetime]
    low: Sequence[float]
    middle: Sequence[float]
    high: Sequence[float]
    days: int


def usual(past: Mapping[int, Sequence[tuple[datetime, float]]], attack: datetime) -> Usual | None:
    """From the values of each day before (1: yesterday), at the times of today; None where they are too few.

    What was measured since the `attack` began is no usual level: a long one would hide itself.
    """
    at: dict[datetime, list[float]] = {}
    days = set()
    for day, values in past.items():
        for time, value in values:
            if time - timedelta(days=day) < attack:
                at.setdefault(time, []).append(value)
                days.add(day)
    known = sorted(time for time, values in at.items() if len(values) >= LEAST_DAYS)
    if not known:
        return None
    quarters = [quantiles(at[time], n=4, method="inclusive") for time in known]
    low, middle, high = ([quarter[n] for quarter in quarters] for n in range(3))
    return Usual(known, low, middle, high, len(days))
