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
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from webhook.domain import session as sessions
from webhook.domain.alert import NotifyReason, Outcome, Trigger, TriggerStatus, Withheld
from webhook.domain.channel_choice import channels_for, channels_of
from webhook.domain.comparison import EXAMPLES, Decisions, Replayed, compare, told_of
from webhook.domain.evaluation import MerchantConfig, Verdict, met_by
from webhook.domain.flapping import holds_back
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
    until: datetime | None = None,
    examples: int = EXAMPLES,
    check: Callable[[], None] = lambda: None,
    short: bool = True,
) -> Replayed:
    """Compare what was logged of one account's triggers of one type with what `config` would have made of them.

    `until` is now: what time made of alerts until then is compared too. `examples`: of each kind of change.
    `check` is called for each hour of triggers at least, and may raise. Not `short`: all is left to `decide`.
    """
    fold = _Fold(triggers, past, config, settings)
    fold.run(check, short=short)
    fold.end(until)
    return compare(triggers, fold.decisions, fold.judge, past, examples=examples)


class _Fold(Held):
    """Deliveries, one after the other."""

    def __init__(self, rows: Triggers, past: Past, config: MerchantConfig, settings: IngestSettings) -> None:
        default = channels_for(config.account_id, settings.channels, settings.operations)
        channels = {severity: frozenset(channels_of(config, default, severity)) for severity in SEVERITIES}
        super().__init__(past, config, settings.types[config.alert_type], channels)
        self.decisions = Decisions.of(len(rows))
        self._rows = rows
        self._config = config
        self._key = (config.account_id, config.alert_type)
        self._configs = {self._key: config}
        self._by_own = config.enabled and not config.conditions
        self._ask_reports = self._by_own and bool(rows.own)
        self._settings = settings
        self._numbers = count(1)
        self._unheard_of: datetime | None = None  # a delivery of which something is left to `decide`
        self._again = self._silent = FOREVER  # when what comes now counts again, and when its session ends
        self._named = [self.seen(name.key, name.condition) for name in rows.names]
        self._met = [met_by(config, *reading) is not False for reading in rows.readings]
        self._reported: dict[str, tuple[datetime, datetime]] = {}  # by fingerprint: the start as stored, and as decided

    def run(self, check: Callable[[], None], *, short: bool) -> None:
        rows, named, own = self._rows, self._named, self._rows.own
        now, following, busy = FOREVER, _LONG_AGO, list[tuple[int, Seen]]()
        interval, timeout = self._type.occurrence_interval, self._type.session_timeout
        for number, (at, name, kind) in enumerate(zip(rows.at, rows.name_of, rows.kinds, strict=True)):
            if at is not now:
                if busy:
                    self._decide(busy, now)
                    busy = []
                now, self._again, self._silent = at, at + interval, at + timeout
                if at > following:
                    following = min(self.wait_until(at), at + _STRETCH)
                    check()
            seen = named[name]
            group = seen.group
            if at < group.starts:
                continue
            if own and kind == FIRING and number in own:
                seen = self._begun(number, seen, at)
            if at >= group.wake and group.woken is not at:
                self.pass_time(group, at)
            if group.busy is at or not short or not self._move(number, seen, kind, at):
                group.busy = self._unheard_of = at
                busy.append((number, seen))
        self._decide(busy, now)

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

    def _move(self, number: int, seen: Seen, kind: int, at: datetime) -> bool:
        """Decide a trigger that only moves what is known; False where it does more, and then nothing is changed."""
        if kind != FIRING:
            return self._end(number, seen, kind, at)
        if not seen.plain and (seen.stale or (seen.known and not self._fires_on(seen))):
            return seen.stale and self._is_stale(number, seen, at)
        passes = self._passes(number) if self._ask_reports else self._met[self._rows.reading_of[number]]
        if passes and at >= seen.again:
            return self._go_on(number, seen, at) or self._count(number, seen, at)
        seen.heard = at
        if passes:
            seen.passed = at
        if not seen.plain:
            self._list(seen)
        if at >= seen.group.since:
            self.decisions.outcomes[number] = Outcome.DUPLICATE if passes else Outcome.SUPPRESSED
        return True

    def _go_on(self, number: int, seen: Seen, at: datetime) -> bool:
        """One more occurrence in a lull, of which nothing but counts and times are to be kept."""
        group = seen.group
        lull = group.lull
        if lull is None or not seen.plain or lull.outcome is not Outcome.SESSION_UPDATED:
            return False
        if at >= group.wake or at >= lull.until or lull.more >= lull.room or seen.alert_id != lull.alert_id:
            return False  # where time wakes it no later than its session ends
        if self._rows.ranks[number] > lull.rank or seen.passed != seen.heard:
            return False
        lull.more += 1
        lull.last = group.fired = seen.heard = seen.passed = seen.counted = at
        seen.again = self._again
        group.wake = min(group.changes, self._silent)
        if at >= group.since:
            made = self.decisions
            made.outcomes[number], made.alert_ids[number], made.notify[number] = (
                lull.outcome,
                lull.alert_id,
                lull.notify,
            )
        return True

    @staticmethod
    def _fires_on(seen: Seen) -> bool:
        """Heard of before its session ended."""
        return seen.status is _FIRING and not seen.closed

    def _list(self, seen: Seen) -> None:
        seen.known, seen.status = True, _FIRING
        self.list_seen(seen, firing=True)

    def _count(self, number: int, seen: Seen, at: datetime) -> bool:
        """One more occurrence of what is going on."""
        group = seen.group
        lull = group.lull
        attacks = seen.plain and seen.attacking
        if not attacks and self.fired_lately(group, at) and not any(self.attacking(group)):
            return False  # it fires again: it may flap
        if lull is not None and self._rows.ranks[number] <= lull.rank and lull.holds(at, self._type):
            lull.more += 1
            lull.last = at
            outcome, alert_id, notify = lull.outcome, lull.alert_id, lull.notify
        else:
            joined = self._join(number, group, at)
            if joined is None:
                return False
            outcome, alert_id, notify = joined
        seen.heard = seen.passed = seen.counted = at
        seen.again = self._again
        if seen.alert_id != alert_id:
            self.move(seen, alert_id)
        if not seen.plain:
            self._list(seen)
        group.fired = at
        if outcome is Outcome.SESSION_UPDATED:
            group.wake = min(group.changes, self._silent)
        if at >= group.since:
            made = self.decisions
            made.outcomes[number], made.alert_ids[number], made.notify[number] = outcome, alert_id, notify
        return True

    def _join(self, number: int, group: Group, at: datetime) -> tuple[Outcome, str, str] | None:
        """One more occurrence of what is going on, as `_Ledger` counts it; None where it may be more than that."""
        self.settle_up(group)
        before = group.session
        if before is None or not sessions.is_recent(before, self._type, at):
            return None
        severity = SEVERITIES[self._rows.ranks[number]]
        after = sessions.joined(before, severity, Outcome.SESSION_UPDATED, self._type, at)
        why = decide_notification(
            before,
            after,
            self._policy,
            self._notified,
            at,
            flapping=holds_back(group.flapping, self._type, at),
            flapping_told=group.flapping.told_at is not None,
        )
        if self._mute and isinstance(why, NotifyReason):
            why = Withheld.NO_CHANNEL
        if isinstance(why, Withheld):
            group.session = after
            self.calm_down(group, f"withheld:{why}", at)
            return Outcome.SESSION_UPDATED, after.alert_id, f"withheld:{why}"
        if why is NotifyReason.FLAPPING or not (self._channels[after.severity] and self._tells(number, group, at)):
            return None
        group.session, group.lull = sessions.told(after, at), None
        self.tell(group, at)
        self.set_wake(group, at)
        self.decisions.told[number] = self._channels[after.severity]
        return Outcome.SESSION_UPDATED, after.alert_id, str(why)

    def _tells(self, number: int, group: Group, at: datetime) -> bool:
        """Whether a message has its place whatever else the delivery holds, and time did before it."""
        if self._unheard_of is at:
            return False
        names = self._rows.name_of
        others = (self._named[names[place]].group for place in self._delivery(number))
        if any(at >= other.wake and other.woken is not at for other in others):
            return False
        return (group.condition, at) in self._past.sent or not self._was_told(group.condition, number)

    def _end(self, number: int, seen: Seen, kind: int, at: datetime) -> bool:
        if not seen.known:
            return False
        if seen.status is _FIRING:
            seen.status, seen.resolved = _RESOLVED, seen.heard if kind == SWEPT else at
        self.list_seen(seen, firing=False)
        if at >= seen.group.since:
            self.decisions.outcomes[number] = Outcome.RESOLVED
        return True

    def _is_stale(self, number: int, seen: Seen, at: datetime) -> bool:
        """A report of what a person closed is heard all the same."""
        if number in self._rows.own:
            return False
        if at >= seen.group.since:
            self.decisions.outcomes[number] = Outcome.STALE
        return True

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

    def _decide(self, busy: Sequence[tuple[int, Seen]], at: datetime) -> None:
        """What a delivery holds beside what only moves."""
        if not busy:
            return
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
        made = self.decisions
        made.outcomes[number], made.notify[number] = entry.outcome, entry.notify
        if entry.outcome in _COUNTED:
            made.alert_ids[number] = entry.alert_id
        elif entry.outcome is not Outcome.SUPPRESSED:
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
            notified={self._key: self._notified},
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
