"""What people have done about an alert, as messages show it."""

from __future__ import annotations

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus
from webhook.domain.message import Attention
from webhook.storage.tables import alert_dynamic

ATTENTION = (
    alert_dynamic.c.acknowledged_by,
    alert_dynamic.c.snoozed_by,
    alert_dynamic.c.snoozed_until,
    alert_dynamic.c.resolved_by,
    alert_dynamic.c.authenticated_as,
    alert_dynamic.c.resolution_note,
)
"""The columns that `attention_of` reads."""


def attention_of(row: sa.RowMapping) -> Attention:
    """Of a row with the columns ATTENTION and the alert's status as `alert_status`."""
    by_person = row["authenticated_as"] is not None
    return Attention(
        acknowledged_by=row["acknowledged_by"] or "",
        snoozed_by=row["snoozed_by"] or "",
        snoozed_until=row["snoozed_until"],
        closed_by=(row["resolved_by"] or "") if by_person else "",
        closing_note=(row["resolution_note"] or "") if by_person else "",
        dismissed=row["alert_status"] == AlertStatus.DISMISSED.value,
    )
