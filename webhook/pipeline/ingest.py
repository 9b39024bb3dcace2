"""One delivery: parsed alerts in, one committed outcome for each out. No network call but the database."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from webhook.domain.alert import Outcome, Trigger, TriggerStatus, condition_fingerprint
from webhook.domain.ledger import Changes, Entry, IngestSettings, Known, Received, decide
from webhook.domain.payload import Rejected
from webhook.ports import AlertStore, RepeatableRequest, StoreConflict

log = structlog.get_logger(__name__)

_BY_VERDICT = frozenset({Outcome.CREATED, Outcome.SESSION_UPDATED, Outcome.COMMENT_ADDED, Outcome.SUPPRESSED})
"""What the verdict decides; repeats and late ones would fill the log."""

_TRIES = 5
_MOST_TYPES = 50
_LONGEST_PAUSE = 0.05  # seconds, random, between tries


class IngestMetrics:
    """Counters of what was received and what became of it: the outcomes add up to the alerts received."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.received = Counter("sentinel_alerts_received", "Alerts received, resent ones too.", registry=registry)
        self.outcomes = Counter(
            "sentinel_alert_outcomes", "What became of the alerts received.", ["outcome"], registry=registry
        )
        self.triggers = Counter(
            "sentinel_alert_triggers", "Firing alerts received, resent ones too.", ["alert_type"], registry=registry
        )
        self._types: set[str] = set()
        self.decisions = Counter(
            "sentinel_notify_decisions", "Whether people are told, and why.", ["decision"], registry=registry
        )
        self.conflicts = Counter(
            "sentinel_ingest_conflicts", "Deliveries tried again after another came first.", registry=registry
        )
        self.seconds = Histogram("sentinel_ingest_seconds", "Time to store one delivery.", registry=registry)

    def count(self, changes: Changes) -> None:
        self.received.inc(len(changes.entries))
        for outcome, number in changes.outcomes().items():
            self.outcomes.labels(outcome.value).inc(number)
        for entry in changes.entries:
            if entry.notify:
                self.decisions.labels(entry.notify).inc()
        items = (entry.received.item for entry in changes.entries)
        firing = (item for item in items if isinstance(item, Trigger) and item.status is TriggerStatus.FIRING)
        for alert_type, number in Tally(trigger.alert_type for trigger in firing).items():
            self.triggers.labels(self._shown(alert_type)).inc(number)

    def _shown(self, alert_type: str) -> str:
        """Names come from outside: after so many different ones the rest are one time series."""
        if len(self._types) < _MOST_TYPES:
            self._types.add(alert_type)
        return alert_type if alert_type in self._types else "other"


def ingest(
    store: AlertStore,
    received: Sequence[Trigger | Rejected],
    settings: IngestSettings,
    now: datetime,
    *,
    metrics: IngestMetrics | None = None,
    request: RepeatableRequest | None = None,
) -> Changes:
    """Decide, store, count and log one delivery; raise StoreUnavailable when that is not possible now.

    Raise AlreadyAnswered where `request` was handled before.
    """
    delivery = [Received(item, condition_of(item, settings)) for item in received]
    return deliver(store, delivery, settings, now, metrics=metrics, request=request)


def deliver(
    store: AlertStore,
    delivery: Sequence[Received],
    settings: IngestSettings,
    now: datetime,
    *,
    metrics: IngestMetrics | None = None,
    request: RepeatableRequest | None = None,
) -> Changes:
    """As `ingest`, of alerts whose conditions are known."""
    changes = store_delivery(store, delivery, settings, now, metrics=metrics, request=request)
    account_for(changes, metrics)
    return changes


def store_delivery(
    store: AlertStore,
    delivery: Sequence[Received],
    settings: IngestSettings,
    now: datetime,
    *,
    metrics: IngestMetrics | None = None,
    request: RepeatableRequest | None = None,
) -> Changes:
    """Decide and store in one transaction; raise StoreUnavailable when that is not possible now.

    Another delivery that comes first with the same alerts makes this one start over, and then see what that wrote.
    """

    def decide_delivery(known: Known) -> Changes:
        return decide(delivery, known, settings, now, lambda: str(uuid4()))

    tries = Retrying(
        retry=retry_if_exception_type(StoreConflict),
        stop=stop_after_attempt(_TRIES),
        wait=wait_random(0, _LONGEST_PAUSE),
        before_sleep=lambda _: metrics.conflicts.inc() if metrics is not None else None,
        reraise=True,
    )
    return tries(partial(store.ingest, delivery, settings, now, decide_delivery, request))


def account_for(changes: Changes, metrics: IngestMetrics | None) -> None:
    """Count and log what became of a delivery that is stored."""
    if metrics is not None:
        metrics.count(changes)
    _log_changes(changes)


def condition_of(item: Trigger | Rejected, settings: IngestSettings) -> str:
    if isinstance(item, Rejected):
        return ""
    return condition_fingerprint(item, settings.types[item.alert_type].fingerprint_fields)


def _log_changes(changes: Changes) -> None:
    """One line per delivery, and one for each alert that people may ask about later."""
    outcomes = {outcome.value: number for outcome, number in changes.outcomes().items()}
    log.info("alert_received", received=len(changes.entries), outcomes=outcomes)
    for entry in changes.entries:
        if isinstance(entry.received.item, Rejected):
            log.warning("alert_rejected", reason=entry.reason)
        else:
            _log_entry(entry, entry.received.item)


def _log_entry(entry: Entry, trigger: Trigger) -> None:
    about = {"merchant_id": trigger.account_id, "alert_type": trigger.alert_type, "alert_id": entry.alert_id}
    verdict = entry.verdict if entry.outcome in _BY_VERDICT else None
    if verdict is not None and (not verdict.passed or verdict.config_version is not None):
        log.info("trigger_condition_evaluated", passed=verdict.passed, reason=verdict.reason, **about)
    if entry.outcome is Outcome.CREATED:
        log.info("alert_created", severity=trigger.severity.value, **about)
    if entry.notify == "withheld:frequency":
        log.info("frequency_check_rejected", **about)
    elif entry.notify and not entry.notify.startswith("withheld:"):
        log.info("frequency_check_passed", reason=entry.notify, **about)
