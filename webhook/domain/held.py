"""What the store would hold under a proposed configuration, and what time and people do to it. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from webhook.domain import session as sessions
from webhook.domain.alert import (
    AlertSession,
    AlertStatus,
    AlertTypeSettings,
    Instance,
    SessionStatus,
    TriggerStatus,
)
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.flapping import STEADY, Flapping, calmed, holds_back
from webhook.domain.lull import FOREVER, NO_CHANNEL, Lull, lull_after
from webhook.domain.past import Past
from webhook.domain.severity import Severity, escalate, rises_by_time
from webhook.domain.throttle import NotificationPolicy

Key = tuple[str, datetime]

_FIRING, _RESOLVED = TriggerStatus.FIRING, TriggerStatus.RESOLVED
_LONG_AGO = datetime.min.replace(tzinfo=FOREVER.tzinfo)


@dataclass(slots=True)
class Over:
    """Alerts by what time alone made of them: `ended` with people knowing of them, and how often they rose."""

    ended: set[str] = field(default_factory=set)
    rises: dict[str, int] = field(default_factory=dict)

    def add(self, session: AlertSession, *, ended: bool = False) -> None:
        self.rises[session.alert_id] = rises_by_time(session.escalations)
        if ended and session.last_notified_at is not None:
            self.ended.add(session.alert_id)


@dataclass(slots=True, eq=False)
class Group:
    """One condition. Before `wake` time makes nothing of it; `fired`: when it last did.

    `woken`: when time was last looked at; `told`: when a delivery last told people. `busy` is the time of a delivery
    that holds more of it than what is known. It is replayed from `starts` and compared from `since` on.
    """

    condition: str
    starts: datetime
    since: datetime
    session: AlertSession | None = None
    lull: Lull | None = None
    flapping: Flapping = STEADY
    fired: datetime | None = None
    firing: set[Seen] = field(default_factory=set)
    wake: datetime = FOREVER
    changes: datetime = FOREVER  # when it may rise or calm down, apart from the session's end
    woken: datetime | None = None
    told: datetime | None = None
    busy: datetime | None = None


@dataclass(slots=True, eq=False)
class Seen:
    """One instance: an `Instance` to be changed. `again`: when it counts next.

    `plain`: it fires, nobody closed it, and its condition knows. `stale`: whoever hears of it does nothing.
    """

    key: Key
    group: Group
    known: bool = False
    status: TriggerStatus = _FIRING
    alert_id: str | None = None
    heard: datetime = _LONG_AGO
    counted: datetime | None = None
    resolved: datetime | None = None
    closed: bool = False
    passed: datetime | None = None
    again: datetime = _LONG_AGO
    plain: bool = False
    stale: bool = False

    @property
    def attacking(self) -> bool:
        return self.status is _FIRING and self.passed == self.heard

    def instance(self) -> Instance:
        return Instance(
            *self.key, self.status, self.alert_id, self.heard, self.counted, self.resolved, self.closed, self.passed
        )


class Held(ABC):
    """The state between deliveries."""

    def __init__(
        self,
        past: Past,
        config: MerchantConfig,
        settings: AlertTypeSettings,
        channels: Mapping[Severity, frozenset[str]],
    ) -> None:
        self._past = past
        self._type = settings
        self._policy = NotificationPolicy.of(config)
        self._steps = [(step.severity.rank, step.duration) for step in settings.escalation if step.duration is not None]
        self._graver = max((rank for rank, _ in self._steps), default=0)
        self._channels = channels  # on which people are told of what is so grave
        self._mute = not any(channels.values())
        self.over = Over()
        self._closings = list(reversed(past.closings))
        self._resent = list(reversed(past.resent))
        self._elsewhere = list(reversed(past.notified))
        self._notified: deque[datetime] = deque(maxlen=max(1, self._policy.max_per_hour, self._policy.max_per_day))
        self._groups: dict[str, Group] = {}
        self._seen: dict[Key, Seen] = {}
        self._of_alert: defaultdict[str, set[Seen]] = defaultdict(set)

    def group(self, condition: str) -> Group:
        found = self._groups.get(condition)
        if found is None:
            starts, since = self._past.start_of(condition), self._past.compared.get(condition, self._past.since)
            found = self._groups[condition] = Group(condition, starts, since)
        return found

    def seen(self, key: Key, condition: str) -> Seen:
        found = self._seen.get(key)
        if found is None:
            found = self._seen[key] = Seen(key, self.group(condition))
            if key in self._past.closed:
                found.known = found.closed = True
                found.heard = key[1]
        return found

    def wait_until(self, at: datetime) -> datetime:
        """What happened elsewhere before then; return when the next thing does."""
        while self._closings and self._closings[-1][0] < at:
            self._close(*self._closings.pop())
        while self._resent and self._resent[-1][0] < at:
            self._tell_again(*self._resent.pop())
        while self._elsewhere and self._elsewhere[-1] < at:
            self._note(self._elsewhere.pop())
        following = [events[-1][0] for events in (self._closings, self._resent) if events]
        return min((*following, *self._elsewhere[-1:]), default=FOREVER)

    def pass_time(self, group: Group, now: datetime) -> None:
        """What the sweep made of the session since its last trigger; between two of them nothing changes but time."""
        group.woken = now
        if group.flapping.since is not None and not holds_back(group.flapping, self._type, now):
            group.flapping = calmed(group.flapping, self._type, now)
        if group.session is None:
            group.wake = self._calms_at(group)
            return
        self.settle_up(group)
        self._rise(group, now)
        if now - group.session.session_last_active >= self._type.session_timeout:
            group.busy = now  # whether it goes on hangs on what its instances were before this delivery
            self._settle(group, now)
        self.set_wake(group, now)

    def set_wake(self, group: Group, now: datetime) -> None:
        """When time next makes something of it."""
        session, group.changes = group.session, self._calms_at(group)
        if session is None:
            group.wake = group.changes
            return
        if session.session_status is SessionStatus.ACTIVE:
            rises = (session.session_started_at + lasts for rank, lasts in self._steps if rank > session.severity.rank)
            group.changes = min((*rises, group.changes))
        group.wake = min(max(session.session_last_active + self._type.session_timeout, now), group.changes)

    def _calms_at(self, group: Group) -> datetime:
        """At a time at which restarts leave the window."""
        if group.flapping.since is None:
            return FOREVER
        return min((restart + self._type.flapping_window for restart in group.flapping.restarts), default=_LONG_AGO)

    def settle_up(self, group: Group) -> None:
        """Count what came in a lull."""
        lull, session = group.lull, group.session
        if lull is None or session is None or not lull.more:
            return
        active = session.session_status is SessionStatus.ACTIVE
        group.session = session._replace(
            occurrence_count=session.occurrence_count + lull.more,
            session_last_active=lull.last if active else session.session_last_active,
            last_triggered_at=max(lull.last, session.last_triggered_at),
            version=session.version + lull.more,
        )
        lull.room -= lull.more
        lull.more = 0

    def attacking(self, group: Group) -> Iterator[Seen]:
        return (seen for seen in group.firing if seen.alert_id is not None and seen.attacking)

    def fired_lately(self, group: Group, at: datetime) -> bool:
        return group.fired is not None and at - group.fired < self._type.flapping_window

    def last_passed(self, session: AlertSession, at: datetime) -> datetime | None:
        if at - session.session_last_active < self._type.session_timeout:
            return None  # it does not matter then
        return max((seen.passed for seen in self._firing(session) if seen.passed is not None), default=None)

    def _firing(self, session: AlertSession) -> Iterator[Seen]:
        return (seen for seen in self._of_alert[session.alert_id] if seen.status is _FIRING)

    def keep(self, seen: Seen, instance: Instance) -> None:
        """What was decided of an instance."""
        self.move(seen, instance.alert_id)
        seen.known = True
        seen.status, seen.heard = instance.status, instance.last_heard_at
        seen.counted, seen.passed = instance.last_counted_at, instance.last_passed_at
        seen.resolved = instance.resolved_at
        seen.closed = seen.closed or instance.closed_by_person  # it is its alert that was closed
        if seen.counted is not None:
            seen.again = seen.counted + self._type.occurrence_interval

    def move(self, seen: Seen, alert_id: str | None) -> None:
        if seen.alert_id == alert_id:
            return
        if seen.alert_id is not None:
            self._of_alert[seen.alert_id].discard(seen)
        seen.alert_id, seen.closed = alert_id, False
        if alert_id is not None:
            self._of_alert[alert_id].add(seen)

    def list_seen(self, seen: Seen, *, firing: bool) -> None:
        """Its condition knows whether it was heard firing last."""
        (seen.group.firing.add if firing else seen.group.firing.discard)(seen)
        seen.plain = firing and seen.known and seen.status is _FIRING and not seen.closed
        seen.stale = firing and seen.known and seen.closed

    def calm_down(self, group: Group, notify: str, at: datetime) -> None:
        """What the next occurrences get, if that is plain."""
        assert group.session is not None
        if notify == NO_CHANNEL and not self._mute:
            group.lull = None  # a message about another one may take the last place
            return
        group.lull = lull_after(
            group.session,
            notify,
            at,
            policy=self._policy,
            recent=self._notified,
            flapping=group.flapping,
            settings=self._type,
        )

    def tell(self, group: Group, at: datetime, *, withdrawn: bool = False) -> None:
        """Counted once a delivery and alert, as the store does; what a person's closing took back is not."""
        if not withdrawn and group.told is not at:
            self._note(at)
        group.told = at
        sent = self._past.sent.get((group.condition, at))
        if sent is not None and group.session is not None:
            group.session = group.session._replace(last_notified_at=sent)

    def _note(self, at: datetime) -> None:
        """People are told; the times stay in order, and no more are kept than a limit asks for."""
        for group in self._groups.values() if self._mute else ():  # elsewhere, which ends what rests on free places
            self.settle_up(group)
            group.lull = None
        if self._notified and at < self._notified[-1]:
            self._notified = deque(sorted((*self._notified, at)), self._notified.maxlen)
        else:
            self._notified.append(at)

    def _tell_again(self, at: datetime, condition: str) -> None:
        """People know of it as of then, though it takes no place within the limits."""
        group = self.group(condition)
        if group.session is not None and group.session.first_triggered_at <= at:
            self.settle_up(group)
            group.session, group.lull = group.session._replace(last_notified_at=at), None

    def _settle(self, group: Group, now: datetime) -> None:
        assert group.session is not None
        instances = self._of_alert[group.session.alert_id]
        self._end_silent(instances, now)
        settled = sessions.settle(group.session, [seen.instance() for seen in instances], now, self._type)
        if settled.kind is sessions.SettlementKind.RESOLVE:
            self.over.add(group.session, ended=settled.told)
            self._of_alert.pop(group.session.alert_id, None)
            group.session = group.lull = None
            for seen in group.firing:
                seen.plain = seen.stale = False
            group.firing.clear()

    def _end_silent(self, instances: Iterable[Seen], now: datetime) -> None:
        """Of reports nothing but silence tells that a firing is over."""
        for seen in instances:
            silent = now - seen.heard > self._type.session_timeout
            if silent and seen.status is _FIRING and self.is_reported(seen):
                seen.status, seen.resolved, seen.plain = _RESOLVED, seen.heard, False

    @abstractmethod
    def is_reported(self, seen: Seen) -> bool:
        """Whether it is of reports, of which nobody tells the end."""

    def _rise(self, group: Group, now: datetime) -> None:
        session = group.session
        if session is None or session.session_status is not SessionStatus.ACTIVE:
            return
        for rank, duration in self._steps if session.severity.rank < self._graver else ():
            reached = session.session_started_at + duration
            if reached > now or rank <= session.severity.rank:
                continue
            heard = [seen.heard for seen in self._firing(session) if seen.attacking]
            if not any(max(reached, at) - at <= self._type.session_timeout for at in heard):
                continue
            told_at = max(reached, *heard)
            rise = escalate(session, self._type.escalation, told_at)
            if rise is not None:
                session = group.session = sessions.raised(session, rise)
                group.lull = None
                if self._channels[session.severity]:
                    session = group.session = sessions.told(session, told_at)
                    self.tell(group, told_at)

    def _close(self, at: datetime, condition: str) -> None:
        """A person closed what was going on then; what fired for it stays closed."""
        group = self.group(condition)
        self.pass_time(group, at)
        session, group.session, group.lull = group.session, None, None
        if session is not None:
            self.over.add(session)
        self.set_wake(group, at)
        if session is None or session.status is not AlertStatus.ACTIVE:
            return
        for seen in self._of_alert[session.alert_id]:
            seen.closed = True
            if seen.plain:
                seen.plain, seen.stale = False, True
