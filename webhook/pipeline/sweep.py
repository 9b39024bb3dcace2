"""What only time brings about: sessions expire, alerts end, severity rises by duration, dead leases are freed.

Resolves get lost: of an inhibited alert Alertmanager never sends one. So instances that were not heard of for a
session timeout are looked up there, all in one call, before their sessions are settled.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Protocol

import structlog

from webhook.domain.alert import AlertSession, AlertTypes, Instance
from webhook.domain.session import SettlementKind, settle
from webhook.domain.severity import Escalation, escalate
from webhook.ports import FiringAlerts, HistoryUnavailable

BATCH = 200
"""Sessions settled in one transaction: few enough that deliveries do not wait for it."""

log = structlog.get_logger()


class Batch(Protocol):
    """The changes of one transaction; see `webhook.storage.sweeping.SweepBatch`."""

    def confirm(self, instances: Collection[Instance]) -> None: ...
    def end(self, instances: Collection[Instance]) -> int: ...
    def timed_out(self, after: str | None, limit: int) -> list[tuple[AlertSession, list[Instance]]]: ...
    def long_lasting(self, after: str | None, limit: int) -> list[AlertSession]: ...
    def expire(self, sessions: Sequence[AlertSession]) -> None: ...
    def resolve(self, sessions: Sequence[AlertSession], note: str) -> None: ...
    def escalate(self, session: AlertSession, escalation: Escalation) -> None: ...


class Store(Protocol):
    def silent(self, now: datetime) -> Sequence[Instance]: ...
    def batch(self, now: datetime) -> AbstractContextManager[Batch]: ...


class Leases(Protocol):
    def release_expired(self, now: datetime) -> int: ...


@dataclass(slots=True)
class Swept:
    """What one sweep did."""

    leases_freed: int = 0
    instances_confirmed: int = 0
    instances_ended: int = 0
    expired: int = 0
    resolved: int = 0
    escalated: int = 0

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
        self._settle(now, swept)
        self._escalate(now, swept)  # only what has not ended: settled first
        return swept

    def _reconcile(self, now: datetime, swept: Swept) -> None:
        """Ask Alertmanager about silent instances; while it cannot answer, nothing is ended."""
        silent = self.store.silent(now)
        if not silent or self.firing is None:
            return
        try:
            firing = self.firing.firing()
        except HistoryUnavailable as error:
            log.warning("alertmanager_unavailable", error=str(error), silent=len(silent))
            return
        for start in range(0, len(silent), BATCH):
            part = silent[start : start + BATCH]
            heard = [instance for instance in part if instance.fingerprint in firing]
            with self.store.batch(now) as batch:
                batch.confirm(heard)
                swept.instances_ended += batch.end([i for i in part if i.fingerprint not in firing])
            swept.instances_confirmed += len(heard)

    def _settle(self, now: datetime, swept: Swept) -> None:
        after: str | None = None
        while True:
            with self.store.batch(now) as batch:
                candidates = batch.timed_out(after, BATCH)
                settled = [
                    (session, settle(session, instances, now, self.alert_types[session.alert_type]))
                    for session, instances in candidates
                ]
                expired = [session for session, what in settled if what.kind is SettlementKind.EXPIRE]
                ended = [(session, what.reason) for session, what in settled if what.kind is SettlementKind.RESOLVE]
                batch.expire(expired)
                for reason in sorted({reason for _, reason in ended}):
                    batch.resolve([session for session, why in ended if why == reason], reason)
            for session, reason in ended:
                log.info("alert_resolved", alert_id=session.alert_id, merchant_id=session.account_id, reason=reason)
            swept.expired += len(expired)
            swept.resolved += len(ended)
            if len(candidates) < BATCH:
                return
            after = candidates[-1][0].alert_id

    def _escalate(self, now: datetime, swept: Swept) -> None:
        after: str | None = None
        while True:
            with self.store.batch(now) as batch:
                sessions = batch.long_lasting(after, BATCH)
                for session in sessions:
                    step = escalate(session, self.alert_types[session.alert_type].escalation, now)
                    if step is not None:
                        batch.escalate(session, step)
                        swept.escalated += 1
                        log.info("alert_escalated", alert_id=session.alert_id, severity=step.to_severity)
            if len(sessions) < BATCH:
                return
            after = sessions[-1].alert_id
