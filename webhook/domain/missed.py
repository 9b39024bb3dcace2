"""What fired and ended while nothing was received: which of the firings that Prometheus recorded nobody has heard of.

Alertmanager tells nobody of an alert that has ended before it could be delivered once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from webhook.domain.alert import Trigger
from webhook.domain.patterns import matches
from webhook.domain.payload import Rejected, parse_payload
from webhook.domain.severity import Severity

FOUND_BY = "found_by"
_HOW = "reconciliation: Prometheus recorded it, and Alertmanager did not deliver it"

_FNV_START, _FNV_PRIME, _SEPARATOR = 0xCBF29CE484222325, 0x100000001B3, b"\xff"


@dataclass(frozen=True, slots=True)
class Fired:
    """One firing of one alert from its first evaluation as such to the first as nothing; labels as they are sent."""

    labels: Mapping[str, str]
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Matcher:
    """As Alertmanager has it: an expression matches the whole value, a label that is missing is empty."""

    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.name, "")
        if not self.is_regex:
            return (value == self.value) is self.is_equal
        found = matches(f"^(?:{self.value})$", value)
        return found is not None and found is self.is_equal  # one that is too long silences nothing: rather told


@dataclass(frozen=True, slots=True)
class Silence:
    matchers: Sequence[Matcher]
    starts_at: datetime
    ends_at: datetime

    def covers(self, fired: Fired) -> bool:
        """The whole of it: of a part Alertmanager would have told."""
        whole = self.starts_at <= fired.starts_at and fired.ends_at <= self.ends_at
        return whole and all(matcher.matches(fired.labels) for matcher in self.matchers)


@dataclass(frozen=True, slots=True)
class Heard:
    """A firing that was received: `last_at` is when it last was."""

    condition: str
    severity: Severity
    starts_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Missed:
    """A firing as its two triggers, as they would have been delivered."""

    condition: str
    fired: Fired
    firing: Trigger

    def heard(self) -> Heard:
        return Heard(self.condition, self.firing.severity, self.fired.starts_at, self.fired.ends_at)


@dataclass(frozen=True, slots=True)
class Gap:
    """What fired from `since` on may not have been delivered; nothing failed any more after `changed_at`."""

    since: datetime
    changed_at: datetime


def missed(
    fired: Iterable[Missed], heard: Iterable[Heard], silences: Collection[Silence], ended_before: datetime
) -> list[Missed]:
    """Those that ended before then, were not silenced, and of whose attack nothing as grave was heard meanwhile.

    Alertmanager sends the gravest of an attack alone. In the order in which they began.
    """
    known: defaultdict[str, list[Heard]] = defaultdict(list)
    for before in heard:
        known[before.condition].append(before)
    found = []
    for one in sorted(fired, key=lambda one: (-one.firing.severity.rank, one.fired.starts_at)):
        told = any(_tells_of(other, one) for other in known[one.condition])
        if told or one.fired.ends_at >= ended_before or any(silence.covers(one.fired) for silence in silences):
            continue
        found.append(one)
        known[one.condition].append(one.heard())
    return sorted(found, key=lambda one: one.fired.starts_at)


def _tells_of(heard: Heard, one: Missed) -> bool:
    meanwhile = heard.starts_at <= one.fired.ends_at and heard.last_at >= one.fired.starts_at
    return meanwhile and heard.severity.rank >= one.firing.severity.rank


def trigger_of(fired: Fired, annotations: Mapping[str, str], *, ended: bool = False) -> Trigger | None:
    """As if Alertmanager had delivered it; None for what it could not have been."""
    alert = {
        "status": "resolved" if ended else "firing",
        "labels": dict(fired.labels),
        "annotations": {**annotations, FOUND_BY: _HOW},
        "startsAt": fired.starts_at.isoformat(),
        "endsAt": fired.ends_at.isoformat() if ended else "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint(fired.labels),
    }
    (item,) = parse_payload({"alerts": [alert]})
    return None if isinstance(item, Rejected) else item


def fingerprint(labels: Mapping[str, str]) -> str:
    """Alertmanager's own, FNV-1a of names and values in order: what it delivers late is known to be the same."""
    digest = _FNV_START
    for name, value in sorted(labels.items()):
        for byte in name.encode() + _SEPARATOR + value.encode() + _SEPARATOR:
            digest = (digest ^ byte) * _FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


def runs(times: Sequence[float], step: float) -> list[tuple[float, float]]:
    """First and last of each stretch of `times` (s, ascending) without a gap of more than two and a half steps."""
    stretches: list[list[float]] = []
    for time in times:
        if stretches and time - stretches[-1][1] <= 2.5 * step:
            stretches[-1][1] = time
        else:
            stretches.append([time, time])
    return [(first, last) for first, last in stretches]


def gap_after(
    before: tuple[datetime, datetime | None, datetime], *, same: bool, now: datetime, lookback: timedelta
) -> tuple[datetime | None, datetime]:
    """`missing_since` and `changed_at` after a look; `before`: the last look, and both as they were.

    Where a sender has failed since the last look, or was started anew, what it then had in hand began earlier.
    """
    seen_at, missing_since, changed_at = before
    if same:
        return missing_since, changed_at
    return missing_since or seen_at - lookback, now
