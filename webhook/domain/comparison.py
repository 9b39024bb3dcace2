"""Two accounts of the same triggers, compared: what the log says of them, and what a fold over them says. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
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

    def count(self, old: object, new: object) -> Change | None:
        """One that either side may have; what is different about it."""
        self.stored += bool(old)
        self.proposed += bool(new)
        if old == new:
            self.unchanged += 1
            return None
        change: Change = "change" if old and new else "vanish" if old else "appear"
        setattr(self, change, getattr(self, change) + 1)
        return change


@dataclass(slots=True)
class Replayed:
    """The comparison; `outcomes` counts (as logged, as proposed)."""

    triggers: int = 0
    alerts: Tally = field(default_factory=Tally)
    messages: Tally = field(default_factory=Tally)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class Decisions:
    """What a fold says of each trigger, by its place; an outcome is None where it is not compared.

    `alert_ids` are there where it was counted. `told`: of what people are told. `reasons` are those that are neither
    the verdict's nor the only one of their outcome.
    """

    outcomes: list[Outcome | None]
    alert_ids: list[str | None]
    notify: list[str]
    told: list[int] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, number: int) -> Decisions:
        return cls([None] * number, [None] * number, [""] * number)


def compare(rows: Triggers, decisions: Decisions, judge: Callable[[int], Verdict]) -> Replayed:
    """Trigger by trigger, then alert by alert; `judge` tells the verdict of a trigger, for the examples."""
    return _Comparison(rows, decisions, judge).result()


@dataclass(slots=True)
class _Trace:
    """One alert on one side: what the other side calls its triggers, and its messages."""

    counted: int = 0
    others: set[Any] = field(default_factory=set)
    messages: list[tuple[datetime, str]] = field(default_factory=list)


class _Comparison:
    """Two alerts are one where they have a trigger in common."""

    def __init__(self, rows: Triggers, decisions: Decisions, judge: Callable[[int], Verdict]) -> None:
        self._rows, self._decisions, self._judge = rows, decisions, judge
        self._result = Replayed()
        self._old: defaultdict[Any, _Trace] = defaultdict(_Trace)
        self._new: defaultdict[Any, _Trace] = defaultdict(_Trace)
        self._found: defaultdict[tuple[Kind, Change], list[int]] = defaultdict(list)

    def result(self) -> Replayed:
        self._count_triggers()
        self._count_messages()
        self._count_alerts()
        examples = [
            self._example(kind, change, number)
            for (kind, change), numbers in self._found.items()
            for number in sorted(numbers)[:EXAMPLES]
        ]
        self._result.examples = sorted(examples, key=lambda example: (example.kind, example.at, example.change))
        return self._result

    def _count_triggers(self) -> None:
        """Nearly all are like others: their outcomes and alerts on both sides."""
        rows, decisions, result = self._rows, self._decisions, self._result
        for (said, outcome, old_id, new_id), number in Counter(
            zip(rows.said_of, decisions.outcomes, rows.alert_ids, decisions.alert_ids, strict=True)
        ).items():
            if outcome is None:
                continue
            result.triggers += number
            result.outcomes[rows.said[said].outcome, str(outcome)] += number
            old = old_id if rows.said[said].counted else None
            new = new_id if outcome in _COUNTED else None
            for traces, one, other in ((self._old, old, new), (self._new, new, old)):
                if one is not None:
                    trace = traces[one]
                    trace.counted += number
                    trace.others.add(other)

    def _count_messages(self) -> None:
        rows, decisions = self._rows, self._decisions
        told = [told_of(said.notify) for said in rows.said]
        logged = (number for number, said in enumerate(rows.said_of) if told[said])
        for number in sorted({*logged, *decisions.told}):
            outcome = decisions.outcomes[number]
            if outcome is None:
                continue
            old, new = told[rows.said_of[number]], told_of(decisions.notify[number])
            self._find("message", self._result.messages.count(old, new), number)
            if old and rows.said[rows.said_of[number]].counted:
                self._old[rows.alert_ids[number]].messages.append((rows.at[number], old))
            if new:
                self._new[decisions.alert_ids[number]].messages.append((rows.at[number], new))

    def _count_alerts(self) -> None:
        rows, decisions, alerts = self._rows, self._decisions, self._result.alerts
        alerts.stored, alerts.proposed = len(self._old), len(self._new)
        counted = [said.counted for said in rows.said]
        compared = zip(rows.said_of, decisions.outcomes, strict=True)
        logged = [n for n, (said, outcome) in enumerate(compared) if counted[said] and outcome is not None]
        for alert_id, number in _firsts(rows.alert_ids, logged).items():
            self._compare(self._old[alert_id], number)
        fresh = {alert_id for alert_id, trace in self._new.items() if trace.others == {None}}
        made = [n for n, alert_id in enumerate(decisions.alert_ids) if alert_id in fresh] if fresh else []
        for number in _firsts(decisions.alert_ids, made).values():
            alerts.appear += 1
            self._find("alert", "appear", number)

    def _compare(self, old: _Trace, number: int) -> None:
        alerts = self._result.alerts
        others = old.others - {None}
        if not others:
            alerts.vanish += 1
            self._find("alert", "vanish", number)
        elif len(others) == len(old.others) == 1 and self._same(old, self._new[min(others)], number):
            alerts.unchanged += 1
        else:
            alerts.change += 1
            self._find("alert", "change", number)

    def _same(self, old: _Trace, new: _Trace, number: int) -> bool:
        """Where all triggers of one are of the other, both have the same first one."""
        opened = self._rows.said[self._rows.said_of[number]].outcome == Outcome.CREATED
        same = old.counted == new.counted and old.messages == new.messages
        return same and opened == (self._decisions.outcomes[number] is Outcome.CREATED)

    def _find(self, kind: Kind, change: Change | None, number: int) -> None:
        if change is not None:
            self._found[kind, change].append(number)

    def _example(self, kind: Kind, change: Change, number: int) -> Example:
        row = self._rows.row(number)
        new = _words(str(self._decisions.outcomes[number]), self._decisions.notify[number])
        return Example(kind, change, row.at, row.name.alert_name, _words(*row.said), new, self._why(number))

    def _why(self, number: int) -> str:
        """Why the proposed configuration decides so: the verdict, and where it passes, what held a message back."""
        outcome, notify = self._decisions.outcomes[number], self._decisions.notify[number]
        if outcome not in _JUDGED:
            return self._decisions.reasons.get(number, _REASONS.get(outcome, "") if outcome else "")
        verdict = self._judge(number)
        return f"{verdict.reason}; {notify}" if verdict.passed and notify else verdict.reason


def _firsts(alert_ids: Sequence[Any], numbers: Sequence[int]) -> dict[Any, int]:
    """By alert the first of these triggers."""
    firsts: dict[Any, int] = {}
    for number in numbers:
        firsts.setdefault(alert_ids[number], number)
    return firsts


def told_of(notify: str) -> str:
    return "" if notify.startswith("withheld") else notify


def _words(outcome: str, notify: str) -> str:
    return f"{outcome}, {notify}" if notify else outcome
