"""All alerts of one delivery, decided in order: each gets exactly one outcome, and sees what came before it.

Pure: what the store knew goes in, what it is to write comes out.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from webhook.domain import session as sessions
from webhook.domain.alert import (
    AlertSession,
    AlertTypes,
    AlertTypeSettings,
    CommentType,
    Instance,
    NotifyReason,
    Outcome,
    SessionStatus,
    Trigger,
    TriggerStatus,
    Withheld,
)
from webhook.domain.channel_choice import Channels, channels_for, channels_of
from webhook.domain.evaluation import NOT_JUDGED, MerchantConfig, Verdict, evaluate
from webhook.domain.flapping import STEADY, Flapping, describe_begin, holds_back, restarted
from webhook.domain.limit import operators
from webhook.domain.occurrence import Delivery, classify
from webhook.domain.payload import Rejected
from webhook.domain.throttle import Limit, NotificationPolicy, decide_notification, holding_limit, passes_limits


@dataclass(frozen=True, slots=True)
class Received:
    """One alert of a delivery with its condition fingerprint (empty where it was rejected).

    `own` is what the conditions that came with it say: it holds where its merchant has none.
    """

    item: Trigger | Rejected
    condition: str
    own: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What the store holds about the alerts of one delivery, all of it locked against other writers.

    `sessions`: the latest session of an active alert, by condition fingerprint. `last_passed`: when an instance that
    is still firing last passed evaluation, by alert. `notified`: when people were told, by account and alert type.
    `attacking`: of each condition that fired lately the instances that still do. `places`: how many more messages
    frequency control lets through, by account and alert type, where others were after the same places.
    """

    sessions: Mapping[str, AlertSession] = field(default_factory=dict)
    instances: Mapping[tuple[str, datetime], Instance] = field(default_factory=dict)
    last_passed: Mapping[str, datetime] = field(default_factory=dict)
    configs: Mapping[tuple[str, str], MerchantConfig] = field(default_factory=dict)
    notified: Mapping[tuple[str, str], Sequence[datetime]] = field(default_factory=dict)
    attacking: Mapping[str, AbstractSet[tuple[str, datetime]]] = field(default_factory=dict)
    flapping: Mapping[str, Flapping] = field(default_factory=dict)
    places: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one alert received: one row of the trigger log. `notify` is a reason, or `withheld:<why>`.

    `limit` is the frequency limit that held its message back.
    """

    received: Received
    outcome: Outcome
    reason: str = ""
    alert_id: str | None = None
    verdict: Verdict | None = None
    notify: str = ""
    limit: Limit | None = None

    @property
    def label(self) -> str:
        """The outcome as it is told: `created`, `suppressed:disabled`, ..."""
        with_reason = self.outcome in (Outcome.SUPPRESSED, Outcome.REJECTED)
        return f"{self.outcome}:{self.reason}" if with_reason else str(self.outcome)


@dataclass(frozen=True, slots=True)
class Comment:
    """One line of an alert's history. `metrics` is the snapshot of the trigger that caused it."""

    id: str
    alert_id: str
    type: CommentType
    content: str
    metrics: Mapping[str, float]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Announcement:
    """People are told about one alert, on each of `channels`; `thresholds` are the merchant's, else the rule's."""

    session: AlertSession
    trigger: Trigger
    reason: NotifyReason
    thresholds: Mapping[str, float]
    channels: Channels
    comment_id: str | None = None
    operators: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """A message takes a place within the frequency limits; one that they do not hold for takes it all the same."""

    key: tuple[str, str]
    policy: NotificationPolicy
    limited: bool


@dataclass(slots=True)
class Changes:
    """What to write. `opened` are new alerts by id; `sessions` holds the final state of new and known ones alike.

    `flapping` holds states that changed, by condition fingerprint; `calmed` since when one flapped that was found to
    have calmed down: ends that were held back since are owed. `claims` has one for each announcement.
    """

    entries: list[Entry] = field(default_factory=list)
    expired: list[AlertSession] = field(default_factory=list)
    opened: dict[str, Trigger] = field(default_factory=dict)
    sessions: dict[str, AlertSession] = field(default_factory=dict)
    metrics: dict[str, Mapping[str, float]] = field(default_factory=dict)
    instances: dict[tuple[str, datetime], tuple[Instance, Trigger]] = field(default_factory=dict)
    comments: list[Comment] = field(default_factory=list)
    announcements: list[Announcement] = field(default_factory=list)
    flapping: dict[str, tuple[Flapping, Trigger]] = field(default_factory=dict)
    calmed: dict[str, datetime] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)

    def outcomes(self) -> Counter[Outcome]:
        return Counter(entry.outcome for entry in self.entries)


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How triggers become sessions, and which channels hear of them unless a merchant has chosen others."""

    types: AlertTypes = field(default_factory=AlertTypes)
    channels: Channels = field(default_factory=lambda: {"console": {}})
    operations: Channels | None = None  # of alerts without a merchant; None: as all others


def decide(
    delivery: Iterable[Received], known: Known, settings: IngestSettings, now: datetime, new_id: Callable[[], str]
) -> Changes:
    """Decide every alert of one delivery; as many entries as alerts, in their order."""
    ledger = _Ledger(known, settings, now, new_id)
    for received in delivery:
        ledger.changes.entries.append(ledger.enter(received))
    return ledger.changes


class _Ledger:
    """The state of one fold over a delivery."""

    def __init__(self, known: Known, settings: IngestSettings, now: datetime, new_id: Callable[[], str]) -> None:
        self._known = known
        self._settings = settings
        self._now = now
        self._new_id = new_id
        self._sessions = dict(known.sessions)
        self._instances = dict(known.instances)
        self._notified = {key: sorted(times) for key, times in known.notified.items()}
        self._attacking = {condition: set(keys) for condition, keys in known.attacking.items()}
        self._flapping = dict(known.flapping)
        self._places = dict(known.places)
        self.changes = Changes()

    def enter(self, received: Received) -> Entry:
        trigger = received.item
        if isinstance(trigger, Rejected):
            return Entry(received, Outcome.REJECTED, trigger.reason)
        instance = self._instances.get(trigger.key)
        if trigger.status is TriggerStatus.RESOLVED:
            return self._resolved(received, trigger, instance)
        delivery, why = classify(instance, self._settings.types[trigger.alert_type], self._now)
        alert_id = instance.alert_id if instance is not None else None
        config = self._known.configs.get((trigger.account_id, trigger.alert_type))
        verdict = judge(config, received.own, trigger)
        if delivery is Delivery.STALE:
            self._hear_reports(received, trigger, instance, passed=verdict.passed)
            return Entry(received, Outcome.STALE, why, alert_id, verdict)
        if not verdict.passed:
            self._hear(received, trigger, alert_id, passed=False)
            return Entry(received, Outcome.SUPPRESSED, verdict.reason, alert_id, verdict)
        if delivery is Delivery.DUPLICATE:
            self._hear(received, trigger, alert_id)
            return Entry(received, Outcome.DUPLICATE, why, alert_id, verdict)
        return self._count(received, trigger, config, verdict)

    def _resolved(self, received: Received, trigger: Trigger, instance: Instance | None) -> Entry:
        """The end of an instance, known or not; its alert ends when the session is settled."""
        if instance is not None and instance.status is TriggerStatus.RESOLVED:
            return Entry(received, Outcome.RESOLVED, "already recorded", instance.alert_id, NOT_JUDGED)
        known = instance or Instance(trigger.fingerprint, trigger.starts_at, trigger.status, None, self._now, None)
        ended = replace(known, status=TriggerStatus.RESOLVED, resolved_at=self._now, source=trigger.source)
        self._keep(ended, trigger, received.condition)
        why = "" if instance else "never heard firing"
        return Entry(received, Outcome.RESOLVED, why, known.alert_id, NOT_JUDGED)

    def _hear_reports(self, received: Received, trigger: Trigger, instance: Instance | None, *, passed: bool) -> None:
        """Of a firing that a person closed, reports go on: while they come above their thresholds, it stays closed."""
        if received.own is not None and instance is not None and instance.status is TriggerStatus.FIRING:
            self._hear(received, trigger, instance.alert_id, passed=passed)

    def _hear(
        self,
        received: Received,
        trigger: Trigger,
        alert_id: str | None,
        *,
        passed: bool = True,
        counted: bool = False,
    ) -> None:
        """A suppressed instance is watched on, but keeps no session alive: what its merchant does not want is over."""
        known = self._instances.get(trigger.key)
        heard = Instance(
            trigger.fingerprint,
            trigger.starts_at,
            TriggerStatus.FIRING,
            alert_id,
            last_heard_at=self._now,
            last_counted_at=self._now if counted else known.last_counted_at if known is not None else None,
            last_passed_at=self._now if passed else known.last_passed_at if known is not None else None,
            source=trigger.source,
        )
        self._keep(heard, trigger, received.condition)

    def _keep(self, instance: Instance, trigger: Trigger, condition: str) -> None:
        self._instances[trigger.key] = instance
        self.changes.instances[trigger.key] = (instance, trigger)
        if instance.attacking:
            self._attacking.setdefault(condition, set()).add(trigger.key)
        else:
            self._attacking.get(condition, set()).discard(trigger.key)

    def _count(self, received: Received, trigger: Trigger, config: MerchantConfig | None, verdict: Verdict) -> Entry:
        """One more occurrence: of a new alert, of a session, or of an alert whose session expired."""
        settings = self._settings.types[trigger.alert_type]
        before = self._sessions.get(received.condition)
        last_passed = self._known.last_passed.get(before.alert_id) if before is not None else None
        outcome = sessions.place(before, last_passed, settings, self._now)
        if outcome is Outcome.CREATED or before is None:
            after = self._open(received.condition, trigger, before, settings)
            before = None
        else:
            after = sessions.joined(before, trigger.severity, outcome, settings, self._now)
        comment_id = self._comment(before, after, trigger)
        self._watch_flapping(received.condition, after, trigger)
        after, notify, limit = self._notify(before, after, trigger, config, comment_id)
        self._sessions[received.condition] = self.changes.sessions[after.alert_id] = after
        self.changes.metrics[after.alert_id] = trigger.metrics
        self._hear(received, trigger, after.alert_id, counted=True)
        return Entry(received, outcome, "", after.alert_id, verdict, notify, limit)

    def _open(
        self, condition: str, trigger: Trigger, overdue: AlertSession | None, settings: AlertTypeSettings
    ) -> AlertSession:
        """A new session; one that should have expired long ago makes room for it."""
        if overdue is not None and overdue.session_status is SessionStatus.ACTIVE:
            self.changes.expired.append(sessions.expired(overdue))
        opened = sessions.opened(trigger, self._new_id(), condition, settings, self._now)
        self.changes.opened[opened.alert_id] = trigger
        return opened

    def _comment(self, before: AlertSession | None, after: AlertSession, trigger: Trigger) -> str | None:
        """Record a further occurrence and each rise in severity; return the id of the last rise, if there is one."""
        alert_id, last_rise, risen = after.alert_id, None, 0
        if before is not None:
            risen = len(before.escalations)
            content = f"{trigger.alert_name} fired, occurrence {after.occurrence_count}"
            event = Comment(self._new_id(), alert_id, CommentType.TRIGGER_EVENT, content, trigger.metrics)
            self.changes.comments.append(event)
        for rise in after.escalations[risen:]:
            last_rise = self._new_id()
            kind, told = CommentType.SEVERITY_ESCALATION, rise.describe()
            self.changes.comments.append(Comment(last_rise, alert_id, kind, told, trigger.metrics, rise.as_json()))
        return last_rise

    def _watch_flapping(self, condition: str, after: AlertSession, trigger: Trigger) -> None:
        """A condition that fired lately, and of which nothing was firing any more, has fired again."""
        if self._attacking.get(condition, {trigger.key}):
            return
        settings = self._settings.types[trigger.alert_type]
        before = self._flapping.get(condition, STEADY)
        state = restarted(before, settings, self._now)
        self._remember(condition, state, trigger)
        if before.since is not None and state.since is None:
            self.changes.calmed[condition] = before.since
        if before.since is None and state.since is not None:
            told = Comment(
                self._new_id(),
                after.alert_id,
                CommentType.SYSTEM_LOG,
                describe_begin(state, settings),
                trigger.metrics,
                {"flapping": "begun", "restarts": [time.isoformat() for time in state.restarts]},
            )
            self.changes.comments.append(told)

    def _remember(self, condition: str, state: Flapping, trigger: Trigger) -> None:
        self._flapping[condition] = state
        self.changes.flapping[condition] = (state, trigger)

    def _notify(
        self,
        before: AlertSession | None,
        after: AlertSession,
        trigger: Trigger,
        config: MerchantConfig | None,
        comment_id: str | None,
    ) -> tuple[AlertSession, str, Limit | None]:
        """The session as told (or not), what the trigger log says about it, and the limit that held it back."""
        policy, key = NotificationPolicy.of(config), (trigger.account_id, trigger.alert_type)
        recent = self._notified.setdefault(key, [])
        reason = self._reason(before, after, policy, recent)
        default = channels_for(trigger.account_id, self._settings.channels, self._settings.operations)
        channels = channels_of(config, default, after.severity)
        if isinstance(reason, NotifyReason) and not channels:
            reason = Withheld.NO_CHANNEL
        if isinstance(reason, NotifyReason) and not self._claim(Claim(key, policy, not passes_limits(reason, after))):
            reason = Withheld.FREQUENCY
        if isinstance(reason, Withheld):
            limit = holding_limit(policy, recent, self._now) if reason is Withheld.FREQUENCY else None
            return after, f"withheld:{reason}", limit
        insort(recent, self._now)
        if reason is NotifyReason.FLAPPING:
            state = self._flapping[after.condition_fingerprint]
            self._remember(after.condition_fingerprint, replace(state, told_at=self._now), trigger)
        after = sessions.told(after, self._now)
        thresholds = {**trigger.thresholds, **(config.thresholds() if config is not None else {})}
        signs = operators(trigger.metrics, trigger.thresholds, config)
        told = Announcement(after, trigger, reason, thresholds, channels, comment_id, signs)
        self.changes.announcements.append(told)
        return after, str(reason), None

    def _reason(
        self, before: AlertSession | None, after: AlertSession, policy: NotificationPolicy, recent: Sequence[datetime]
    ) -> NotifyReason | Withheld:
        state = self._flapping.get(after.condition_fingerprint, STEADY)
        settings = self._settings.types[after.alert_type]
        return decide_notification(
            before,
            after,
            policy,
            recent,
            self._now,
            flapping=holds_back(state, settings, self._now),
            flapping_told=state.told_at is not None,
        )

    def _claim(self, claim: Claim) -> bool:
        """Take a place; False where others have taken the last one meanwhile."""
        if claim.limited and claim.key in self._places:
            if self._places[claim.key] == 0:
                return False
            self._places[claim.key] -= 1
        self.changes.claims.append(claim)
        return True


def judge(config: MerchantConfig | None, own: Verdict | None, trigger: Trigger) -> Verdict:
    """By the merchant's conditions; where it has none, the `own` verdict of a trigger that brings one."""
    if own is None or (config is not None and (config.conditions or not config.enabled)):
        return evaluate(config, trigger.metrics, trigger.labels)
    return own if config is None else own._replace(config_version=config.version)
