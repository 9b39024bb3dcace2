"""Messages that went out, recorded together: their rows, when people were last told, and the words they got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from webhook.domain.alert import NotificationStatus, NotifyReason
from webhook.domain.gathered import is_gathered
from webhook.domain.message import Note, Summary
from webhook.ports import Receipt
from webhook.storage.tables import alert, alert_dynamic, notification

_ASIDE = (NotifyReason.DIGEST, NotifyReason.MENTION)


class Sent(NamedTuple):
    note: Note
    receipt: Receipt
    summary: Summary
    now: datetime
    kept: Mapping[str, Any]


def record(connection: sa.Connection, sent: Sequence[Sent]) -> list[bool]:
    """For each whether it was ours to record: False where the lease was lost."""
    told = sorted({one.note.alert_id for one in sent} | {c.alert_id for one in sent for c in one.note.companions})
    _lock_alerts(connection, told)
    rows = _rows(connection, [one.note.notification_id for one in sent])
    held = {(id_, row["lease_owner"]) for id_, row in rows.items()}
    was_ours = [(one.note.notification_id, one.note.lease) in held for one in sent]
    ours = [one for one, was in zip(sent, was_ours, strict=True) if was]
    if ours:
        _finish(connection, ours, rows)
        _finish_companions(connection, [one for one in ours if one.note.companions])
        _tell(connection, ours)
    return was_ours


def _lock_alerts(connection: sa.Connection, alert_ids: Sequence[str]) -> None:
    """In the order that all keep to, so that nobody waits in a ring."""
    d = alert_dynamic.c
    query = sa.select(d.id).where(d.alert_id.in_(alert_ids))
    connection.execute(query.order_by(d.condition_fingerprint, d.last_triggered_at, d.id).with_for_update()).all()


def _rows(connection: sa.Connection, ids: Sequence[str]) -> dict[str, sa.RowMapping]:
    n = notification.c
    query = (
        sa.select(n.id, n.lease_owner, n.metadata)
        .where(n.id.in_(ids), n.status == NotificationStatus.SENDING.value)
        .order_by(n.id)
        .with_for_update()
    )
    return {row["id"]: row for row in connection.execute(query).mappings()}


def _finish(connection: sa.Connection, ours: Sequence[Sent], rows: Mapping[str, sa.RowMapping]) -> None:
    names = ("status", "sent_at", "metadata")
    values = {name: sa.bindparam(f"new_{name}", type_=notification.c[name].type) for name in names}
    connection.execute(
        sa.update(notification)
        .where(notification.c.id == sa.bindparam("of_id", type_=notification.c.id.type))
        .values({"lease_owner": None, "lease_until": None, "error_message": None, **values}),
        [_finished(one, rows[one.note.notification_id]) for one in sorted(ours, key=lambda s: s.note.notification_id)],
    )


def _finished(one: Sent, row: sa.RowMapping) -> dict[str, Any]:
    answer = {"reference": one.receipt.reference, **one.receipt.details}
    # Under another name, so that no message about this alert alone takes the place of one about many.
    came = {"together": answer, "told": len(one.note.companions) + 1} if is_gathered(one.note) else {"provider": answer}
    return {
        "of_id": one.note.notification_id,
        "new_status": NotificationStatus.SENT.value,
        "new_sent_at": one.now,
        "new_metadata": {**row["metadata"], **one.kept, **came},
    }


def _finish_companions(connection: sa.Connection, leads: Sequence[Sent]) -> None:
    n = notification.c
    for one in leads:
        connection.execute(
            sa.update(notification)
            .where(n.group_id == one.note.notification_id, n.lease_owner == one.note.lease)
            .values(
                status=NotificationStatus.SENT.value,
                sent_at=one.now,
                lease_owner=None,
                lease_until=None,
                error_message=None,
            )
        )


def _tell(connection: sa.Connection, ours: Sequence[Sent]) -> None:
    """Keep what people were told last, for the pages. An alert that ended keeps the title of the attack.

    A digest tells of what is past, a mention of a comment: neither changes words, nor when the next message is due.
    """
    counted = [one for one in ours if one.note.reason not in _ASIDE]
    if not counted:
        return
    times: dict[str, datetime] = {}
    for one in counted:
        for alert_id in (one.note.alert_id, *(companion.alert_id for companion in one.note.companions)):
            times[alert_id] = max(one.now, times.get(alert_id, one.now))
    d = alert_dynamic.c
    connection.execute(
        sa.update(alert_dynamic)
        .where(d.alert_id == sa.bindparam("of_id", type_=d.alert_id.type))
        .values(last_notified_at=sa.bindparam("at"), version=d.version + 1, updated_at=sa.bindparam("at")),
        [{"of_id": alert_id, "at": at} for alert_id, at in sorted(times.items())],
    )
    _keep_words(connection, [one for one in counted if not one.note.companions])


def _keep_words(connection: sa.Connection, told: Sequence[Sent]) -> None:
    a = alert.c
    ids = sorted({one.note.alert_id for one in told})
    query = sa.select(a.id, a.metadata, a.title).where(a.id.in_(ids)).order_by(a.id).with_for_update()
    kept = {row.id: (dict(row.metadata or {}), row.title) for row in connection.execute(query)} if ids else {}
    changes: dict[str, dict[str, Any]] = {}
    for one in sorted(told, key=lambda s: s.note.created_at):
        metadata, title = kept[one.note.alert_id]
        decided_at = one.note.created_at.isoformat()
        if decided_at < metadata.get("summary_of", ""):
            continue  # a slower channel tells late what another has told long ago
        metadata |= {
            "summary_source": one.summary.source,
            "summary_of": decided_at,
            "model_severity": one.summary.opinion,
        }
        title = title if one.note.reason is NotifyReason.RESOLVED else one.summary.title
        kept[one.note.alert_id] = metadata, title
        changes[one.note.alert_id] = {
            "of_id": one.note.alert_id,
            "new_title": title,
            "new_summary": one.summary.text,
            "new_suggested_action": one.summary.suggested_action,
            "new_template_id": one.summary.template_id,
            "new_metadata": metadata,
            "new_updated_at": one.now,
        }
    if changes:
        names = ("title", "summary", "suggested_action", "template_id", "metadata", "updated_at")
        connection.execute(
            sa.update(alert)
            .where(a.id == sa.bindparam("of_id", type_=a.id.type))
            .values({name: sa.bindparam(f"new_{name}", type_=a[name].type) for name in names}),
            [changes[alert_id] for alert_id in sorted(changes)],
        )
