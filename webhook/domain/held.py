"""What the store would hold under a proposed configuration, and what time and people do to it. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from webhook.domain import session as sessions
from webhook.domain.alert import (
    AlertSession,
    AlertStatus,
    AlertTypeSettings,
    Instance,
    Outcome,
    SessionStatus,
    TriggerStatus,
)
from webhook.domain.comparison import StoredTrigger
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.flapping import STEADY, Flapping, calmed, holds_back
from webhook.domain.lull import Lull, lull_after
from webhook.domain.past import Past
from webhook.domain.severity import escalate
from webhook.domain.throttle import NotificationPolicy

Key = tuple[str, datetime]

_FIRING, _RESOLVED = TriggerStatus.FIRING, TriggerStatus.RESOLVED


class Held:
    """The state between deliveries. `_lulls`: of sessions whose next occurrences change nothing but their counts."""

    def __init__(self, past: Past, config: MerchantConfig, settings: AlertTypeSettings) -> None:
        self._past = past
        self._type = settings
        self._policy = NotificationPolicy.of(config)
        self._steps = [(step.severity.rank, step.duration) for step in settings.escalation if step.duration is not None]
        self._graver = max((rank for rank, _ in self._steps), default=0)
        self._closings = list(reversed(past.closings))
        self._resent = list(reversed(past.resent))
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

    def _wait_until(self, at: datetime) -> None:
        """What happened elsewhere before then."""
        while self._closings and self._closings[-1][0] < at:
            self._close(*self._closings.pop())
        while self._resent and self._resent[-1][0] < at:
            self._tell_again(*self._resent.pop())
        while self._elsewhere and self._elsewhere[-1] < at:
            self._note(self._elsewhere.pop())

    def _tell_again(self, at: datetime, condition: str) -> None:
        """People know of it as of then, though it takes no place within the limits."""
        session = self._sessions.get(condition)
        if session is not None and session.first_triggered_at <= at:
            self._settle_up(condition)
            self._sessions[condition] = replace(self._sessions[condition], last_notified_at=at)
            self._lulls[condition] = None

    def _count(self, condition: str, number: int, at: datetime) -> None:
        lull = self._lulls[condition]
        assert lull is not None
        lull.more += number
        lull.last = self._fired[condition] = at

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
        self._lulls[condition] = lull_after(
            session, notify, at, policy=self._policy, recent=self._notified, flapping=state, settings=self._type
        )

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
                session = sessions.told(sessions.raised(session, rise), told_at)
                self._sessions[session.condition_fingerprint] = session
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
