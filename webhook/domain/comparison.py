"""Two accounts of the same triggers, compared: what the log says of them, and what a fold over them says. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from webhook.domain.alert import Outcome
from webhook.domain.decisions import Decisions
from webhook.domain.evaluation import Verdict
from webhook.domain.occurrence import CLOSED_BY_PERSON, WITHIN_INTERVAL
from webhook.domain.past import Past
from webhook.domain.triggers import Triggers

Change = Literal["appear", "vanish", "change"]
Kind = Literal["alert", "message"]

EXAMPLES = 5
"""Examples of each kind of change that are kept."""

_COUNTED = frozenset((Outcome.CREATED, Outcome.SESSION_UPDATED, Outcome.COMMENT_ADDED))
_JUDGED = _COUNTED | {Outcome.SUPPRESSED}
_REASONS = {Outcome.DUPLICATE: WITHIN_INTERVAL, Outcome.STALE: CLOSED_BY_PERSON}


class Example(NamedTuple):
    """One difference. `old` and `new` are outcomes with what was said of telling people; "" where there is none.

    Of a message that either has, the channels on which it goes out, where they are known.
    """

    kind: Kind
    change: Change
    at: datetime
    alert_name: str
    old: str
    new: str
    reason: str
    old_channels: tuple[str, ...] = ()
    new_channels: tuple[str, ...] = ()


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

    def add(self, old: int, new: int) -> None:
        """So many on either side, which cannot be told apart."""
        self.stored += old
        self.proposed += new
        self.unchanged += min(old, new)
        self.vanish += max(0, old - new)
        self.appear += max(0, new - old)


@dataclass(slots=True)
class Replayed:
    """The comparison; `outcomes` counts (as logged, as proposed).

    `ends` are those that people are told of, `rises` those in severity, that time alone causes.
    """

    triggers: int = 0
    alerts: Tally = field(default_factory=Tally)
    messages: Tally = field(default_factory=Tally)
    ends: Tally = field(default_factory=Tally)
    rises: Tally = field(default_factory=Tally)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)


def compare(
    rows: Triggers, decisions: Decisions, judge: Callable[[int], Verdict], past: Past, *, examples: int = EXAMPLES
) -> Replayed:
    """Trigger by trigger, then alert by alert; `judge` tells the verdict of a trigger, for the examples."""
    return _Comparison(rows, decisions, judge, past).result(examples)


@dataclass(slots=True)
class _Trace:
    """One alert on one side: what the other side calls its triggers, and its messages."""

    counted: int = 0
    others: set[Any] = field(default_factory=set)
    messages: list[tuple[datetime, str]] = field(default_factory=list)


class _Comparison:
    """Two alerts are one where they have a trigger in common."""

    def __init__(self, rows: Triggers, decisions: Decisions, judge: Callable[[int], Verdict], past: Past) -> None:
        self._rows, self._decisions, self._judge, self._past = rows, decisions, judge, past
        self._channels = defaultdict[tuple[str, datetime], frozenset[str]](frozenset)
        for number, channels in decisions.told.items():
            self._channels[self._moment(number)] |= channels
        alike = list(zip(rows.said_of, decisions.numbers, rows.alert_ids, strict=True))
        self._alike = Counter(alike)
        self._first = dict(zip(reversed(alike), range(len(alike) - 1, -1, -1), strict=True))
        self._result = Replayed()
        self._old: defaultdict[Any, _Trace] = defaultdict(_Trace)
        self._new: defaultdict[Any, _Trace] = defaultdict(_Trace)
        self._found: defaultdict[tuple[Kind, Change], list[int]] = defaultdict(list)

    def result(self, most: int) -> Replayed:
        self._count_triggers()
        self._count_messages()
        self._count_alerts()
        self._count_ends()
        examples = [
            self._example(kind, change, number)
            for (kind, change), numbers in self._found.items()
            for number in sorted(numbers)[:most]
        ]
        self._result.examples = sorted(examples, key=lambda example: (example.kind, example.at, example.change))
        return self._result

    def _count_triggers(self) -> None:
        """Nearly all are like others: what is said of them and their alerts on both sides."""
        rows, result = self._rows, self._result
        for (said, number, old_id), times in self._alike.items():
            outcome, new_id, _ = self._decisions.said(number)
            if outcome is None:
                continue
            result.triggers += times
            result.outcomes[rows.said[said].outcome, str(outcome)] += times
            old = old_id if rows.said[said].counted else None
            for traces, one, other in ((self._old, old, new_id), (self._new, new_id, old)):
                if one is not None:
                    trace = traces[one]
                    trace.counted += times
                    trace.others.add(other)

    def _count_messages(self) -> None:
        rows, decisions = self._rows, self._decisions
        told = [told_of(said.notify) for said in rows.said]
        logged = (number for number, said in enumerate(rows.said_of) if told[said])
        for number in sorted({*logged, *decisions.told}):
            outcome, new_id, notify = decisions.of(number)
            if outcome is None:
                continue
            old, new = told[rows.said_of[number]], told_of(notify)
            if old and new and self._goes_elsewhere(number):
                new += " elsewhere"
            self._find("message", self._result.messages.count(old, new), number)
            if old and rows.said[rows.said_of[number]].counted:
                self._old[rows.alert_ids[number]].messages.append((rows.at[number], old))
            if new:
                self._new[new_id].messages.append((rows.at[number], new))

    def _moment(self, number: int) -> tuple[str, datetime]:
        """Of a message: what one delivery says of a condition goes out as one."""
        return self._rows.names[self._rows.name_of[number]].condition, self._rows.at[number]

    def _goes_elsewhere(self, number: int) -> bool:
        moment = self._moment(number)
        return self._past.channels.get(moment, self._channels[moment]) != self._channels[moment]

    def _count_ends(self) -> None:
        """Of alerts on both sides that are one, and of those that are not."""
        ends, rises, past, made = self._result.ends, self._result.rises, self._past, self._decisions
        counted = set[Any]()
        for old_id, trace in self._old.items():
            new_ids = trace.others - {None} - counted
            counted |= new_ids
            ended = old_id in past.ended
            ends.add(int(ended), int(not new_ids.isdisjoint(made.perhaps if ended else made.ended)))
            rises.add(past.rises.get(old_id, 0), sum(made.rises.get(new_id, 0) for new_id in new_ids))
        for new_id in self._new.keys() - counted:
            ends.add(0, int(new_id in made.ended))
            rises.add(0, made.rises.get(new_id, 0))

    def _count_alerts(self) -> None:
        rows, decisions, alerts = self._rows, self._decisions, self._result.alerts
        alerts.stored, alerts.proposed = len(self._old), len(self._new)
        firsts: tuple[dict[Any, int], dict[Any, int]] = {}, {}
        for (said, number, old_id), place in sorted(self._first.items(), key=itemgetter(1)):
            outcome, new_id, _ = decisions.said(number)
            if outcome is not None and rows.said[said].counted:
                firsts[0].setdefault(old_id, place)
            if new_id is not None:
                firsts[1].setdefault(new_id, place)
        for alert_id, place in firsts[0].items():
            self._compare(self._old[alert_id], place)
        for alert_id, place in firsts[1].items():
            if self._new[alert_id].others == {None}:
                alerts.appear += 1
                self._find("alert", "appear", place)

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
        return same and opened == (self._decisions.of(number).outcome is Outcome.CREATED)

    def _find(self, kind: Kind, change: Change | None, number: int) -> None:
        if change is not None:
            self._found[kind, change].append(number)

    def _example(self, kind: Kind, change: Change, number: int) -> Example:
        row = self._rows.row(number)
        outcome, _, notify = self._decisions.of(number)
        new = _words(str(outcome), notify)
        old_on = new_on = frozenset[str]()
        if kind == "message":
            old_on = self._past.channels.get(self._moment(number), old_on) if told_of(row.said.notify) else old_on
            new_on = self._decisions.told.get(number, new_on)
        on = (tuple(sorted(old_on)), tuple(sorted(new_on)))
        return Example(kind, change, row.at, row.name.alert_name, _words(*row.said), new, self._why(number), *on)

    def _why(self, number: int) -> str:
        """Why the proposed configuration decides so: the verdict, and where it passes, what held a message back."""
        outcome, _, notify = self._decisions.of(number)
        if outcome not in _JUDGED:
            return self._decisions.reasons.get(number, _REASONS.get(outcome, "") if outcome else "")
        verdict = self._judge(number)
        return f"{verdict.reason}; {notify}" if verdict.passed and notify else verdict.reason


def told_of(notify: str) -> str:
    return "" if notify.startswith("withheld") else notify


def _words(outcome: str, notify: str) -> str:
    return f"{outcome}, {notify}" if notify else outcome
