"""What a metric platform reports of one merchant, as a trigger: the request's thresholds are its own conditions. Pure.

Reports name no start of what they tell of. A report that comes within a session timeout of the last one, while that
was above its thresholds, goes on with the same firing: it counts once an `occurrence_interval`, as a repeat of
Alertmanager does. After a gap, or after reports below the thresholds, a new firing starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from webhook.domain.alert import AlertTypeSettings, Instance, Trigger, TriggerStatus
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.domain.severity import Severity

SOURCE = "metrics"
REPORTED = "metrics:"
"""How fingerprints of reported firings begin; Alertmanager's are hexadecimal."""

TIME_WINDOW, METADATA = "time_window_", "metadata_"
"""Annotations of a metric, as `threshold_<metric>` is one: over what time it was taken; what belongs to it, as JSON."""


@dataclass(frozen=True, slots=True)
class ReportedMetric:
    """One value, full precision; `metadata` is what belongs to it: numbers, texts, truths."""

    name: str
    value: float
    threshold: float | None = None
    time_window: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def details(self) -> dict[str, float]:
        """The numbers of the metadata."""
        numbers = (int, float)
        found = {name: v for name, v in self.metadata.items() if isinstance(v, numbers) and not isinstance(v, bool)}
        return {name: float(value) for name, value in found.items()}

    @property
    def annotations(self) -> dict[str, str]:
        found = {}
        if self.time_window:
            found[TIME_WINDOW + self.name] = self.time_window
        if self.metadata:
            found[METADATA + self.name] = json.dumps(dict(self.metadata))
        return found


@dataclass(frozen=True, slots=True)
class Report:
    """`labels` are what the reporter says of the event: source system, region, ..."""

    account_id: str
    alert_type: str
    metrics: Sequence[ReportedMetric]
    labels: Mapping[str, str]
    detected_at: datetime | None = None

    def conditions(self) -> MerchantConfig:
        """Each value above its threshold, all of them."""
        conditions = tuple(
            Condition(metric.name, ">", metric.threshold, priority, metric.time_window)
            for priority, metric in enumerate(self.metrics)
            if metric.threshold is not None
        )
        return MerchantConfig(self.account_id, self.alert_type, conditions=conditions)

    def values(self) -> dict[str, float]:
        """By metric name; a detail never hides a metric."""
        details = {name: value for metric in self.metrics for name, value in metric.details.items()}
        return {**details, **{metric.name: metric.value for metric in self.metrics}}

    def fingerprint(self, fields: Sequence[str]) -> str:
        parts = [self.account_id, self.alert_type, *(self.labels.get(name, "") for name in fields)]
        return REPORTED + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def trigger(self, fields: Sequence[str], starts_at: datetime) -> Trigger:
        return Trigger(
            fingerprint=self.fingerprint(fields),
            status=TriggerStatus.FIRING,
            starts_at=starts_at,
            ends_at=None,
            alert_name=self.alert_type,
            alert_type=self.alert_type,
            severity=Severity.P3,
            account_id=self.account_id,
            merchant_name=self.labels.get("merchant_name", ""),
            metrics=self.values(),
            thresholds={m.name: m.threshold for m in self.metrics if m.threshold is not None},
            summary="",
            source=SOURCE,
            labels=self.labels,
            annotations={name: text for metric in self.metrics for name, text in metric.annotations.items()},
            generator_url="",
        )


def start_of(
    last: Instance | None, settings: AlertTypeSettings, detected_at: datetime | None, now: datetime, *, passed: bool
) -> datetime:
    """When the firing began that a report tells of; `last` is the latest one of the same fingerprint."""
    going_on = (
        last is not None
        and last.status is TriggerStatus.FIRING
        and now - last.last_heard_at <= settings.session_timeout
        and (last.attacking or not passed)
    )
    return last.starts_at if going_on and last is not None else min(detected_at or now, now)
