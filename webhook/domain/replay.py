"""What a proposed configuration would have made of the triggers that were received: a fold of the ledger over them.

Pure. Deliveries are decided by `ledger.decide`, as they were when they came; between them sessions are settled and
rise by duration as the sweep does it, and people's closings happen when they happened. Compared are what the log
says and what the fold says of each trigger, so a message that time alone caused (an end, a rise by duration) is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count, groupby
from operator import attrgetter

from webhook.domain import session as sessions
from webhook.domain.alert import AlertSession, AlertStatus, Instance, SessionStatus, Trigger, TriggerStatus
from webhook.domain.comparison import Comparison, Replayed, StoredTrigger, told_of
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.flapping import Flapping, calmed, holds_back
from webhook.domain.ledger import Changes, Entry, IngestSettings, Known, Received, decide
from webhook.domain.severity import escalate
from webhook.domain.throttle import LONGEST_WINDOW


@dataclass(frozen=True, slots=True)
class Past:
    """What happened beside the triggers.

    `closings`: when people closed the alert of a condition, by time. `sent`: when what was decided at a time about a
    condition went out, None while it waits. `notified`: when people were told before the first trigger. `closed`:
    instances whose alert a person had closed by then. `since`: of earlier triggers the outcome is only what later
    ones build on; of those of a condition in `starts`, only from that time.
    """

    since: datetime
    closings: Sequence[tuple[datetime, str]] = ()
    sent: Mapping[tuple[str, datetime], datetime | None] = field(default_factory=dict)
    notified: Sequence[datetime] = ()
    closed: frozenset[tuple[str, datetime]] = frozenset()
    starts: Mapping[str, datetime] = field(default_factory=dict)


def replay(triggers: Iterable[StoredTrigger], past: Past, config: MerchantConfig, settings: IngestSettings) -> Replayed:
    """Compare what was logged of one account's triggers of one type with what `config` would have made of them."""
    fold, comparison = _Fold(past, config, settings), Comparison()
    for at, group in groupby(triggers, key=attrgetter("at")):
        delivery = [row for row in group if at >= past.starts.get(row.condition, past.since)]
        if not delivery:
            continue
        entries = fold.deliver(at, delivery)
        if at >= past.since:
            for row, entry in zip(delivery, entries, strict=True):
                comparison.add(row, entry)
    return comparison.result()


class _Fold:
    """The state that the store would hold."""

    def __init__(self, past: Past, config: MerchantConfig, settings: IngestSettings) -> None:
        self._past = past
        self._key = (config.account_id, config.alert_type)
        self._configs = {self._key: config}
        self._settings = settings
        self._type = settings.types[config.alert_type]
        steps = self._type.escalation
        self._steps = [(step.severity.rank, step.duration) for step in steps if step.duration is not None]
        self._graver = max((rank for rank, _ in self._steps), default=0)
        self._closings = list(reversed(past.closings))
        self._notified = list(past.notified)
        self._sessions: dict[str, AlertSession] = {}
        self._instances: dict[tuple[str, datetime], Instance] = {}
        self._of_alert: defaultdict[str | None, set[tuple[str, datetime]]] = defaultdict(set)
        self._firing_of: defaultdict[str, set[tuple[str, datetime]]] = defaultdict(set)  # by condition
        self._fired: dict[str, datetime] = {}
        self._flapping: dict[str, Flapping] = {}
        self._numbers = count(1)

    def deliver(self, at: datetime, rows: Sequence[StoredTrigger]) -> list[Entry]:
        while self._closings and self._closings[-1][0] < at:
            self._close(*self._closings.pop())
        conditions = {row.condition for row in rows}
        for condition in conditions:
            self._pass_time(condition, at)
        while self._notified and at - self._notified[0] >= LONGEST_WINDOW:
            del self._notified[0]
        received = [Received(self._trigger(row), row.condition) for row in rows]
        changes = decide(received, self._known(rows, conditions, at), self._settings, at, self._new_id)
        self._take(changes, {row.condition for row in rows if told_of(row.notify)}, at)
        for row in rows:
            keys = self._firing_of[row.condition]
            (keys.add if row.firing else keys.discard)((row.fingerprint, row.starts_at))
        for row in rows:
            if row.swept:
                self._date_back(row)
        return changes.entries

    def _trigger(self, row: StoredTrigger) -> Trigger:
        return Trigger(
            row.fingerprint,
            TriggerStatus.FIRING if row.firing else TriggerStatus.RESOLVED,
            row.starts_at,
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
        keys = [(row.fingerprint, row.starts_at) for row in rows]
        return Known(
            sessions=found,
            instances={key: self._instance(key) for key in keys if key in self._instances or key in self._past.closed},
            last_passed={item.alert_id: last for item in found.values() if (last := self._last_passed(item, at))},
            configs=self._configs,
            notified={self._key: self._notified},
            attacking={name: self._attacking(name) for name in conditions if self._fired_lately(name, at)},
            flapping={name: self._flapping[name] for name in conditions if name in self._flapping},
        )

    def _fired_lately(self, condition: str, at: datetime) -> bool:
        fired = self._fired.get(condition)
        return fired is not None and at - fired < self._type.flapping_window

    def _attacking(self, condition: str) -> set[tuple[str, datetime]]:
        found = ((key, self._instances.get(key)) for key in self._firing_of[condition])
        return {key for key, item in found if item is not None and item.alert_id is not None and item.attacking}

    def _instance(self, key: tuple[str, datetime]) -> Instance:
        known = self._instances.get(key)
        return known or Instance(*key, TriggerStatus.FIRING, None, key[1], None, closed_by_person=True)

    def _last_passed(self, session: AlertSession, at: datetime) -> datetime | None:
        if at - session.session_last_active < self._type.session_timeout:
            return None  # it does not matter then
        return max(
            (item.last_passed_at for item in self._firing(session) if item.last_passed_at is not None), default=None
        )

    def _firing(self, session: AlertSession) -> Iterator[Instance]:
        for key in self._of_alert[session.alert_id]:
            if self._instances[key].status is TriggerStatus.FIRING:
                yield self._instances[key]

    def _take(self, changes: Changes, logged: set[str], at: datetime) -> None:
        for session in changes.sessions.values():
            self._sessions[session.condition_fingerprint] = session
            self._fired[session.condition_fingerprint] = session.last_triggered_at
        self._flapping.update((condition, state) for condition, (state, _) in changes.flapping.items())
        for key, (instance, _) in changes.instances.items():
            before = self._instances.get(key)
            if before is not None and before.alert_id != instance.alert_id:
                self._of_alert[before.alert_id].discard(key)
            self._instances[key] = instance
            self._of_alert[instance.alert_id].add(key)
        told = {announcement.session.condition_fingerprint for announcement in changes.announcements}
        for condition in told:
            self._tell(condition, at, withdrawn=condition in logged and (condition, at) not in self._past.sent)

    def _tell(self, condition: str, at: datetime, *, withdrawn: bool = False) -> None:
        """Counted once a delivery and alert, as the store does; what a person's closing took back is not."""
        if not withdrawn:
            self._notified.append(at)
        sent = self._past.sent.get((condition, at))
        if sent is not None:
            self._sessions[condition] = replace(self._sessions[condition], last_notified_at=sent)

    def _date_back(self, row: StoredTrigger) -> None:
        key = (row.fingerprint, row.starts_at)
        ended = self._instances[key]
        if ended.resolved_at == row.at:
            self._instances[key] = replace(ended, resolved_at=ended.last_heard_at)

    def _pass_time(self, condition: str, now: datetime) -> None:
        """What the sweep made of the session since its last trigger; between two of them nothing changes but time."""
        flapping = self._flapping.get(condition)
        if flapping is not None and flapping.since is not None and not holds_back(flapping, self._type, now):
            self._flapping[condition] = calmed(flapping, self._type, now)
        session = self._sessions.get(condition)
        if session is None:
            return
        if self._steps:
            self._rise(session, now)
        if now - session.session_last_active < self._type.session_timeout:
            return
        instances = [self._instances[key] for key in self._of_alert[session.alert_id]]
        settled = sessions.settle(self._sessions[condition], instances, now, self._type)
        if settled.kind is sessions.SettlementKind.RESOLVE:
            del self._sessions[condition]
            self._of_alert.pop(session.alert_id, None)
            self._firing_of.pop(condition, None)

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
                session = sessions.told(sessions.raised(session, rise), told_at)
                self._sessions[session.condition_fingerprint] = session
                self._tell(session.condition_fingerprint, told_at)

    def _close(self, at: datetime, condition: str) -> None:
        """A person closed what was going on then; what fired for it stays closed."""
        self._pass_time(condition, at)
        session = self._sessions.pop(condition, None)
        if session is None or session.status is not AlertStatus.ACTIVE:
            return
        for key in self._of_alert[session.alert_id]:
            self._instances[key] = replace(self._instances[key], closed_by_person=True)

    def _new_id(self) -> str:
        return str(next(self._numbers))
