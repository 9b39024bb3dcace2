"""Two accounts of the same triggers, compared: what the log says of them, and what a fold over them says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from webhook.domain.alert import Outcome
from webhook.domain.evaluation import Verdict
from webhook.domain.severity import Severity

Change = Literal["appear", "vanish", "change"]
Kind = Literal["alert", "message"]

EXAMPLES = 5
"""Examples of each kind of change that are kept."""

_COUNTED = frozenset((Outcome.CREATED, Outcome.SESSION_UPDATED, Outcome.COMMENT_ADDED))
_JUDGED = _COUNTED | {Outcome.SUPPRESSED}
_COUNTED_LOGGED = frozenset(outcome.value for outcome in _COUNTED)


class StoredTrigger(NamedTuple):
    """One row of the trigger log, by time and place in its delivery. `alert_id` is whatever tells alerts apart.

    `key` is its fingerprint and start. `own` is what the thresholds say that came with a report.
    """

    at: datetime
    condition: str
    key: tuple[str, datetime]
    firing: bool
    severity: Severity
    alert_name: str
    metrics: Mapping[str, float]
    labels: Mapping[str, str]
    outcome: str
    notify: str
    alert_id: Any
    swept: bool = False  # the sweep ended it: as of when it was last heard
    own: Verdict | None = None


class Decided(NamedTuple):
    """What a fold says of one trigger; the reason is "" where it is the verdict's."""

    outcome: Outcome
    alert_id: Any
    notify: str = ""
    reason: str = ""


class Example(NamedTuple):
    """One difference. `old` and `new` are outcomes with what was said of telling people; "" where there is none."""

    kind: Kind
    change: Change
    at: datetime
    alert_name: str
    old: str
    new: str
    reason: str


@dataclass(slots=True)
class Tally:
    """How many there were, would be, and differ."""

    stored: int = 0
    proposed: int = 0
    unchanged: int = 0
    appear: int = 0
    vanish: int = 0
    change: int = 0


@dataclass(slots=True)
class Replayed:
    """The comparison; `outcomes` counts (as logged, as proposed)."""

    triggers: int = 0
    alerts: Tally = field(default_factory=Tally)
    messages: Tally = field(default_factory=Tally)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class _Trace:
    """One alert on one side: its first trigger, and what the other side calls its triggers."""

    row: StoredTrigger
    decided: Decided
    counted: int = 0
    messages: list[tuple[datetime, str]] = field(default_factory=list)
    others: dict[Any, None] = field(default_factory=dict)  # a set in order

    def note(self, at: datetime, told: str, other: Any) -> None:  # noqa: ANN401 - ids are opaque
        self.counted += 1
        self.others[other] = None
        if told:
            self.messages.append((at, told))


class Comparison:
    """Trigger by trigger, then alert by alert: two are one alert where they have a trigger in common."""

    def __init__(self, judge: Callable[[StoredTrigger], Verdict]) -> None:
        """`judge` tells the verdict of a trigger, for the examples."""
        self._judge = judge
        self._result = Replayed()
        self._old: dict[Any, _Trace] = {}
        self._new: dict[Any, _Trace] = {}
        self._kept: Counter[tuple[str, str]] = Counter()

    def add_all(
        self, rows: Iterable[StoredTrigger], decisions: Iterable[Decided], since: Mapping[str, datetime]
    ) -> None:
        """`since`: of these conditions only what came from then on."""
        result = self._result
        for row, decided in zip(rows, decisions, strict=True):
            if row.condition in since and row.at < since[row.condition]:
                continue
            result.triggers += 1
            result.outcomes[row.outcome, decided.outcome] += 1
            if row.notify or decided.notify or row.outcome in _COUNTED_LOGGED or decided.outcome in _COUNTED:
                self._add(row, decided)

    def _add(self, row: StoredTrigger, decided: Decided) -> None:
        old_told, new_told = told_of(row.notify), told_of(decided.notify)
        if old_told or new_told:
            change = _count(self._result.messages, old_told, new_told)
            if change is not None:
                self._keep("message", change, row, decided)
        old = row.alert_id if row.outcome in _COUNTED_LOGGED else None
        new = decided.alert_id if decided.outcome in _COUNTED else None
        if old is not None:
            trace = self._old.get(old) or self._old.setdefault(old, _Trace(row, decided))
            trace.note(row.at, old_told, new)
        if new is not None:
            trace = self._new.get(new) or self._new.setdefault(new, _Trace(row, decided))
            trace.note(row.at, new_told, old)

    def result(self) -> Replayed:
        alerts = self._result.alerts
        alerts.stored, alerts.proposed = len(self._old), len(self._new)
        for trace in self._old.values():
            others = [other for other in trace.others if other is not None]
            if not others:
                alerts.vanish += 1
                self._keep("alert", "vanish", trace.row, trace.decided)
            elif len(others) == 1 and _same(trace, self._new[others[0]]):
                alerts.unchanged += 1
            else:
                alerts.change += 1
                self._keep("alert", "change", trace.row, trace.decided)
        for trace in self._new.values():
            if not any(other is not None for other in trace.others):
                alerts.appear += 1
                self._keep("alert", "appear", trace.row, trace.decided)
        self._result.examples.sort(key=lambda example: (example.kind, example.at))
        return self._result

    def _keep(self, kind: Kind, change: Change, row: StoredTrigger, decided: Decided) -> None:
        self._kept[kind, change] += 1
        if self._kept[kind, change] > EXAMPLES:
            return
        old, new = _words(row.outcome, row.notify), _words(decided.outcome, decided.notify)
        self._result.examples.append(Example(kind, change, row.at, row.alert_name, old, new, self._why(row, decided)))

    def _why(self, row: StoredTrigger, decided: Decided) -> str:
        """Why the proposed configuration decides so: the verdict, and where it passes, what held a message back."""
        if decided.reason or decided.outcome not in _JUDGED:
            return decided.reason
        verdict = self._judge(row)
        return f"{verdict.reason}; {decided.notify}" if verdict.passed and decided.notify else verdict.reason


def _same(old: _Trace, new: _Trace) -> bool:
    return (
        None not in old.others
        and old.counted == new.counted
        and old.messages == new.messages
        and (old.row.outcome == Outcome.CREATED) == (new.decided.outcome is Outcome.CREATED)
    )


def _count(tally: Tally, old: str, new: str) -> Change | None:
    tally.stored += bool(old)
    tally.proposed += bool(new)
    if old == new:
        tally.unchanged += 1
        return None
    change: Change = "change" if old and new else "vanish" if old else "appear"
    setattr(tally, change, getattr(tally, change) + 1)
    return change


def told_of(notify: str) -> str:
    return "" if notify.startswith("withheld") else notify


def _words(outcome: str, notify: str) -> str:
    return f"{outcome}, {notify}" if notify else outcome
