"""What a person does to an alert. Their word wins: no late resend undoes it.

`actor` is who they say they are, `by` who was let in.
"""

from __future__ import annotations

from datetime import datetime

import structlog

from webhook.domain.access import Principal
from webhook.domain.alert import AlertSession, AlertStatus
from webhook.ports import AlertStore

log = structlog.get_logger(__name__)


def resolve(store: AlertStore, alert_id: str, *, note: str, actor: str, by: Principal, now: datetime) -> AlertSession:
    """Resolve an alert, tell whoever was told that it fired, and return its new state.

    Raise AlertNotFound (404), IllegalChange (409) where the alert is not active, StoreUnavailable (503).
    """
    session = store.close(alert_id, AlertStatus.RESOLVED, note=note, actor=actor, by=by, now=now)
    log.info("alert_resolved", alert_id=alert_id, actor=actor, authenticated_as=by.credential)
    return session


def dismiss(store: AlertStore, alert_id: str, *, reason: str, actor: str, by: Principal, now: datetime) -> AlertSession:
    """Dismiss an alert as not worth a word: nobody is told. Returns and raises as `resolve` does."""
    session = store.close(alert_id, AlertStatus.DISMISSED, note=reason, actor=actor, by=by, now=now)
    log.info("alert_dismissed", alert_id=alert_id, actor=actor, authenticated_as=by.credential)
    return session
