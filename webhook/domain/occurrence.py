"""Which deliveries count: Alertmanager resends whole groups, repeats, retries, and runs as a cluster."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from webhook.domain.alert import AlertTypeSettings, Instance, TriggerStatus

CLOSED_BY_PERSON = "the alert was closed by a person"
ALREADY_RESOLVED = "the same firing was already resolved"
WITHIN_INTERVAL = "counted within the occurrence interval"


class Delivery(StrEnum):
    """What a firing delivery is, seen against what is recorded of the same (fingerprint, starts_at)."""

    COUNTED = "counted"
    DUPLICATE = "duplicate"
    STALE = "stale"


def classify(instance: Instance | None, settings: AlertTypeSettings, now: datetime) -> tuple[Delivery, str]:
    """What a firing delivery is, and why.

    It counts once an `occurrence_interval`. That is just below the repeat interval of the routes (4 min 30 s and
    5 min by default), so every repeat of one Alertmanager counts, and what a second one sends in between, clustered
    or not, changes no count.

    A firing that arrives within a `session_timeout` of the recorded resolve of the same start was overtaken on its
    way and is stale; a later one is believed, because Prometheus restores the start of an alert after an outage.
    What was found to have ended, since nobody held it as firing any more, may still be on its way: Alertmanager tries
    a delivery for one group interval, which is an `occurrence_interval`, and says what was true when it began.
    What a person has closed stays closed: every later delivery of the same start is stale.
    """
    if instance is None:
        return Delivery.COUNTED, ""
    if instance.closed_by_person:
        return Delivery.STALE, CLOSED_BY_PERSON
    if instance.status is TriggerStatus.RESOLVED:
        if _lately(instance.resolved_at, settings.session_timeout, now) or _lately(
            instance.ended_at, settings.occurrence_interval, now
        ):
            return Delivery.STALE, ALREADY_RESOLVED
        return Delivery.COUNTED, ""
    if instance.last_counted_at is not None and now - instance.last_counted_at < settings.occurrence_interval:
        return Delivery.DUPLICATE, WITHIN_INTERVAL
    return Delivery.COUNTED, ""


def _lately(then: datetime | None, span: timedelta, now: datetime) -> bool:
    return then is not None and now - then <= span
