"""One report of a metric platform: it goes the way of a delivery with a single alert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from webhook.domain.alert import Instance
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.ledger import Entry, IngestSettings, Received, judge
from webhook.domain.report import Report, start_of
from webhook.pipeline.ingest import IngestMetrics, condition_of, deliver
from webhook.ports import AlertStore, RepeatableRequest


class Runs(Protocol):
    def read(
        self, fingerprint: str, account_id: str, alert_type: str
    ) -> tuple[Instance | None, MerchantConfig | None]: ...


@dataclass(frozen=True, slots=True)
class ReportIntake:
    """Decides and stores one report. Reports of one merchant at the same moment may start two firings of one alert."""

    store: AlertStore
    runs: Runs
    settings: IngestSettings
    metrics: IngestMetrics
    clock: Callable[[], datetime]

    def take(self, report: Report, request: RepeatableRequest | None, now: datetime) -> Entry:
        """What became of it; raise StoreUnavailable or AlreadyAnswered."""
        types = self.settings.types[report.alert_type]
        fields, own = types.fingerprint_fields, report.verdict()
        last, config = self.runs.read(report.fingerprint(fields), report.account_id, report.alert_type)
        trigger = report.trigger(fields, now)
        passed = judge(config, own, trigger).passed
        starts_at = start_of(last, types, report.detected_at, now, passed=passed)
        trigger = report.trigger(fields, starts_at)
        received = Received(trigger, condition_of(trigger, self.settings), own)
        changes = deliver(self.store, [received], self.settings, now, metrics=self.metrics, request=request)
        return changes.entries[0]
