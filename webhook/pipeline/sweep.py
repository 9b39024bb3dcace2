"""What only time brings about: sessions expire, alerts end, severity rises by duration, dead leases are freed.

Resolves get lost: of an inhibited alert Alertmanager never sends one. So its instances that were not heard of for a
session timeout are looked up there, all in one call, before their sessions are settled. A series of reports ends when
it stops. Grafana keeps its alerts to itself: of one that is silent nobody knows more, so its session expires.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from webhook.domain.alert import ALERTMANAGER, AlertSession, AlertTypes, Instance
from webhook.domain.report import SOURCE as REPORTED
from webhook.domain.session import Settlement, SettlementKind, settle
from webhook.domain.severity import Escalation, escalate
from webhook.ports import FiringAlerts, HistoryUnavailable, StoreConflict

BATCH = 200
"""Sessions settled in one transaction: few enough that deliveries do not wait for it."""

DIGESTS = 20
"""Merchants whose digests are queued in one transaction."""

TRIES = 5
LONGEST_PAUSE = 0.05  # seconds, random, between tries

T = TypeVar("T")

log = structlog.get_logger()


class Batch(Protocol):
    """The changes of one transaction; see `webhook.storage.sweeping.SweepBatch`."""

    def hold(self, instances: Collection[Instance]) -> None: ...
    def confirm(self, instances: Collection[Instance]) -> None: ...
    def end(self, instances: Collection[Instance]) -> int: ...
    def timed_out(self, after: str | None, limit: int) -> list[tuple[AlertSession, list[Instance]]]: ...
    def long_lasting(self, after: str | None, limit: int) -> list[AlertSession]: ...
    def expire(self, sessions: Sequence[AlertSession]) -> None: ...
    def resolve(self, sessions: Sequence[AlertSession], settlement: Settlement) -> None: ...
    def escalate(self, session: AlertSession, escalation: Escalation) -> None: ...
    def calm_down(self, after: str, limit: int) -> tuple[int, str | None]: ...
    def tell_held_back(self, after: str, limit: int) -> tuple[int, str | None]: ...


class Store(Protocol):
    def silent(self, now: datetime, sources: Collection[str]) -> Sequence[Instance]: ...
    def batch(self, now: datetime) -> AbstractContextManager[Batch]: ...


class Leases(Protocol):
    def release_expired(self, now: datetime) -> int: ...


@dataclass(slots=True)
class Swept:
    """What one sweep did."""

    leases_freed: int = 0
    instances_confirmed: int = 0
    instances_ended: int = 0
    reconcile_failures: int = 0
    expired: int = 0
    resolved: int = 0
    escalated: int = 0
    calmed: int = 0

    def counts(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Safe to run in several workers at once. Without `firing`, silent instances are left and sessions expire."""

    store: Store
    leases: Leases
    alert_types: AlertTypes
    firing: FiringAlerts | None = None

    def run_once(self, now: datetime) -> Swept:
        swept = Swept(leases_freed=self.leases.release_expired(now))
        self._reconcile(now, swept)
        self._calm_down(now, swept)
        self._settle(now, swept)
        self._escalate(now, swept)  # only what has not ended: settled first
        return swept

    def tell_held_back(self, now: datetime) -> int:
        """Queue the digests that are due: each merchant's once, however many workers do so."""
        told = 0
        after: str | None = ""
        while after is not None:
            number, after = self._in_batch(now, partial(_told, after))
            told += number
        return told

    def _reconcile(self, now: datetime, swept: Swept) -> None:
        """Ask Alertmanager about its silent instances; while it cannot answer, none of them is ended."""
        known = self.store.silent(now, (ALERTMANAGER, REPORTED))
        reported = [instance for instance in known if instance.source == REPORTED]
        for start in range(0, len(reported), BATCH):  # nobody but their reporter can say more of them
            part = reported[start : start + BATCH]
            swept.instances_ended += self._in_batch(now, partial(_reconciled, part, [], part))
        silent = [instance for instance in known if instance.source == ALERTMANAGER]
        if not silent or self.firing is None:
            return
        try:
            firing = self.firing.firing()
        except HistoryUnavailable as error:
            swept.reconcile_failures += 1
            log.warning("alertmanager_unavailable", error=str(error), silent=len(silent))
            return
        for start in range(0, len(silent), BATCH):
            part = silent[start : start + BATCH]
            heard = [instance for instance in part if instance.fingerprint in firing]
            lost = [instance for instance in part if instance.fingerprint not in firing]
            swept.instances_ended += self._in_batch(now, partial(_reconciled, part, heard, lost))
            swept.instances_confirmed += len(heard)

    def _calm_down(self, now: datetime, swept: Swept) -> None:
        """Before sessions are settled: the end of one whose condition flaps no more is told at once."""
        after: str | None = ""
        while after is not None:
            number, after = self._in_batch(now, partial(_calmed, after))
            swept.calmed += number

    def _settle(self, now: datetime, swept: Swept) -> None:
        after: str | None = None
        while True:
            found = self._in_batch(now, partial(self._settled, now, after))
            kinds = Counter(settlement.kind for _, settlement in found)
            swept.expired += kinds[SettlementKind.EXPIRE]
            swept.resolved += kinds[SettlementKind.RESOLVE]
            for session, settlement in found:
                if settlement.kind is SettlementKind.RESOLVE:
                    about = {"alert_id": session.alert_id, "merchant_id": session.account_id}
                    log.info("alert_resolved", reason=settlement.reason, **about)
            if len(found) < BATCH:
                return
            after = found[-1][0].alert_id

    def _settled(self, now: datetime, after: str | None, batch: Batch) -> list[tuple[AlertSession, Settlement]]:
        settled = [
            (session, settle(session, instances, now, self.alert_types[session.alert_type]))
            for session, instances in batch.timed_out(after, BATCH)
        ]
        batch.expire([session for session, what in settled if what.kind is SettlementKind.EXPIRE])
        ended = [(session, what) for session, what in settled if what.kind is SettlementKind.RESOLVE]
        for settlement in sorted({what for _, what in ended}, key=lambda what: what.reason):
            batch.resolve([session for session, what in ended if what == settlement], settlement)
        return settled

    def _escalate(self, now: datetime, swept: Swept) -> None:
        after: str | None = None
        while True:
            found = self._in_batch(now, partial(self._escalated, now, after))
            for session, step in found:
                if step is not None:
                    swept.escalated += 1
                    log.info("alert_escalated", alert_id=session.alert_id, severity=step.to_severity)
            if len(found) < BATCH:
                return
            after = found[-1][0].alert_id

    def _escalated(
        self, now: datetime, after: str | None, batch: Batch
    ) -> list[tuple[AlertSession, Escalation | None]]:
        found = []
        for session in batch.long_lasting(after, BATCH):
            step = escalate(session, self.alert_types[session.alert_type].escalation, now)
            if step is not None:
                batch.escalate(session, step)
            found.append((session, step))
        return found

    def _in_batch(self, now: datetime, work: Callable[[Batch], T]) -> T:
        """`work` in one transaction, over again when it met another one."""

        def once() -> T:
            with self.store.batch(now) as batch:
                return work(batch)

        tries = Retrying(
            retry=retry_if_exception_type(StoreConflict),
            stop=stop_after_attempt(TRIES),
            wait=wait_random(0, LONGEST_PAUSE),
            reraise=True,
        )
        return tries(once)


def _told(after: str, batch: Batch) -> tuple[int, str | None]:
    return batch.tell_held_back(after, DIGESTS)


def _calmed(after: str, batch: Batch) -> tuple[int, str | None]:
    return batch.calm_down(after, BATCH)


def _reconciled(part: Sequence[Instance], heard: Sequence[Instance], lost: Sequence[Instance], batch: Batch) -> int:
    """How many of the lost ones were ended."""
    batch.hold(part)
    batch.confirm(heard)
    return batch.end(lost)


def shortest_timeout(types: AlertTypes) -> timedelta:
    return min(settings.session_timeout for settings in (types.default, *types.by_type.values()))


def sweep_interval(types: AlertTypes) -> timedelta:
    """A twentieth of the shortest session timeout, between half a second and fifteen."""
    return min(max(shortest_timeout(types) / 20, timedelta(seconds=0.5)), timedelta(seconds=15))
