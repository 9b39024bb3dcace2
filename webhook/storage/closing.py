"""The end of alerts: their state, their history, who did it, and the word to whoever was told that they fired."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.access import SYSTEM_PRINCIPAL, Principal
from webhook.domain.action import DismissReason
from webhook.domain.alert import AlertSession, AlertStatus, CommentType, NotificationStatus, NotifyReason, SessionStatus
from webhook.storage.access_tables import audit_log
from webhook.storage.audit import audit_row
from webhook.storage.flapping import held_back
from webhook.storage.tables import alert_comment, alert_dynamic, notification
from webhook.storage.telling import tell_ends


@dataclass(frozen=True, slots=True)
class Closing:
    """RESOLVED or DISMISSED, by whom and why. `actor` is who they say they are, `by` who was let in: none is us.

    Not `told`: nobody knows that it ended, so nobody hears that it did.
    """

    status: AlertStatus
    note: str
    actor: str
    by: Principal | None
    now: datetime
    dismiss_reason: DismissReason | None = None
    feedback: str = ""
    told: bool = True

    @property
    def verb(self) -> str:
        return self.status.value.lower()


def close_alerts(connection: sa.Connection, sessions: Sequence[AlertSession], closing: Closing) -> None:
    """Close active sessions that were read under lock.

    Once a person has spoken, no message that is still unsent goes out. The end of a resolved alert is told to those
    who were told of it, that of a dismissed one to nobody. While its condition flaps, an end that the system found is
    told only when that is over.
    """
    alert_ids = [session.alert_id for session in sessions]
    if not alert_ids:
        return
    _write_state(connection, alert_ids, closing)
    withdrawn = _withdraw(connection, alert_ids) if closing.by is not None else {}
    comment_ids = {alert_id: str(uuid4()) for alert_id in alert_ids}
    comments = [_comment(alert_id, comment_id, closing) for alert_id, comment_id in comment_ids.items()]
    audits = [_audit(session, withdrawn.get(session.alert_id, []), closing) for session in sessions]
    connection.execute(sa.insert(alert_comment), comments)
    connection.execute(sa.insert(audit_log), audits)
    if closing.status is AlertStatus.RESOLVED and closing.told:
        held = held_back(connection, sessions) if closing.by is None else set()
        told = {alert_id: comment_id for alert_id, comment_id in comment_ids.items() if alert_id not in held}
        tell_ends(connection, told, closing.now)


def _write_state(connection: sa.Connection, alert_ids: Sequence[str], closing: Closing) -> None:
    d = alert_dynamic.c
    connection.execute(
        sa.update(alert_dynamic)
        .where(d.alert_id.in_(alert_ids))
        .values(
            status=closing.status.value,
            session_status=SessionStatus.RESOLVED.value,
            resolved_at=closing.now,
            resolved_by=closing.actor,
            authenticated_as=closing.by and closing.by.credential,
            resolution_note=closing.note or None,
            dismiss_reason=closing.dismiss_reason,
            feedback=closing.feedback or None,
            version=d.version + 1,
            updated_at=closing.now,
        )
    )


def _withdraw(connection: sa.Connection, alert_ids: Sequence[str]) -> dict[str, list[str]]:
    """Delete what waits to be sent; return `<channel>:<reason>` of each by alert id. What is being sent goes on."""
    n = notification.c
    waiting = sa.delete(notification).where(
        n.alert_id.in_(alert_ids),
        n.status == NotificationStatus.PENDING.value,
        n.reason != NotifyReason.DIGEST.value,  # it tells of other alerts too
    )
    withdrawn: defaultdict[str, list[str]] = defaultdict(list)
    for row in connection.execute(waiting.returning(n.alert_id, n.channel_type, n.reason)):
        withdrawn[row.alert_id].append(f"{row.channel_type}:{row.reason}")
    return withdrawn


def _comment(alert_id: str, comment_id: str, closing: Closing) -> dict[str, Any]:
    because = f": {closing.note}" if closing.note else ""
    return {
        "id": comment_id,
        "alert_id": alert_id,
        "comment_type": CommentType.SYSTEM_LOG.value,
        "content": f"Alert {closing.verb} by {closing.actor}{because}",
        "metadata": {"action": closing.verb, "note": closing.note},
        "created_by": closing.actor,
        "created_at": closing.now,
    }


def _audit(session: AlertSession, withdrawn: Sequence[str], closing: Closing) -> dict[str, Any]:
    by = replace(closing.by or SYSTEM_PRINCIPAL, name=closing.actor)
    details = {
        "note": closing.note,
        "from": AlertStatus.ACTIVE.value,
        "to": closing.status.value,
        "withdrawn": list(withdrawn),
    }
    return audit_row(
        by,
        f"alert_{closing.verb}",
        closing.now,
        account_id=session.account_id,
        alert_id=session.alert_id,
        details=details,
    )
