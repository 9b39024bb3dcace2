"""What Prometheus makes of an alerting rule's results over time: pending, firing, kept firing, ended.

Times are whole milliseconds, as Prometheus stores them. A series is told by any key that can be hashed.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Hold:
    """`for` and `keep_firing_for` in milliseconds; `limit` is the most alerts of a rule, 0 for any number."""

    wait: int = 0
    keep: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Active:
    """An alert since `since`, firing since `fired` unless that is None; `absent` is when its series went."""

    since: int
    fired: int | None = None
    absent: int | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """From the first evaluation that found it to the first that ended it, which is None while it goes on."""

    since: int
    fired: int | None
    ended: int | None

    def state(self, at: int) -> str | None:
        """`pending`, `firing` or None."""
        if at < self.since or (self.ended is not None and at >= self.ended):
            return None
        return "firing" if self.fired is not None and at >= self.fired else "pending"


def step(active: Mapping[Key, Active], found: Collection[Key], now: int, hold: Hold) -> dict[Key, Active]:
    """The alerts after an evaluation that has found these series."""
    after = {key: _found(active.get(key), now, hold) for key in found}
    for key, alert in active.items():
        if key in after or alert.fired is None:
            continue
        absent = now if alert.absent is None else alert.absent
        if now - absent < hold.keep:
            after[key] = replace(alert, absent=absent)
    return {} if hold.limit and len(after) > hold.limit else after


def _found(alert: Active | None, now: int, hold: Hold) -> Active:
    since = now if alert is None else alert.since
    fired = alert.fired if alert else None
    if fired is None and now - since >= hold.wait:
        fired = now
    return Active(since, fired)


def episodes(evaluations: Iterable[tuple[int, Collection[Key]]], hold: Hold) -> dict[Key, list[Episode]]:
    """Of each series, in order. Each evaluation is its time and what it has found; there may be gaps between them."""
    active: dict[Key, Active] = {}
    found: dict[Key, list[Episode]] = {}
    for now, keys in evaluations:
        after = step(active, keys, now, hold)
        for key, alert in active.items():
            if key not in after:
                found.setdefault(key, []).append(Episode(alert.since, alert.fired, now))
        active = after
    for key, alert in active.items():
        found.setdefault(key, []).append(Episode(alert.since, alert.fired, None))
    return found


def settled(evaluations: Sequence[tuple[int, Collection[Key]]], hold: Hold) -> bool:
    """Whether what they leave active is the same, whatever was active before the first of them.

    What fires may be held from long before by a series that comes back within `keep` again and again.
    """
    begin = min((now for now, _ in evaluations), default=0)
    few: dict[Key, Active] = {}
    many = {key: Active(begin - hold.wait, begin) for _, found in evaluations for key in found}
    for now, found in evaluations:
        few, many = step(few, found, now, hold), step(many, found, now, hold)
    return {key: _going_on(alert) for key, alert in few.items()} == {
        key: _going_on(alert) for key, alert in many.items()
    }


def _going_on(alert: Active) -> tuple[int | None, int | None]:
    """What decides how it goes on."""
    return (alert.since if alert.fired is None else None), alert.absent


def firing(history: Sequence[Episode], start: int, end: int) -> list[tuple[int, int]]:
    """From when to when it fired between `start` and `end`."""
    spans = [
        (max(each.fired, start), end if each.ended is None else min(each.ended, end))
        for each in history
        if each.fired is not None
    ]
    return [(begin, finish) for begin, finish in spans if begin < finish]


def spans(times: Sequence[int], every: int, end: int) -> list[tuple[int, int]]:
    """Stretches of times that follow each other by `every`; each lasts until the next time that is not there."""
    found: list[tuple[int, int]] = []
    for time in times:
        until = min(time + every, end)
        if found and time <= found[-1][1]:
            found[-1] = (found[-1][0], until)
        elif time < end:
            found.append((time, until))
    return found
