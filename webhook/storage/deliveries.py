"""Messages as the pages list them: each with its alert, and with what it was to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import NotificationStatus
from webhook.domain.severity import Severity
from webhook.storage.queries import before_place, notification_conditions
from webhook.storage.records import NotificationFilter, NotificationRecord, Place
from webhook.storage.tables import alert, notification


@dataclass(frozen=True, slots=True)
class Delivery:
    """`metrics`, `thresholds`, `severity` and `occurrences` are of the moment at which the message was decided."""

    sent: NotificationRecord
    title: str
    merchant_name: str
    severity: Severity | None
    occurrences: int | None
    metrics: Mapping[str, float]
    thresholds: Mapping[str, float]


def list_deliveries(
    connection: sa.Connection, wanted: NotificationFilter, limit: int, before: Place | None = None
) -> list[Delivery]:
    """Newest first."""
    n, a = notification.c, alert.c
    own = [n[name] for name in NotificationRecord.__slots__]
    statement = (
        sa.select(*own, n.content, a.title, a.merchant_name)
        .select_from(notification.join(alert))
        .where(*notification_conditions(wanted), *before_place(notification, before))
        .order_by(n.created_at.desc(), n.id.desc())
        .limit(limit)
    )
    return [_delivery(row) for row in connection.execute(statement).mappings()]


def count_deliveries(connection: sa.Connection, wanted: NotificationFilter) -> int:
    query = sa.select(sa.func.count()).select_from(notification).where(*notification_conditions(wanted))
    return connection.scalar(query) or 0


def _delivery(row: sa.RowMapping) -> Delivery:
    told = row["content"] if isinstance(row["content"], Mapping) else {}
    fields: dict[str, Any] = {name: row[name] for name in NotificationRecord.__slots__}
    count, severity = told.get("occurrence_count"), str(told.get("severity", ""))
    return Delivery(
        sent=NotificationRecord(**fields | {"status": NotificationStatus(row["status"])}),
        title=row["title"],
        merchant_name=row["merchant_name"],
        severity=Severity(severity) if severity in set(Severity) else None,
        occurrences=count if isinstance(count, int) else None,
        metrics=_numbers(told.get("metrics")),
        thresholds=_numbers(told.get("thresholds")),
    )


def _numbers(values: object) -> dict[str, float]:
    """What of `values` is a number by name: contents may be older than we are."""
    if not isinstance(values, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
