"""What a proposed configuration would have made of the triggers that were received: a fold of the ledger over them.

Pure. Deliveries are decided by `ledger.decide`, as they were when they came; between them sessions are settled and
rise by duration as the sweep does it, and people's closings happen when they happened. Compared are what the log
says and what the fold says of each trigger, so a message that time alone caused (an end, a rise by duration) is not.

Most deliveries hold nothing but what was heard before: duplicates, what is suppressed, one more occurrence of an
attack of which people were told. They are decided by the ledger's own functions without the records that it makes
for the store; what is not as plain as that goes through `decide`. A test holds both ways together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count, groupby
from operator import attrgetter

from webhook.domain.alert import Instance, Outcome, Trigger, TriggerStatus
from webhook.domain.comparison import Comparison, Decided, Replayed, StoredTrigger, told_of
from webhook.domain.evaluation import MerchantConfig, Verdict, met_by
from webhook.domain.held import Held
from webhook.domain.ledger import Changes, Entry, IngestSettings, Known, Received, decide, judge
from webhook.domain.occurrence import Delivery, classify, heard_again
from webhook.domain.past import Past
from webhook.domain.report import start_of

_PAUSE = 256  # deliveries
_FIRING, _RESOLVED = TriggerStatus.FIRING, TriggerStatus.RESOLVED

_Step = tuple[Decided, Instance | None]
"""What is decided of a trigger, and what its instance becomes; None where that stays."""


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
            comparison.add_all(delivery, decided, past.compared)
    return comparison.result()


class _Fold(Held):
    """Deliveries, one after the other."""

    def __init__(self, past: Past, config: MerchantConfig, settings: IngestSettings, *, short: bool) -> None:
        super().__init__(past, config, settings.types[config.alert_type])
        self._config = config
        self._short = short
        self._key = (config.account_id, config.alert_type)
        self._configs = {self._key: config}
        self._by_own = config.enabled and not config.conditions
        self._settings = settings
        self._numbers = count(1)

    def deliver(self, at: datetime, rows: Sequence[StoredTrigger]) -> list[Decided]:
        self._wait_until(at)
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
        return judge(self._config, row.own, self._trigger(row))

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
        """Of one condition, what only moves what is known; None where it holds more, and then nothing is changed."""
        if len(rows) > 1 and len({row.key for row in rows}) < len(rows):
            return None
        found: list[_Step] = []
        counted = 0
        for row in rows:
            decided = (
                self._heard(row, at, counted, zip(rows, found, strict=False)) if row.firing else self._ended(row, at)
            )
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

    def _heard(
        self, row: StoredTrigger, at: datetime, counted: int, before: Iterable[tuple[StoredTrigger, _Step]]
    ) -> _Step | None:
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
        if self._restarts(row.condition, instance, at, before):
            return None
        alert_id = lull.alert_id
        return Decided(lull.outcome, alert_id, lull.notify), heard_again(instance, key, alert_id, at, counted=True)

    def _restarts(
        self, condition: str, instance: Instance | None, at: datetime, before: Iterable[tuple[StoredTrigger, _Step]]
    ) -> bool:
        """Whether nothing of the condition was firing any more, after what came before in the delivery."""
        if instance is not None and instance.attacking and instance.alert_id is not None:
            return False
        if not self._fired_lately(condition, at):
            return False
        heard = {row.key: heard for row, (_, heard) in before if heard is not None}
        return not (
            any(item.attacking for item in heard.values())
            or any(key not in heard for key in self._attacking_of(condition))
        )

    def _ended(self, row: StoredTrigger, at: datetime) -> _Step | None:
        instance = self._instances.get(row.key)
        if instance is None:
            return None
        if instance.status is _RESOLVED:
            return Decided(Outcome.RESOLVED, instance.alert_id, "", "already recorded"), None
        ended = replace(instance, status=_RESOLVED, resolved_at=instance.last_heard_at if row.swept else at)
        return Decided(Outcome.RESOLVED, instance.alert_id), ended

    def _fully(self, rows: Sequence[StoredTrigger], at: datetime) -> list[Decided]:
        conditions = {row.condition for row in rows}
        for condition in conditions:
            self._pass_time(condition, at)
            self._settle_up(condition)
        received = [Received(self._trigger(row), row.condition, row.own) for row in rows]
        changes = decide(received, self._known(rows, conditions, at), self._settings, at, self._new_id)
        self._take(changes, {row.condition for row in rows if told_of(row.notify)}, at)
        for row in rows:
            keys = self._firing_of[row.condition]
            (keys.add if row.firing else keys.discard)(row.key)
        for row in rows:
            if row.swept:
                self._date_back(row)
        return [_decided(entry) for entry in changes.entries]

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
