"""What people do to alerts, counted and logged: how long they take to begin, and who ended what."""

from __future__ import annotations

import structlog
from prometheus_client import CollectorRegistry, Histogram

from webhook.domain.action import Doing
from webhook.domain.alert import AlertSession

_MINUTE, _HOUR = 60, 3600

log = structlog.get_logger(__name__)


class ActionNotes:
    """Called for each action when it is committed; see `webhook.storage.acting.Noted`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._response = Histogram(
            "sentinel_alert_response_seconds",
            "From an alert's first trigger to the first action of a person.",
            ["action"],
            buckets=(30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 900, 1800, _HOUR, 4 * _HOUR, 12 * _HOUR, 24 * _HOUR),
            registry=registry,
        )

    def __call__(self, session: AlertSession, action: str, doing: Doing, first: bool) -> None:
        if first:
            seconds = (doing.now - session.first_triggered_at).total_seconds()
            self._response.labels(action).observe(max(0.0, seconds))
        about = {"merchant_id": session.account_id, "alert_id": session.alert_id}
        event = f"alert_{action}"
        log.info(event, by=doing.actor, severity=session.severity.value, **about)
