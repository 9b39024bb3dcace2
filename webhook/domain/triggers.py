"""Rows of the trigger log as columns: what repeats, as nearly all of it does, is held once. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from webhook.domain.alert import Outcome
from webhook.domain.evaluation import Verdict
from webhook.domain.severity import Severity

FIRING, RESOLVED, SWEPT = 0, 1, 2
"""Kinds of triggers; the sweep ends one as of when it was last heard."""

SEVERITIES = sorted(Severity, key=lambda severity: severity.rank)
"""By rank."""

_COUNTED = frozenset(str(outcome) for outcome in (Outcome.CREATED, Outcome.SESSION_UPDATED, Outcome.COMMENT_ADDED))


class Name(NamedTuple):
    """Which instance of which condition a trigger is of: the key is its fingerprint and start."""

    condition: str
    key: tuple[str, datetime]
    alert_name: str


Reading = tuple[Mapping[str, float], Mapping[str, str]]
"""What conditions are judged by: metrics and labels."""


class Said(NamedTuple):
    """What the log says became of a trigger."""

    outcome: str
    notify: str

    @property
    def counted(self) -> bool:
        return self.outcome in _COUNTED


class StoredTrigger(NamedTuple):
    """One row. `alert_id` is whatever tells alerts apart; `own` what the thresholds say that came with a report."""

    at: datetime
    name: Name
    kind: int
    severity: Severity
    reading: Reading
    said: Said
    alert_id: Any = None
    own: Verdict | None = None


@dataclass(slots=True)
class Triggers:
    """One row at each place of `at`, by time and place in their delivery; rows of a delivery share one time object.

    `names`, `readings` and `said` are what `name_of`, `reading_of` and `said_of` number. `ranks` are of severities.
    `own` has the rows that are reports.
    """

    at: list[datetime] = field(default_factory=list)
    name_of: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    reading_of: list[int] = field(default_factory=list)
    said_of: list[int] = field(default_factory=list)
    alert_ids: list[Any] = field(default_factory=list)
    own: dict[int, Verdict] = field(default_factory=dict)
    names: list[Name] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.at)

    def row(self, number: int) -> StoredTrigger:
        return StoredTrigger(
            self.at[number],
            self.names[self.name_of[number]],
            self.kinds[number],
            SEVERITIES[self.ranks[number]],
            self.readings[self.reading_of[number]],
            self.said[self.said_of[number]],
            self.alert_ids[number],
            self.own.get(number),
        )


def triggers_of(rows: Iterable[StoredTrigger]) -> Triggers:
    """The same rows as columns."""
    found = Triggers()
    names: dict[Name, int] = {}
    said: dict[Said, int] = {}
    times: dict[datetime, datetime] = {}
    for number, row in enumerate(rows):
        found.at.append(times.setdefault(row.at, row.at))
        found.name_of.append(names.setdefault(row.name, len(names)))
        found.kinds.append(row.kind)
        found.ranks.append(row.severity.rank)
        found.reading_of.append(number)
        found.readings.append(row.reading)
        found.said_of.append(said.setdefault(row.said, len(said)))
        found.alert_ids.append(row.alert_id)
        if row.own is not None:
            found.own[number] = row.own
    found.names, found.said = list(names), list(said)
    return found
