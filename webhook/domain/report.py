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
from webhook.domain.evaluation import Condition, Verdict, conclude
from webhook.domain.severity import Severity

SOURCE = "metrics"
_PREFIX = f"{SOURCE}:"  # of fingerprints; Alertmanager's are hexadecimal


NO_THRESHOLD = Verdict(passed=False, reason="no threshold: neither the merchant nor the request has one")

TIME_WINDOW, METADATA = "time_window_", "metadata_"
"""Annotations of a metric, as `threshold_<metric>` is one: over what time it was taken; what belongs to it, as JSON."""


@dataclass(frozen=True, slots=True)
class ReportedMetric:
    """One value, full precision; `metadata` is what belongs to it: numbers, texts, truths.

    A name may come more than once, as of two time windows.
    """

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

    def verdict(self) -> Verdict:
        """Each value above its own threshold, all of them."""
        judged = tuple(
            (Condition(m.name, ">", m.threshold, number, m.time_window), m.value, m.value > m.threshold)
            for number, m in enumerate(self.metrics)
            if m.threshold is not None
        )
        return conclude("all", judged) if judged else NO_THRESHOLD

    def values(self) -> dict[str, float]:
        """By name, of several of one name the highest: what a merchant's own conditions judge must not hide it.

        A detail never hides a metric.
        """
        details = sorted((value, name) for metric in self.metrics for name, value in metric.details.items())
        return {name: value for value, name in details} | {m.name: m.value for m in self._rising()}

    def _rising(self) -> list[ReportedMetric]:
        return sorted(self.metrics, key=lambda metric: metric.value)

    def fingerprint(self, fields: Sequence[str]) -> str:
        parts = [self.account_id, self.alert_type, *(self.labels.get(name, "") for name in fields)]
        return _PREFIX + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def trigger(self, fields: Sequence[str], starts_at: datetime) -> Trigger:
        shown = {metric.name: metric for metric in self._rising()}  # those whose values are taken
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
            thresholds={m.name: m.threshold for m in self._rising() if m.threshold is not None},
            summary="",
            source=SOURCE,
            labels=self.labels,
            annotations={name: text for m in shown.values() for name, text in m.annotations.items()},
            generator_url="",
        )


def start_of(
    last: Instance | None, settings: AlertTypeSettings, detected_at: datetime | None, now: datetime, *, passed: bool
) -> datetime:
    """When the firing began that a report tells of; `last` is the one of its fingerprint that was heard last.

    A new firing began after that: a reporter that names one time again and again has no say in which firing it is.
    """
    if last is None:
        return min(detected_at or now, now)
    going_on = (
        last.status is TriggerStatus.FIRING
        and now - last.last_heard_at <= settings.session_timeout
        and (last.attacking or not passed)
    )
    if going_on:
        return last.starts_at
    return detected_at if detected_at is not None and last.last_heard_at < detected_at <= now else now
