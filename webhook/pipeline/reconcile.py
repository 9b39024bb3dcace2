"""After an outage: what fired and ended while it could not be delivered is found in Prometheus and ingested.

Alertmanager counts the deliveries that it gave up, Prometheus the alerts that no Alertmanager took. Where either has
counted one since the last look, or was started anew, what fired since then is compared with what was received. What
still fires comes by itself. Where nothing failed nothing is looked for: what Alertmanager mutes is in ALERTS, too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from webhook.domain.alert import Trigger
from webhook.domain.ledger import IngestSettings
from webhook.domain.missed import Fired, Gap, Heard, Missed, Silence, missed, trigger_of
from webhook.pipeline.ingest import IngestMetrics, condition_of, ingest
from webhook.ports import AlertStore, HistoryUnavailable

LONGEST = timedelta(hours=24)
"""What is older is not looked for: nobody is helped by news of the day before."""

_STILL_COMING = 3
"""Part of a session timeout: what ended less than a third of it ago may still be delivered."""

log = structlog.get_logger(__name__)


class Senders(Protocol):
    """See `webhook.adapters.alertmanager.SendersAnywhere`."""

    def mark(self) -> str: ...
    def silences(self) -> list[Silence]: ...


class Recorded(Protocol):
    """See `webhook.adapters.fired.PrometheusFired`."""

    def mark(self) -> str: ...
    def fired(self, since: datetime, until: datetime) -> list[Fired]: ...
    def annotations(self, fired: Fired) -> dict[str, str]: ...
    def close(self) -> None: ...


class Reception(Protocol):
    """See `webhook.storage.reception.Reception`."""

    def look(self, mark: str, now: datetime) -> Gap | None: ...
    def close(self, gap: Gap) -> None: ...
    def heard(self, account_ids: Collection[str], since: datetime) -> list[Heard]: ...


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Safe over again: what was found has been heard of. `settled`: a session timeout without a failure ends a gap."""

    senders: Senders
    recorded: Recorded
    reception: Reception
    store: AlertStore
    settings: IngestSettings
    settled: timedelta
    metrics: IngestMetrics | None = None

    @property
    def interval(self) -> timedelta:
        """Between two looks: a fifteenth of that time, between a second and a minute."""
        return min(max(self.settled / 15, timedelta(seconds=1)), timedelta(minutes=1))

    def close(self) -> None:
        self.recorded.close()

    def run_once(self, now: datetime) -> int:
        """How many firings were found that nobody had heard of."""
        try:
            gap = self.reception.look(f"{self.senders.mark()}; {self.recorded.mark()}", now)
            if gap is None:
                return 0
            found = self._find(gap, now)
            described = [(one, self.recorded.annotations(one.fired)) for one in found]
        except HistoryUnavailable as error:
            log.warning("reconciliation_waits", error=str(error))
            return 0
        for one, told in described:
            self._ingest(one.fired, told)
        if now - gap.changed_at >= self.settled:
            self.reception.close(gap)
            log.info("reconciled", since=gap.since.isoformat())
        return len(found)

    def _find(self, gap: Gap, now: datetime) -> Sequence[Missed]:
        since = max(gap.since, now - LONGEST)
        candidates = []
        for fired in self.recorded.fired(since, now):
            trigger = trigger_of(fired, {})
            if trigger is not None:
                candidates.append(Missed(condition_of(trigger, self.settings), fired, trigger))
        if not candidates:
            return []
        heard = self.reception.heard({one.firing.account_id for one in candidates}, since)
        return missed(candidates, heard, self.senders.silences(), now - self.settled / _STILL_COMING)

    def _ingest(self, fired: Fired, annotations: dict[str, str]) -> None:
        """At the times at which it happened, so that the alert has them."""
        for ended, at in ((False, fired.starts_at), (True, fired.ends_at)):
            trigger: Trigger | None = trigger_of(fired, annotations, ended=ended)
            if trigger is None:
                return
            ingest(self.store, [trigger], self.settings, at, metrics=self.metrics)
        about = {"merchant_id": fired.labels.get("account_id"), "alert_name": fired.labels.get("alertname")}
        times = {"starts_at": fired.starts_at.isoformat(), "ends_at": fired.ends_at.isoformat()}
        log.info("alert_found_again", **about, **times)
