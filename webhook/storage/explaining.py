"""What is stored about one alert, for its explanation."""

from __future__ import annotations

import sqlalchemy as sa

from webhook.domain.explanation import AlertFacts, Step, StepKind
from webhook.storage.queries import within
from webhook.storage.tables import alert, alert_comment, alert_trigger_log, notification

MOST_TRIGGERS = 400


def read_facts(connection: sa.Connection, alert_id: str, accounts: frozenset[str] | None = None) -> AlertFacts | None:
    """None where there is no such alert among `accounts` (None: all)."""
    query = sa.select(alert.c.account_id, alert.c.alert_type).where(alert.c.id == alert_id)
    found = connection.execute(query.where(*within(alert.c.account_id, accounts))).first()
    if found is None:
        return None
    log, c, n = alert_trigger_log.c, alert_comment.c, notification.c
    triggers = sa.select(log.created_at, log.id, log.alert_name, log.outcome, log.outcome_reason, log.notify)
    triggers = triggers.where(log.alert_id == alert_id).order_by(log.created_at, log.id).limit(MOST_TRIGGERS)
    comments = sa.select(c.created_at, c.id, c.content).where(c.alert_id == alert_id, c.comment_type != "TRIGGER_EVENT")
    sent = sa.select(n.created_at, n.id, n.channel_type, n.reason, n.status).where(n.alert_id == alert_id)
    steps = [
        Step(row[0], StepKind.FIRED, f"{row[2]}: {row[3]}", {"trigger_id": row[1], "reason": row[4], "notify": row[5]})
        for row in connection.execute(triggers)
    ]
    steps += [Step(row[0], StepKind.NOTED, row[2], {"comment_id": row[1]}) for row in connection.execute(comments)]
    steps += [
        Step(row[0], StepKind.NOTIFIED, f"{row[2]}: {row[3]}", {"notification_id": row[1], "status": row[4]})
        for row in connection.execute(sent)
    ]
    total = connection.scalar(sa.select(sa.func.count()).where(log.alert_id == alert_id)) or 0
    return AlertFacts(alert_id, found.account_id, found.alert_type, steps, max(0, total - MOST_TRIGGERS))
