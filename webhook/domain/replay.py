"""What a proposed configuration would have made of the triggers that were received: a fold of the ledger over them.

Pure. Deliveries are decided by `ledger.decide`, as they were when they came; between them sessions are settled and
rise by duration as the sweep does it, and people's closings happen when they happened. Compared are what the log
says and what the fold says of each trigger, so a message that time alone caused (an end, a rise by duration) is not.

Most deliveries hold nothing but what was heard before: duplicates, what is suppressed, one more occurrence of an
attack of which people were told. They are decided by the ledger's own functions without the records that it makes
for the store; what is not as plain as that goes through `decide`. A test holds both ways together.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count, groupby
from operator import attrgetter

from webhook.domain import session as sessions
from webhook.domain.alert import AlertSession, AlertStatus, Instance, Outcome, SessionStatus, Trigger, TriggerStatus
from webhook.domain.comparison import Comparison, Decided, Replayed, StoredTrigger, told_of
from webhook.domain.evaluation import MerchantConfig, Verdict, met_by
from webhook.domain.flapping import STEADY, Flapping, calmed, holds_back
from webhook.domain.ledger import Changes, Entry, IngestSettings, Known, Received, decide, judge
from webhook.domain.lull import Lull, lull_after
from webhook.domain.occurrence import Delivery, classify, heard_again
from webhook.domain.past import Past
from webhook.domain.report import start_of
from webhook.domain.severity import escalate
from webhook.domain.throttle import NotificationPolicy

_PAUSE = 256  # deliveries
_FIRING, _RESOLVED = TriggerStatus.FIRING, TriggerStatus.RESOLVED

Key = tuple[str, datetime]


def replay(
    triggers: Iterable[StoredTrigger],
    past: Past,
    config: MerchantConfig,
    settings: IngestSettings,
    *,
    pause: Callable[[], None] = lambda: None,
    short: bool = True,
) -> Replayed:
    """Compare what was logged of one account's triggers of one type with what `config` would have made of them.

    `pause` is called every few hundred deliveries and may raise. `short` is False where all goes through `decide`.
    """
    fold = _Fold(past, config, settings, short=short)
    comparison = Comparison(fold.judge)
    for number, (at, group) in enumerate(groupby(triggers, key=attrgetter("at"))):
        if number % _PAUSE == 0:
            pause()
        delivery = [row for row in group if at >= past.starts.get(row.condition, past.since)]
        if not delivery:
            continue
        decided = fold.deliver(at, delivery)
        if at >= past.since:
            comparison.add_all(delivery, decided)
    return comparison.result()


class _Fold:
    """The state that the store would hold."""

    def __init__(self, past: Past, config: MerchantConfig, settings: IngestSettings, *, short: bool) -> None:
        self._past = past
        self._config = config
        self._short = short
        self._key = (config.account_id, config.alert_type)
        self._configs = {self._key: config}
        self._policy = NotificationPolicy.of(config)
        self._by_own = config.enabled and not config.conditions
        self._settings = settings
        self._type = settings.types[config.alert_type]
        steps = self._type.escalation
        self._steps = [(step.severity.rank, step.duration) for step in steps if step.duration is not None]
        self._graver = max((rank for rank, _ in self._steps), default=0)
        self._closings = list(reversed(past.closings))
        self._elsewhere = list(reversed(past.notified))
        self._notified: deque[datetime] = deque(maxlen=max(1, self._policy.max_per_hour, self._policy.max_per_day))
        self._sessions: dict[str, AlertSession] = {}
        self._lulls: dict[str, Lull | None] = {}
        self._instances: dict[Key, Instance] = {}
        self._of_alert: defaultdict[str, set[Key]] = defaultdict(set)
        self._firing_of: defaultdict[str, set[Key]] = defaultdict(set)  # by condition
        self._fired: dict[str, datetime] = {}
        self._flapping: dict[str, Flapping] = {}
        self._reported: dict[str, tuple[datetime, datetime]] = {}  # by fingerprint: the start as stored, and as decided
        self._numbers = count(1)

    def deliver(self, at: datetime, rows: Sequence[StoredTrigger]) -> list[Decided]:
        while self._closings and self._closings[-1][0] < at:
            self._close(*self._closings.pop())
        while self._elsewhere and self._elsewhere[-1] < at:
            self._note(self._elsewhere.pop())
        begun = [row if row.own is None else self._begun(row, at) for row in rows]
        if not self._short:
            return self._fully(begun, at)
        decided: list[Decided | None] = [None] * len(rows)
        left: list[int] = []
        for condition, places in _by_condition(begun).items():
            self._pass_time(condition, at)
            found = self._shortly([begun[place] for place in places], at)
            if found is None:
                left += places
            else:
                for place, one in zip(places, found, strict=True):
                    decided[place] = one
        if left:
            left.sort()
            for place, one in zip(left, self._fully([begun[place] for place in left], at), strict=True):
                decided[place] = one
        return [one for one in decided if one is not None]

    def judge(self, row: StoredTrigger) -> Verdict:
        return judge(self._config, _own(row), self._trigger(row))

    def _passes(self, row: StoredTrigger) -> bool:
        """As `judge` says it."""
        if self._by_own and row.own is not None:
            return row.own.passed
        return met_by(self._config, row.metrics, row.labels) is not False

    def _begun(self, row: StoredTrigger, at: datetime) -> StoredTrigger:
        """A report goes on with a firing or begins one: that hangs on what became of the one before."""
        fingerprint, stored = row.key
        known = self._reported.get(fingerprint)
        start = stored
        if known is not None:
            last = self._instances.get((fingerprint, known[1]))
            detected_at = stored if stored != known[0] else None  # it began another firing when it came
            start = start_of(last, self._type, detected_at, at, passed=self._passes(row))
        self._reported[fingerprint] = (stored, start)
        return row if start == stored else row._replace(key=(fingerprint, start))

    def _shortly(self, rows: Sequence[StoredTrigger], at: datetime) -> list[Decided] | None:
        """What is delivered of one condition, if it only moves what is known; None where not, and nothing is changed."""
        if len(rows) > 1 and len({row.key for row in rows}) < len(rows):
            return None
        found: list[tuple[Decided, Instance | None]] = []
        counted = 0
        for row in rows:
            decided = self._heard(row, at, counted) if row.firing else self._ended(row, at)
            if decided is None:
                return None
            counted += decided[0].outcome in _GOES_ON
            found.append(decided)
        keys = self._firing_of[rows[0].condition]
        for row, (_, instance) in zip(rows, found, strict=True):
            if instance is not None:
                self._keep(row.key, instance)
            (keys.add if row.firing else keys.discard)(row.key)
        if counted:
            self._count(rows[0].condition, counted, at)
        return [decided for decided, _ in found]

    def _heard(self, row: StoredTrigger, at: datetime, counted: int) -> tuple[Decided, Instance | None] | None:
        """As `_Ledger.enter` has it, of what begins nothing and tells nobody."""
        key = row.key
        instance = self._instances.get(key) or self._closed(key)
        delivery, why = classify(instance, self._type, at)
        alert_id = None if instance is None else instance.alert_id
        if delivery is Delivery.STALE:
            return (Decided(Outcome.STALE, alert_id, "", why), None) if row.own is None else None
        if not self._passes(row):
            return Decided(Outcome.SUPPRESSED, alert_id), heard_again(instance, key, alert_id, at, passed=False)
        if delivery is Delivery.DUPLICATE:
            return Decided(Outcome.DUPLICATE, alert_id, "", why), heard_again(instance, key, alert_id, at)
        lull = self._lulls.get(row.condition)
        if lull is None or row.severity.rank > lull.rank or not lull.holds(at, self._type, counted):
            return None
        if self._restarts(row.condition, instance, at):
            return None
        alert_id = lull.alert_id
        return Decided(lull.outcome, alert_id, lull.notify), heard_again(instance, key, alert_id, at, counted=True)

    def _restarts(self, condition: str, instance: Instance | None, at: datetime) -> bool:
        """Whether nothing of the condition was firing any more."""
        if instance is not None and instance.attacking and instance.alert_id is not None:
            return False
        return self._fired_lately(condition, at) and not any(self._attacking_of(condition))

    def _ended(self, row: StoredTrigger, at: datetime) -> tuple[Decided, Instance | None] | None:
        instance = self._instances.get(row.key)
        if instance is None:
            return None
        if instance.status is _RESOLVED:
            return Decided(Outcome.RESOLVED, instance.alert_id, "", "already recorded"), None
        ended = replace(instance, status=_RESOLVED, resolved_at=instance.last_heard_at if row.swept else at)
        return Decided(Outcome.RESOLVED, instance.alert_id), ended

    def _count(self, condition: str, number: int, at: datetime) -> None:
        lull = self._lulls[condition]
        assert lull is not None
        lull.more += number
        lull.last = self._fired[condition] = at

    def _fully(self, rows: Sequence[StoredTrigger], at: datetime) -> list[Decided]:
        conditions = {row.condition for row in rows}
        for condition in conditions:
            self._pass_time(condition, at)
            self._settle_up(condition)
        received = [Received(self._trigger(row), row.condition, _own(row)) for row in rows]
        changes = decide(received, self._known(rows, conditions, at), self._settings, at, self._new_id)
        self._take(changes, {row.condition for row in rows if told_of(row.notify)}, at)
        for row in rows:
            keys = self._firing_of[row.condition]
            (keys.add if row.firing else keys.discard)(row.key)
        for row in rows:
            if row.swept:
                self._date_back(row)
        return [_decided(entry) for entry in changes.entries]

    def _settle_up(self, condition: str) -> None:
        """Count what came in a lull."""
        lull = self._lulls.get(condition)
        if lull is None or not lull.more:
            return
        session = self._sessions[condition]
        active = session.session_status is SessionStatus.ACTIVE
        self._sessions[condition] = replace(
            session,
            occurrence_count=session.occurrence_count + lull.more,
            session_last_active=lull.last if active else session.session_last_active,
            last_triggered_at=max(lull.last, session.last_triggered_at),
            version=session.version + lull.more,
        )
        lull.room -= lull.more
        lull.more = 0

    def _trigger(self, row: StoredTrigger) -> Trigger:
        return Trigger(
            row.key[0],
            _FIRING if row.firing else _RESOLVED,
            row.key[1],
            None,
            row.alert_name,
            self._key[1],
            row.severity,
            self._key[0],
            "",
            row.metrics,
            {},
            "",
            row.labels,
            {},
            "",
        )

    def _known(self, rows: Sequence[StoredTrigger], conditions: Iterable[str], at: datetime) -> Known:
        """As the store reads it for a delivery."""
        found = {name: self._sessions[name] for name in conditions if name in self._sessions}
        instances = {row.key: self._instances.get(row.key) or self._closed(row.key) for row in rows}
        return Known(
            sessions=found,
            instances={key: instance for key, instance in instances.items() if instance is not None},
            last_passed={item.alert_id: last for item in found.values() if (last := self._last_passed(item, at))},
            configs=self._configs,
            notified={self._key: self._notified},
            attacking={name: set(self._attacking_of(name)) for name in conditions if self._fired_lately(name, at)},
            flapping={name: self._flapping[name] for name in conditions if name in self._flapping},
        )

    def _fired_lately(self, condition: str, at: datetime) -> bool:
        fired = self._fired.get(condition)
        return fired is not None and at - fired < self._type.flapping_window

    def _attacking_of(self, condition: str) -> Iterator[Key]:
        for key in self._firing_of[condition]:
            item = self._instances.get(key)
            if item is not None and item.alert_id is not None and item.attacking:
                yield key

    def _closed(self, key: Key) -> Instance | None:
        """One that a person closed before."""
        if key not in self._past.closed:
            return None
        return Instance(*key, _FIRING, None, key[1], None, closed_by_person=True)

    def _last_passed(self, session: AlertSession, at: datetime) -> datetime | None:
        if at - session.session_last_active < self._type.session_timeout:
            return None  # it does not matter then
        return max(
            (item.last_passed_at for item in self._firing(session) if item.last_passed_at is not None), default=None
        )

    def _firing(self, session: AlertSession) -> Iterator[Instance]:
        for key in self._of_alert[session.alert_id]:
            if self._instances[key].status is _FIRING:
                yield self._instances[key]

    def _take(self, changes: Changes, logged: set[str], at: datetime) -> None:
        self._flapping.update((condition, state) for condition, (state, _) in changes.flapping.items())
        for session in changes.sessions.values():
            self._sessions[session.condition_fingerprint] = session
            self._fired[session.condition_fingerprint] = session.last_triggered_at
        for key, (instance, _) in changes.instances.items():
            self._keep(key, instance)
        told = {announcement.session.condition_fingerprint for announcement in changes.announcements}
        for condition in told:
            self._tell(condition, at, withdrawn=condition in logged and (condition, at) not in self._past.sent)
        last = {entry.alert_id: entry.notify for entry in changes.entries if entry.notify}
        for session in changes.sessions.values():
            self._calm_down(session.condition_fingerprint, last.get(session.alert_id, ""), at)

    def _keep(self, key: Key, instance: Instance) -> None:
        before, alert_id = self._instances.get(key) or self._closed(key), instance.alert_id
        if before is None or before.alert_id != alert_id:
            if before is not None and before.alert_id is not None:
                self._of_alert[before.alert_id].discard(key)
            if alert_id is not None:
                self._of_alert[alert_id].add(key)
        elif before.closed_by_person and not instance.closed_by_person:
            instance = replace(instance, closed_by_person=True)  # it is its alert that was closed
        self._instances[key] = instance

    def _calm_down(self, condition: str, notify: str, at: datetime) -> None:
        """What the next occurrences get, if that is plain."""
        session, state = self._sessions[condition], self._flapping.get(condition, STEADY)
        self._lulls[condition] = lull_after(notify, session, self._policy, self._notified, state, self._type, at)

    def _tell(self, condition: str, at: datetime, *, withdrawn: bool = False) -> None:
        """Counted once a delivery and alert, as the store does; what a person's closing took back is not."""
        if not withdrawn:
            self._note(at)
        sent = self._past.sent.get((condition, at))
        if sent is not None:
            self._sessions[condition] = replace(self._sessions[condition], last_notified_at=sent)

    def _note(self, at: datetime) -> None:
        """People are told; the times stay in order, and no more are kept than a limit asks for."""
        if self._notified and at < self._notified[-1]:
            self._notified = deque(sorted((*self._notified, at)), self._notified.maxlen)
        else:
            self._notified.append(at)

    def _date_back(self, row: StoredTrigger) -> None:
        ended = self._instances[row.key]
        if ended.resolved_at == row.at:
            self._instances[row.key] = replace(ended, resolved_at=ended.last_heard_at)

    def _pass_time(self, condition: str, now: datetime) -> None:
        """What the sweep made of the session since its last trigger; between two of them nothing changes but time."""
        lull = self._lulls.get(condition)
        if lull is not None and lull.outcome is Outcome.SESSION_UPDATED and lull.holds(now, self._type, 0):
            return
        flapping = self._flapping.get(condition)
        if flapping is not None and flapping.since is not None and not holds_back(flapping, self._type, now):
            self._flapping[condition] = calmed(flapping, self._type, now)
        if condition not in self._sessions:
            return
        self._settle_up(condition)
        if self._steps:
            self._rise(self._sessions[condition], now)
        if now - self._sessions[condition].session_last_active >= self._type.session_timeout:
            self._settle(self._sessions[condition], now)

    def _settle(self, session: AlertSession, now: datetime) -> None:
        keys, condition = self._of_alert[session.alert_id], session.condition_fingerprint
        for key in keys:
            self._end_silent(key, now)
        settled = sessions.settle(session, [self._instances[key] for key in keys], now, self._type)
        if settled.kind is sessions.SettlementKind.RESOLVE:
            del self._sessions[condition]
            self._lulls.pop(condition, None)
            self._of_alert.pop(session.alert_id, None)
            self._firing_of.pop(condition, None)

    def _end_silent(self, key: Key, now: datetime) -> None:
        """Of reports nothing but silence tells that a firing is over."""
        instance = self._instances[key]
        silent = now - instance.last_heard_at > self._type.session_timeout
        if key[0] in self._reported and instance.status is _FIRING and silent:
            self._instances[key] = replace(instance, status=_RESOLVED, resolved_at=instance.last_heard_at)

    def _rise(self, session: AlertSession, now: datetime) -> None:
        if session.session_status is not SessionStatus.ACTIVE or session.severity.rank >= self._graver:
            return
        for rank, duration in self._steps:
            reached = session.session_started_at + duration
            if reached > now or rank <= session.severity.rank:
                continue
            heard = [item.last_heard_at for item in self._firing(session) if item.attacking]
            if not any(max(reached, at) - at <= self._type.session_timeout for at in heard):
                continue
            told_at = max(reached, *heard)
            rise = escalate(session, self._type.escalation, told_at)
            if rise is not None:
                session = self._sessions[session.condition_fingerprint] = sessions.raised(session, rise)
                self._lulls[session.condition_fingerprint] = None
                self._tell(session.condition_fingerprint, told_at)

    def _close(self, at: datetime, condition: str) -> None:
        """A person closed what was going on then; what fired for it stays closed."""
        self._pass_time(condition, at)
        self._lulls.pop(condition, None)
        session = self._sessions.pop(condition, None)
        if session is None or session.status is not AlertStatus.ACTIVE:
            return
        for key in self._of_alert[session.alert_id]:
            self._instances[key] = replace(self._instances[key], closed_by_person=True)

    def _new_id(self) -> str:
        return str(next(self._numbers))


def _by_condition(rows: Sequence[StoredTrigger]) -> Mapping[str, Sequence[int]]:
    """The places of each condition's rows in a delivery."""
    if len(rows) == 1:
        return {rows[0].condition: (0,)}
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.condition, []).append(place)
    return places


def _decided(entry: Entry) -> Decided:
    """With the reason where it is not the verdict's."""
    reason = "" if entry.outcome in _BY_VERDICT else entry.reason
    return Decided(entry.outcome, entry.alert_id, entry.notify, reason)


_GOES_ON = (Outcome.SESSION_UPDATED, Outcome.COMMENT_ADDED)
_BY_VERDICT = (Outcome.SUPPRESSED, Outcome.CREATED, *_GOES_ON)


def _own(row: StoredTrigger) -> MerchantConfig | None:
    """TEMPORARY until own is a verdict."""
    from webhook.domain.evaluation import Condition
    if row.own is None:
        return None
    return MerchantConfig("", "", conditions=tuple(c for c, _, _ in row.own.judged))
