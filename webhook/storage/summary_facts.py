"""What the store knows around an alert that is to be explained: its prompt template, language, and earlier alerts."""

from __future__ import annotations

import re
from datetime import timedelta

import sqlalchemy as sa

from webhook.domain.circumstances import (
    DEFAULT_LANGUAGE,
    HISTORY_DAYS,
    LANGUAGE_TAG,
    Circumstances,
    EarlierAlerts,
    Template,
)
from webhook.domain.message import Note
from webhook.domain.severity import Severity
from webhook.storage.database import Database
from webhook.storage.tables import alert, alert_config, alert_dynamic, alert_template

ANY_TYPE = "default"
"""The template of the types that have none of their own."""


class SummaryFacts:
    """Reads; see `webhook.pipeline.surroundings.Facts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def around(self, note: Note) -> Circumstances:
        with self._database.read() as connection:
            return Circumstances(
                language=_language(connection, note.account_id, note.alert_type),
                template=_template(connection, note.alert_type),
                earlier=_earlier(connection, note),
            )


def _template(connection: sa.Connection, alert_type: str) -> Template | None:
    t = alert_template.c
    query = (
        sa.select(t.id, t.prompt_template, t.version)
        .where(t.alert_type.in_({alert_type, ANY_TYPE}), t.is_active)
        .order_by(sa.case((t.alert_type == alert_type, 0), else_=1), t.version.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else Template(row.prompt_template, row.id, row.version)


def _language(connection: sa.Connection, account_id: str, alert_type: str) -> str:
    """As the configuration of this alert type says, else the one that was changed last of those that say one."""
    c = alert_config.c
    query = (
        sa.select(c.notification_settings)
        .where(c.account_id == account_id)
        .order_by(sa.case((c.alert_type == alert_type, 0), else_=1), c.updated_at.desc())
    )
    for settings in connection.scalars(query):
        tag = str((settings or {}).get("language") or "")
        if re.match(LANGUAGE_TAG, tag):
            return tag
    return DEFAULT_LANGUAGE


def _earlier(connection: sa.Connection, note: Note) -> EarlierAlerts:
    since = note.first_triggered_at - timedelta(days=HISTORY_DAYS)
    before = (
        alert.c.account_id == note.account_id,
        alert.c.alert_type == note.alert_type,
        alert.c.created_at >= since,
        alert.c.created_at < note.first_triggered_at,
        alert.c.id != note.alert_id,
    )
    number = connection.scalar(sa.select(sa.func.count()).select_from(alert).where(*before)) or 0
    if not number:
        return EarlierAlerts()
    d = alert_dynamic.c
    latest = (
        sa.select(d.first_triggered_at, d.current_severity, d.status)
        .join(alert, alert.c.id == d.alert_id)
        .where(*before)
        .order_by(alert.c.created_at.desc(), alert.c.id.desc())
        .limit(1)
    )
    row = connection.execute(latest).one()
    return EarlierAlerts(number, row.first_triggered_at, Severity(row.current_severity), row.status.lower())
