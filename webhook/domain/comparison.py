"""Two accounts of the same triggers, compared: what the log says of them, and what a fold over them says. Pure."""

from __future__ import annotations

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from webhook.domain.alert import Outcome
from webhook.domain.evaluation import Verdict
from webhook.domain.occurrence import CLOSED_BY_PERSON, WITHIN_INTERVAL
from webhook.domain.triggers import Triggers

Change = Literal["appear", "vanish", "change"]
Kind = Literal["alert", "message"]

EXAMPLES = 5
"""Examples of each kind of change that are kept."""

_COUNTED = frozenset((Outcome.CREATED, Outcome.SESSION_UPDATED, Outcome.COMMENT_ADDED))
_JUDGED = _COUNTED | {Outcome.SUPPRESSED}
_REASONS = {Outcome.DUPLICATE: WITHIN_INTERVAL, Outcome.STALE: CLOSED_BY_PERSON}


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

    number: int
    decided: Decided
    counted: int = 0
    messages: list[tuple[datetime, str]] = field(default_factory=list)
    others: dict[Any, None] = field(default_factory=dict)  # a set in order


class Comparison:
    """Trigger by trigger, then alert by alert: two are one alert where they have a trigger in common."""

    def __init__(self, rows: Triggers, judge: Callable[[int], Verdict]) -> None:
        """`judge` tells the verdict of a trigger, for the examples."""
        self._rows = rows
        self._judge = judge
        self._result = Replayed()
        self._old: dict[Any, _Trace] = {}
        self._new: dict[Any, _Trace] = {}
        self._kept: defaultdict[tuple[Kind, Change], list[tuple[int, Decided]]] = defaultdict(list)
        self._outcomes: Counter[tuple[int, Outcome]] = Counter()  # by what was said
        self._alike: dict[tuple[int, Outcome, Any, Any], int] = {}  # further ones, with both their alerts
        self._counted = [said.counted for said in rows.said]
        self._told = [told_of(said.notify) for said in rows.said]

    def add(self, number: int, outcome: Outcome, alert_id: str | None, notify: str = "") -> None:
        """What was decided of a trigger about which nobody would be told; most are like one before."""
        said = self._rows.said_of[number]
        old = self._rows.alert_ids[number] if self._counted[said] else None
        like = (said, outcome, old, alert_id if outcome in _COUNTED else None)
        if like in self._alike:
            self._alike[like] += 1
            return
        self.add_decided(number, Decided(outcome, alert_id, notify, _REASONS.get(outcome, "")))
        if not self._told[said]:
            self._alike[like] = 0

    def add_decided(self, number: int, decided: Decided) -> None:
        rows = self._rows
        said_of = rows.said_of[number]
        self._outcomes[said_of, decided.outcome] += 1
        old_told, new_told = self._told[said_of], told_of(decided.notify)
        if old_told or new_told:
            change = _count(self._result.messages, old_told, new_told)
            if change is not None:
                self._keep("message", change, number, decided)
        old = rows.alert_ids[number] if self._counted[said_of] else None
        new = decided.alert_id if decided.outcome in _COUNTED else None
        for traces, one, other, told in ((self._old, old, new, old_told), (self._new, new, old, new_told)):
            if one is not None:
                trace = traces.get(one) or traces.setdefault(one, _Trace(number, decided))
                trace.counted += 1
                trace.others[other] = None
                if told:
                    trace.messages.append((rows.at[number], told))

    def result(self) -> Replayed:
        result = self._result
        alerts = result.alerts
        for (said, outcome, old, new), more in self._alike.items():
            self._outcomes[said, outcome] += more
            for traces, one in ((self._old, old), (self._new, new)):
                if one is not None:
                    traces[one].counted += more
        for (said, outcome), number in self._outcomes.items():
            result.outcomes[self._rows.said[said].outcome, str(outcome)] += number
        result.triggers = result.outcomes.total()
        alerts.stored, alerts.proposed = len(self._old), len(self._new)
        for trace in self._old.values():
            self._compare(trace)
        for trace in self._new.values():
            if not any(other is not None for other in trace.others):
                alerts.appear += 1
                self._keep("alert", "appear", trace.number, trace.decided)
        result.examples = [
            self._example(kind, change, *one) for (kind, change), kept in self._kept.items() for one in kept
        ]
        result.examples.sort(key=lambda example: (example.kind, example.at, example.change))
        return result

    def _compare(self, old: _Trace) -> None:
        alerts = self._result.alerts
        others = [other for other in old.others if other is not None]
        if not others:
            alerts.vanish += 1
            self._keep("alert", "vanish", old.number, old.decided)
        elif len(others) == 1 and self._same(old, self._new[others[0]]):
            alerts.unchanged += 1
        else:
            alerts.change += 1
            self._keep("alert", "change", old.number, old.decided)

    def _same(self, old: _Trace, new: _Trace) -> bool:
        opened = self._rows.said[self._rows.said_of[old.number]].outcome == Outcome.CREATED
        same = None not in old.others and old.counted == new.counted and old.messages == new.messages
        return same and opened == (new.decided.outcome is Outcome.CREATED)

    def _keep(self, kind: Kind, change: Change, number: int, decided: Decided) -> None:
        """The first ones of each kind of change."""
        kept = self._kept[kind, change]
        insort(kept, (number, decided), key=itemgetter(0))
        del kept[EXAMPLES:]

    def _example(self, kind: Kind, change: Change, number: int, decided: Decided) -> Example:
        row = self._rows.row(number)
        old, new = _words(*row.said), _words(str(decided.outcome), decided.notify)
        return Example(kind, change, row.at, row.name.alert_name, old, new, self._why(number, decided))

    def _why(self, number: int, decided: Decided) -> str:
        """Why the proposed configuration decides so: the verdict, and where it passes, what held a message back."""
        if decided.reason or decided.outcome not in _JUDGED:
            return decided.reason
        verdict = self._judge(number)
        return f"{verdict.reason}; {decided.notify}" if verdict.passed and decided.notify else verdict.reason


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
