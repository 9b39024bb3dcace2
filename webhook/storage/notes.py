"""Claimed rows as the notes that leave the outbox."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotifyReason
from webhook.domain.message import Companion, Note
from webhook.domain.severity import Severity
from webhook.storage.attention import ATTENTION, attention_of
from webhook.storage.tables import alert, alert_dynamic, notification


def read_notes(
    connection: sa.Connection, ids: Sequence[str], groups: Mapping[str, Sequence[Companion]] | None = None
) -> list[Note]:
    """In the order of `ids`, without those that cannot be read; `groups`: whom each tells of beside itself."""
    n = notification.c
    query = (
        sa.select(
            notification,
            alert.c.merchant_name,
            alert_dynamic.c.current_severity,
            alert_dynamic.c.status.label("alert_status"),
            alert_dynamic.c.latest_metrics,
            alert_dynamic.c.occurrence_count,
            alert_dynamic.c.first_triggered_at,
            alert_dynamic.c.last_triggered_at,
            alert_dynamic.c.resolved_at,
            alert_dynamic.c.version,
            *ATTENTION,
        )
        .join(alert, alert.c.id == n.alert_id)
        .join(alert_dynamic, alert_dynamic.c.alert_id == n.alert_id)
        .where(n.id.in_(ids))
    )
    rows = {row["id"]: row for row in connection.execute(query).mappings()}
    sent = _sent(connection, {row["alert_id"] for row in rows.values()})
    of = groups or {}
    return [note for id_ in ids if id_ in rows and (note := _note(rows[id_], sent, tuple(of.get(id_, ())))) is not None]


def _sent(connection: sa.Connection, alert_ids: Collection[str]) -> list[sa.RowMapping]:
    """What went out about these alerts, of each place the last that has an answer of its provider."""
    return list(connection.execute(_last_sent(), {"alert_ids": list(alert_ids)}).mappings())


@cache
def _last_sent() -> sa.Select[Any]:
    n = notification.c
    last_first = (n.sent_at.desc(), n.created_at.desc())
    place = (n.alert_id, n.channel_type, n.target)
    ids = n.alert_id.in_(sa.bindparam("alert_ids", expanding=True, type_=n.alert_id.type))
    nth = sa.func.row_number().over(partition_by=place, order_by=last_first).label("nth")
    answered = n.metadata["provider"].as_string().is_not(None)
    sent = sa.select(n.id, nth).where(ids, n.sent_at.is_not(None), answered).subquery("sent")
    query = sa.select(n.alert_id, n.channel_type, n.content, n.metadata).join(sent, sent.c.id == n.id)
    return query.where(sent.c.nth == 1).order_by(*last_first)


def _note(row: sa.RowMapping, sent: Sequence[sa.RowMapping], companions: tuple[Companion, ...]) -> Note | None:
    try:
        return _read(row, sent, companions)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _read(row: sa.RowMapping, sent: Sequence[sa.RowMapping], companions: tuple[Companion, ...]) -> Note:
    """The content as it was decided; what it does not say is read from the alert as it stands."""
    content: Mapping[str, Any] = row["content"]
    return Note(
        notification_id=row["id"],
        alert_id=row["alert_id"],
        account_id=row["account_id"],
        merchant_name=content.get("merchant_name") or row["merchant_name"],
        alert_type=row["alert_type"],
        severity=Severity(content.get("severity", row["current_severity"])),
        status=AlertStatus(content.get("status", row["alert_status"])),
        reason=NotifyReason(row["reason"]),
        rule_summary=str(content.get("rule_summary") or ""),
        rule_description=str(content.get("rule_description") or ""),
        metrics=_numbers(content.get("metrics", row["latest_metrics"])),
        thresholds=_numbers(content.get("thresholds")),
        operators={name: str(sign) for name, sign in (content.get("operators") or {}).items()},
        occurrence_count=int(content.get("occurrence_count", row["occurrence_count"])),
        first_triggered_at=_time(content, row, "first_triggered_at"),
        last_triggered_at=_time(content, row, "last_triggered_at"),
        resolved_at=_time(content, row, "resolved_at"),
        channel_type=row["channel_type"],
        channel_settings=content.get("channel_settings") or {},
        retry_count=row["retry_count"],
        created_at=row["created_at"],
        lease=row["lease_owner"] or "",
        peaks=_numbers(content.get("peaks")),
        replayed_at=row["replayed_at"],
        told_before=_told_before(row, sent),
        attention=attention_of(row),
        comment=str(content.get("comment") or ""),
        comment_by=str(content.get("comment_by") or ""),
        runbook_url=str(content.get("runbook_url") or ""),
        maybe_repeated=row["maybe_repeated"],
        companions=companions,
        digest=content.get("digest"),
        target=row["target"],
        version=row["version"],
    )


def _told_before(row: sa.RowMapping, sent: Sequence[sa.RowMapping]) -> Mapping[str, Any] | None:
    """The provider's answer, where the channel had the same settings: another address knows nothing of it."""

    def place(message: sa.RowMapping) -> tuple[Any, ...]:
        return message["alert_id"], message["channel_type"], message["content"].get("channel_settings") or {}

    answers = (earlier["metadata"].get("provider") for earlier in sent if place(earlier) == place(row))
    return next((answer for answer in answers if answer is not None), None)


def _numbers(values: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (values or {}).items()}


def _time(content: Mapping[str, Any], row: sa.RowMapping, name: str) -> Any:  # noqa: ANN401 - a nullable column
    told = content.get(name)
    return datetime.fromisoformat(told) if told else row[name]
