"""What a proposed configuration would have made of the triggers that were received: a fold of the ledger over them.

Pure. Deliveries are decided by `ledger.decide`, as they were when they came; between them sessions are settled and
rise by duration as the sweep does it, and people's closings happen when they happened. Compared are what the log
says and what the fold says of each trigger, so a message that time alone caused (an end, a rise by duration) is not.

Nearly all triggers only move what is known: duplicates, what is suppressed, ends, one more occurrence in a lull. For
these the ledger's rules are written out in `_Fold.run`, without a call or a record for each; whatever is not as plain
goes through `decide`. A test holds both ways together.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, islice

from webhook.domain import session as sessions
from webhook.domain.alert import AlertSession, NotifyReason, Outcome, Trigger, TriggerStatus, Withheld
from webhook.domain.channel_choice import channels_for, channels_of
from webhook.domain.comparison import EXAMPLES, Replayed, compare, told_of
from webhook.domain.decisions import DUPLICATE, RESOLVED, STALE, SUPPRESSED, UNCOMPARED, Decision, Decisions
from webhook.domain.evaluation import MerchantConfig, Verdict, met_by
from webhook.domain.flapping import Flapping, holds_back, restarted
from webhook.domain.held import Group, Held, Seen
from webhook.domain.ledger import Changes, Entry, IngestSettings, Known, Received, decide, judge
from webhook.domain.lull import FOREVER
from webhook.domain.past import Past
from webhook.domain.report import start_of
from webhook.domain.throttle import decide_notification
from webhook.domain.triggers import FIRING, SEVERITIES, SWEPT, Triggers

_STRETCH = timedelta(hours=1)
_SWEEPS = timedelta(minutes=5)  # as late as one may come
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_FIRING, _RESOLVED = TriggerStatus.FIRING, TriggerStatus.RESOLVED


def replay(
    triggers: Triggers,
    past: Past,
    config: MerchantConfig,
    settings: IngestSettings,
    *,
    more: Iterable[None] = (None,),
    until: datetime | None = None,
    examples: int = EXAMPLES,
    check: Callable[[], None] = lambda: None,
    short: bool = True,
) -> Replayed:
    """Compare what was logged of one account's triggers of one type with what `config` would have made of them.

    Each step of `more` may add deliveries to `triggers`. `until` is now: what time made of alerts until then is
    compared too. `examples`: of each kind of change. `check` is called for each hour of triggers at least, and may
    raise. Not `short`: all is left to `decide`.
    """
    fold = _Fold(triggers, past, config, settings)
    for _ in more:
        fold.run(check, short=short)
    fold.end(until)
    return compare(triggers, fold.decisions, fold.judge, past, examples=examples)


class _Fold(Held):
    """Deliveries, one after the other."""

    def __init__(self, rows: Triggers, past: Past, config: MerchantConfig, settings: IngestSettings) -> None:
        default = channels_for(config.account_id, settings.channels, settings.operations)
        channels = {severity: frozenset(channels_of(config, default, severity)) for severity in SEVERITIES}
        super().__init__(past, config, settings.types[config.alert_type], channels)
        self.decisions = Decisions()
        self._rows = rows
        self._config = config
        self._key = (config.account_id, config.alert_type)
        self._configs = {self._key: config}
        self._by_own = config.enabled and not config.conditions
        self._following = _LONG_AGO  # when something happens beside the triggers
        self._settings = settings
        self._numbers = count(1)
        self._busy: list[tuple[int, Seen]] = []  # what is left of a delivery to `decide`
        self._unheard_of: datetime | None = None  # a delivery of which something is
        self._again = self._silent = FOREVER  # when what comes now counts again, and when its session ends
        self._named: list[Seen] = []
        self._met: list[bool] = []
        self._reported: dict[str, tuple[datetime, datetime]] = {}  # by fingerprint: the start as stored, and as decided

    def run(self, check: Callable[[], None], *, short: bool) -> None:
        """Deliveries that are not decided yet."""
        numbers = self.decisions.numbers
        for number, at, seen, kind, passes in self._in_time(check):
            group = seen.group
            if group.busy is at or not short:
                decided = None
            elif not passes or kind != FIRING or not seen.plain:
                decided = self._move(number, seen, kind, at, passes=passes)
            elif at < seen.again:
                seen.heard = seen.passed = at
                decided = DUPLICATE
            else:
                decided = self._go_on(number, seen, at) or self._count(number, seen, at)
            if decided is None:
                group.busy = self._unheard_of = at
                self._busy.append((number, seen))
            elif at >= group.since:
                numbers[number] = decided

    def _in_time(self, check: Callable[[], None]) -> Iterator[tuple[int, datetime, Seen, int, bool]]:
        """The triggers that are replayed, with what time and people did before each, and what is left of deliveries."""
        rows, named, met, own = self._rows, self._named, self._met, self._rows.own
        named += [self.seen(name.key, name.condition) for name in rows.names[len(named) :]]
        met += [met_by(self._config, *reading) is not False for reading in rows.readings[len(met) :]]
        begin, now = len(self.decisions.numbers), FOREVER
        self.decisions.numbers += [UNCOMPARED] * (len(rows) - begin)
        interval, timeout = self._type.occurrence_interval, self._type.session_timeout
        ask_reports = self._by_own and bool(own)
        columns = (islice(column, begin, None) for column in (rows.at, rows.name_of, rows.kinds, rows.reading_of))
        for number, (at, name, kind, reading) in enumerate(zip(*columns, strict=True), begin):
            if at is not now:
                if self._busy:
                    self._decide(now)
                now, self._again, self._silent, self._besides = at, at + interval, at + timeout, 0
                if at > self._following:
                    self._following = min(self.wait_until(at), at + _STRETCH)
                    check()
            seen = named[name]
            group = seen.group
            if at < group.starts:
                continue
            if own and kind == FIRING and number in own:
                seen = self._begun(number, seen, at)
            if at >= group.wake and group.woken is not at:
                self.pass_time(group, at)
            yield number, at, seen, kind, self._passes(number) if ask_reports else met[reading]
        if self._busy:
            self._decide(now)

    def end(self, until: datetime | None) -> None:
        """What time makes of what is left: surely, as the sweep has come by since, and perhaps."""
        for now, made in ((until - _SWEEPS, self.decisions.ended), (until, self.decisions.perhaps)) if until else ():
            self.wait_until(now)
            for group in list(self._groups.values()):
                if group.starts <= now:
                    self.pass_time(group, now)
            made.update(self.over.ended)
        for group in self._groups.values():
            if group.session is not None:
                self.over.add(group.session)
        self.decisions.rises.update(self.over.rises)

    def _move(self, number: int, seen: Seen, kind: int, at: datetime, *, passes: bool) -> int | None:
        """Decide a trigger that only moves what is known; None where it does more, and then nothing is changed."""
        if kind != FIRING:
            return self._end(seen, kind, at)
        if not seen.plain and (seen.stale or (seen.known and (seen.closed or seen.status is not _FIRING))):
            return STALE if seen.stale and number not in self._rows.own else None  # a report is heard all the same
        if passes and at >= seen.again:
            return self._count(number, seen, at)
        seen.heard = at
        if passes:
            seen.passed = at
        if not seen.plain:
            self._list(seen)
        return DUPLICATE if passes else SUPPRESSED

    def _go_on(self, number: int, seen: Seen, at: datetime) -> int | None:
        """One more occurrence in a lull, of which nothing but counts and times are to be kept."""
        group = seen.group
        lull = group.lull
        if lull is None or not lull.number or seen.alert_id != lull.alert_id or seen.passed != seen.heard:
            return None
        if at >= group.wake or at >= lull.until or lull.more >= lull.room or self._rows.ranks[number] > lull.rank:
            return None  # where time wakes it no later than its session ends
        lull.more += 1
        lull.last = group.fired = seen.heard = seen.passed = seen.counted = at
        seen.again = self._again
        group.wake = min(group.changes, self._silent)
        return lull.number

    def _list(self, seen: Seen) -> None:
        seen.known, seen.status = True, _FIRING
        self.list_seen(seen, firing=True)

    def _count(self, number: int, seen: Seen, at: datetime) -> int | None:
        """One more occurrence of what is going on, or the first one."""
        group = seen.group
        lull, flapping = group.lull, group.flapping
        if not (seen.plain and seen.attacking) and self.fired_lately(group, at) and not any(self.attacking(group)):
            lull, flapping = None, restarted(flapping, self._type, at)
        if lull is not None and self._rows.ranks[number] <= lull.rank and lull.holds(at, self._type):
            lull.more += 1
            lull.last = at
            decision = Decision(lull.outcome, lull.alert_id, lull.notify)
        else:
            joined = self._join(number, seen, flapping, at)
            if joined is None:
                return None
            decision, lull = joined, group.lull
        seen.heard = seen.passed = seen.counted = at
        seen.again = self._again
        if seen.alert_id != decision.alert_id:
            self.move(seen, decision.alert_id)
        if not seen.plain:
            self._list(seen)
        group.fired = at
        decided = self.decisions.numbered(decision)
        if decision.outcome is Outcome.SESSION_UPDATED:
            group.wake = min(group.changes, self._silent)
        if lull is not None and not lull.number and lull.outcome is Outcome.SESSION_UPDATED:
            lull.number = self.decisions.numbered(Decision(lull.outcome, lull.alert_id, lull.notify))
        return decided

    def _join(self, number: int, seen: Seen, flapping: Flapping, at: datetime) -> Decision | None:
        """As `_Ledger` counts it; None where it may be more than that, and then nothing is changed."""
        group = seen.group
        self.settle_up(group)
        before = group.session
        if before is None:
            outcome = Outcome.CREATED
            trigger = self._trigger(number, seen)
            after = sessions.opened(trigger, self._new_id(), group.condition, self._type, at)
        elif sessions.is_recent(before, self._type, at):
            outcome = Outcome.SESSION_UPDATED
            after = sessions.joined(before, SEVERITIES[self._rows.ranks[number]], outcome, self._type, at)
        else:
            return None
        why = self._why(before, after, flapping, at)
        told = isinstance(why, NotifyReason)
        if told and not (self._channels[after.severity] and self._tells(number, group, at)):
            return None
        notify = str(why) if told else f"withheld:{why}"
        changed = before is None or flapping is not group.flapping
        group.flapping = replace(flapping, told_at=at) if why is NotifyReason.FLAPPING else flapping
        group.session = sessions.told(after, at) if told else after
        if told:
            self.tell(group, at)
            self.decisions.told[number] = self._channels[after.severity]
        self.calm_down(group, notify, at)
        if told or changed:
            self.set_wake(group, at)
        return Decision(outcome, after.alert_id, notify)

    def _why(
        self, before: AlertSession | None, after: AlertSession, flapping: Flapping, at: datetime
    ) -> NotifyReason | Withheld:
        flaps, told = holds_back(flapping, self._type, at), flapping.told_at is not None
        why = decide_notification(before, after, self._policy, self.recent(at), at, flapping=flaps, flapping_told=told)
        return Withheld.NO_CHANNEL if self._mute and isinstance(why, NotifyReason) else why

    def _tells(self, number: int, group: Group, at: datetime) -> bool:
        """Whether a message has its place whatever else the delivery holds, and time did before it."""
        if self._unheard_of is at:
            return False
        names = self._rows.name_of
        others = (self._named[names[place]].group for place in self._delivery(number))
        if any(at >= other.wake and other.woken is not at for other in others):
            return False
        return (group.condition, at) in self._past.sent or not self._was_told(group.condition, number)

    def _end(self, seen: Seen, kind: int, at: datetime) -> int | None:
        if not seen.known:
            return None
        if seen.status is _FIRING:
            seen.status, seen.resolved = _RESOLVED, seen.heard if kind == SWEPT else at
        self.list_seen(seen, firing=False)
        return RESOLVED

    def judge(self, number: int) -> Verdict:
        return judge(self._config, self._rows.own.get(number), self._trigger(number, self._named[0]))

    def _passes(self, number: int) -> bool:
        """As `judge` says it."""
        own = self._rows.own.get(number)
        if own is not None and self._by_own:
            return own.passed
        return self._met[self._rows.reading_of[number]]

    def is_reported(self, seen: Seen) -> bool:
        return seen.key[0] in self._reported

    def _begun(self, number: int, seen: Seen, at: datetime) -> Seen:
        """A report goes on with a firing or begins one: that hangs on what became of the one before."""
        fingerprint, stored = seen.key
        known = self._reported.get(fingerprint)
        start = stored
        if known is not None:
            before = self.seen((fingerprint, known[1]), seen.group.condition)
            detected_at = stored if stored != known[0] else None  # it began another firing when it came
            last = before.instance() if before.known else None
            start = start_of(last, self._type, detected_at, at, passed=self._passes(number))
        self._reported[fingerprint] = (stored, start)
        return seen if start == stored else self.seen((fingerprint, start), seen.group.condition)

    def _decide(self, at: datetime) -> None:
        """What a delivery holds beside what only moves."""
        busy, self._busy = self._busy, []
        groups = list(dict.fromkeys(seen.group for _, seen in busy))
        for group in groups:
            self.settle_up(group)
        own = self._rows.own
        received = [
            Received(self._trigger(number, seen), seen.group.condition, own.get(number)) for number, seen in busy
        ]
        changes = decide(received, self._known(busy, groups, at), self._settings, at, self._new_id)
        self._take(changes, busy[0][0], at)
        for number, seen in busy:
            kind = self._rows.kinds[number]
            if kind == SWEPT and seen.resolved == at:
                seen.resolved = seen.heard
            self.list_seen(seen, firing=kind == FIRING)
        for group in groups:
            self.set_wake(group, at)
        channels = (frozenset(announcement.channels) for announcement in changes.announcements)
        for (number, seen), entry in zip(busy, changes.entries, strict=True):
            told = next(channels) if told_of(entry.notify) else None
            if at >= seen.group.since:
                self._note_entry(number, entry, told)

    def _note_entry(self, number: int, entry: Entry, channels: frozenset[str] | None) -> None:
        made, counts = self.decisions, entry.outcome in _COUNTED
        decision = Decision(entry.outcome, entry.alert_id if counts else None, entry.notify)
        made.numbers[number] = made.numbered(decision)
        if not counts and entry.outcome is not Outcome.SUPPRESSED:
            made.reasons[number] = entry.reason
        if channels is not None:
            made.told[number] = channels

    def _was_told(self, condition: str, number: int) -> bool:
        """Whether the log says so of the delivery that this trigger is of."""
        rows = self._rows
        delivery = map(rows.row, self._delivery(number))
        return any(told_of(row.said.notify) for row in delivery if row.name.condition == condition)

    def _delivery(self, number: int) -> range:
        """The places of the triggers that came with this one."""
        at = self._rows.at
        return range(bisect_left(at, at[number]), bisect_right(at, at[number]))

    def _trigger(self, number: int, seen: Seen) -> Trigger:
        row = self._rows.row(number)
        return Trigger(
            seen.key[0],
            _FIRING if row.kind == FIRING else _RESOLVED,
            seen.key[1],
            None,
            row.name.alert_name,
            self._key[1],
            row.severity,
            self._key[0],
            "",
            row.reading[0],
            {},
            "",
            row.reading[1],
            {},
            "",
        )

    def _known(self, busy: Sequence[tuple[int, Seen]], groups: Sequence[Group], at: datetime) -> Known:
        """As the store reads it for a delivery."""
        found = [(group, group.session) for group in groups if group.session is not None]
        return Known(
            sessions={group.condition: session for group, session in found},
            instances={seen.key: seen.instance() for _, seen in busy if seen.known},
            last_passed={item.alert_id: last for _, item in found if (last := self.last_passed(item, at))},
            configs=self._configs,
            notified={self._key: self.recent(at)},
            attacking={
                group.condition: {seen.key for seen in self.attacking(group)}
                for group in groups
                if self.fired_lately(group, at)
            },
            flapping={group.condition: group.flapping for group in groups},
        )

    def _take(self, changes: Changes, number: int, at: datetime) -> None:
        """Of the delivery that the trigger with this number is of."""
        for condition, (state, _) in changes.flapping.items():
            self.group(condition).flapping = state
        for key, (instance, _) in changes.instances.items():
            self.keep(self._seen[key], instance)
        for session in changes.sessions.values():
            group = self.group(session.condition_fingerprint)
            if group.session is not None and group.session.alert_id != session.alert_id:
                self.over.add(group.session)
            group.session, group.fired = session, session.last_triggered_at
        for condition in {announcement.session.condition_fingerprint for announcement in changes.announcements}:
            withdrawn = (condition, at) not in self._past.sent and self._was_told(condition, number)
            self.tell(self.group(condition), at, withdrawn=withdrawn)
        last = {entry.alert_id: entry.notify for entry in changes.entries if entry.notify}
        for session in changes.sessions.values():
            self.calm_down(self.group(session.condition_fingerprint), last.get(session.alert_id, ""), at)

    def _new_id(self) -> str:
        return str(next(self._numbers))


_COUNTED = (Outcome.CREATED, Outcome.SESSION_UPDATED, Outcome.COMMENT_ADDED)
