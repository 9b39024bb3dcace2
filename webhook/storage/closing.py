"""The end of an alert: its state, its history, who did it, and the word to whoever was told that it fired."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.alert import AlertSession, AlertStatus, CommentType
from webhook.domain.session import closed
from webhook.storage.announcements import announce_end
from webhook.storage.sessions import session_values
from webhook.storage.tables import alert_comment, alert_dynamic, audit_log


def close_alert(
    connection: sa.Connection, session: AlertSession, status: AlertStatus, *, note: str, actor: str, now: datetime
) -> AlertSession:
    """Resolve or dismiss a session read under lock; raise IllegalChange where it is not active.

    `actor` is `system` when no person acts. A resolved alert is announced, a dismissed one is not.
    """
    after = closed(session, status, now)
    by = {"resolved_by": actor, "resolution_note": note or None}
    connection.execute(
        sa.update(alert_dynamic)
        .where(alert_dynamic.c.alert_id == after.alert_id)
        .values(**session_values(after, now), **by)
    )
    verb = status.value.lower()
    connection.execute(
        sa.insert(alert_comment).values(
            id=str(uuid4()),
            alert_id=after.alert_id,
            comment_type=CommentType.SYSTEM_LOG.value,
            content=f"Alert {verb} by {actor}" + (f": {note}" if note else ""),
            metadata={"action": verb, "note": note},
            created_by=actor,
            created_at=now,
        )
    )
    connection.execute(
        sa.insert(audit_log).values(
            id=str(uuid4()),
            actor=actor,
            action=f"alert_{verb}",
            alert_id=after.alert_id,
            details={"note": note, "from": session.status.value, "to": status.value},
            created_at=now,
        )
    )
    if status is AlertStatus.RESOLVED:
        announce_end(connection, after, now)
    return after
