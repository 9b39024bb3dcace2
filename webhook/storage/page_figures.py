"""What the page of statistics shows beside `period_statistics`: each a statement on an index of the period's start."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import NotificationStatus
from webhook.domain.severity import Severity
from webhook.storage.access_tables import audit_log
from webhook.storage.queries import within
from webhook.storage.statistics import Period
from webhook.storage.tables import alert, alert_dynamic, notification


@dataclass(frozen=True, slots=True)
class PageFigures:
    """Of alerts opened, and messages decided, in the period. `seconds_to_act`: until a person first did something."""

    by_severity: Mapping[Severity, int]
    messages: Mapping[str, Mapping[NotificationStatus, int]]
    seconds_to_act: Sequence[float]


def page_figures(connection: sa.Connection, period: Period) -> PageFigures:
    return PageFigures(
        by_severity=_by_severity(connection, period),
        messages=_messages(connection, period),
        seconds_to_act=_seconds_to_act(connection, period),
    )


def _by_severity(connection: sa.Connection, period: Period) -> dict[Severity, int]:
    """The highest severity that each alert reached."""
    a, d = alert.c, alert_dynamic.c
    opened = [*period.of(a.created_at), *within(a.account_id, period.accounts)]
    query = (
        sa.select(d.current_severity, sa.func.count())
        .select_from(alert.join(alert_dynamic))
        .where(*opened)
        .group_by(d.current_severity)
    )
    counts = {row[0]: row[1] for row in connection.execute(query)}
    return {severity: counts.get(severity.value, 0) for severity in Severity}


def _messages(connection: sa.Connection, period: Period) -> dict[str, dict[NotificationStatus, int]]:
    """By channel, the one with most messages first."""
    n = notification.c
    query = (
        sa.select(n.channel_type, n.status, sa.func.count())
        .where(*within(n.account_id, period.accounts), *period.of(n.created_at))
        .group_by(n.channel_type, n.status)
        .order_by(n.channel_type)
    )
    found: defaultdict[str, dict[NotificationStatus, int]] = defaultdict(dict)
    for channel, status, count in connection.execute(query):
        found[channel][NotificationStatus(status)] = count
    return dict(sorted(found.items(), key=lambda item: -sum(item[1].values())))


def _seconds_to_act(connection: sa.Connection, period: Period) -> list[float]:
    """The audit log knows what people did; what the system closed has no credential there. In order."""
    a, log = alert.c, audit_log.c
    first: sa.Function[Any] = sa.func.min(log.created_at, type_=log.created_at.type)
    query = (
        sa.select(a.created_at, first)
        .select_from(audit_log.join(alert, a.id == log.alert_id))
        .where(
            log.created_at >= period.since,
            log.authenticated_as != "",
            *within(log.account_id, period.accounts),
            *period.of(a.created_at),
        )
        .group_by(a.id, a.created_at)
    )
    return sorted((acted - opened).total_seconds() for opened, acted in connection.execute(query))
