"""The outbox: notification rows are claimed with a lease, sent by the caller, then recorded.

PENDING → SENDING (lease) → SENT, or back to PENDING until a later time, or FAILED (dead letter, kept and shown on the
alert's page). A worker that dies while it holds a lease leaves the row claimable when the lease ends, so a message may
go out twice. One that takes its worker down MAX_LOST_LEASES times in a row is a dead letter too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotificationStatus, NotifyReason
from webhook.domain.message import Note, Summary
from webhook.domain.severity import Severity
from webhook.ports import Receipt, StoreUnavailable
from webhook.storage.database import Database
from webhook.storage.receipts import BOUNCED
from webhook.storage.tables import alert, alert_dynamic, notification

MAX_LOST_LEASES = 5
_PENDING, _SENDING = NotificationStatus.PENDING.value, NotificationStatus.SENDING.value
_OWNER_LENGTH, _TOKEN_LENGTH = 47, 16  # of the 64 characters that the column holds, with a slash between them
_REFERENCE_LENGTH = 255
_DIED = "the worker died or hung while sending"


class Outbox:
    """Any number of workers may claim from one store; each claim has a lease of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, limit: int, owner: str, now: datetime, lease: timedelta) -> list[Note]:
        """Lease up to `limit` due notifications: the gravest first, then the oldest. `owner` is for people who look.

        Of one alert and channel only the earliest unsent one can be claimed, so order is kept.
        """
        lease_name = f"{owner[:_OWNER_LENGTH]}/{uuid4().hex[:_TOKEN_LENGTH]}"
        asked = {"now": now, "limit": limit}
        with self._database.read() as connection:
            if connection.execute(_ripe(), {"now": now}).first() is None:
                return []
            if connection.execute(_due(), asked | {"limit": 1}).first() is None:
                return []
        with self._database.write() as connection:
            claimed = connection.scalars(_due(lock=True), asked).all()
            if not claimed:
                return []
            lost = sa.case((notification.c.status == _SENDING, 1), else_=0)
            connection.execute(
                sa.update(notification)
                .where(notification.c.id.in_(claimed))
                .values(
                    status=_SENDING,
                    lease_owner=lease_name,
                    lease_until=now + lease,
                    retry_count=notification.c.retry_count + lost,
                    lost_leases=notification.c.lost_leases + lost,
                )
            )
            notes = _notes(connection, claimed)
            self._bury_unreadable(connection, set(claimed) - {note.notification_id for note in notes}, now)
            return notes

    def record_sent(self, note: Note, receipt: Receipt, summary: Summary, now: datetime) -> bool:
        """Status SENT, the provider's answer, when people were last told, and the words they got.

        False when the lease was lost meanwhile; then another worker answers for the row. Raises StoreUnavailable.
        """
        try:
            return self._record_sent(note, receipt, summary, now)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise StoreUnavailable(type(getattr(error, "orig", None) or error).__name__) from error

    def _record_sent(self, note: Note, receipt: Receipt, summary: Summary, now: datetime) -> bool:
        details = {"reference": receipt.reference, **receipt.details}
        reference = receipt.reference[:_REFERENCE_LENGTH] or None
        with self._database.write() as connection:
            sent = {**_outcome(connection, note, now), "sent_at": now, "provider_reference": reference}
            ours = _finish(connection, note, {"provider": details}, **sent)
            if ours:
                _tell(connection, note, summary, now)
        return ours

    def record_failed(
        self, note: Note, error: str, now: datetime, *, retry_at: datetime | None, counted: bool = True
    ) -> bool:
        """Due again at `retry_at`; None: FAILED, a dead letter.

        `counted` is False where the provider only asked to wait. False is returned when the lease was lost.
        """
        tries = note.retry_count + (1 if counted else 0)
        if retry_at is None:
            changes: dict[str, Any] = {"status": NotificationStatus.FAILED.value, "failed_at": now}
        else:
            changes = {"status": _PENDING, "not_before": retry_at}
        with self._database.write() as connection:
            held = _finish(connection, note, {}, error_message=error, retry_count=tries, lost_leases=0, **changes)
            _withdraw_dismissed(connection)
            return held

    def record_chart(self, note: Note, outcome: Mapping[str, Any]) -> None:
        """What became of the chart, beside the provider's answer; the text's status stays as it is."""
        with self._database.write() as connection:
            kept = _metadata(connection, note.notification_id)
            connection.execute(
                sa.update(notification)
                .where(notification.c.id == note.notification_id)
                .values({"metadata": {**kept, "chart": dict(outcome)}})
            )

    def release_expired(self, now: datetime) -> int:
        """Give up leases that ran out: due again at once, or FAILED after too many in a row. Return how many."""
        expired = sa.and_(notification.c.status == _SENDING, notification.c.lease_until < now)
        last_try = notification.c.lost_leases + 1 >= MAX_LOST_LEASES
        freed = {
            "lease_owner": None,
            "lease_until": None,
            "retry_count": notification.c.retry_count + 1,
            "lost_leases": notification.c.lost_leases + 1,
            "error_message": _DIED,
        }
        with self._database.read() as connection:
            if connection.execute(sa.select(notification.c.id).where(expired).limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            dead = connection.execute(
                sa.update(notification)
                .where(expired, last_try)
                .values(status=NotificationStatus.FAILED.value, failed_at=now, **freed)
            )
            again = connection.execute(sa.update(notification).where(expired).values(status=_PENDING, **freed))
            _withdraw_dismissed(connection)
            return dead.rowcount + again.rowcount

    def depth(self) -> dict[str, int]:
        """How many notifications there are in each status that is not an end, and dead letters."""
        open_ones = (_PENDING, _SENDING, NotificationStatus.FAILED.value)
        query = (
            sa.select(notification.c.status, sa.func.count().label("number"))
            .where(notification.c.status.in_(open_ones))
            .group_by(notification.c.status)
        )
        with self._database.read() as connection:
            return dict.fromkeys(open_ones, 0) | {row.status: row.number for row in connection.execute(query)}

    def _bury_unreadable(self, connection: sa.Connection, ids: Collection[str], now: datetime) -> None:
        """Rows that nobody can read do not hold up the others."""
        if ids:
            connection.execute(
                sa.update(notification)
                .where(notification.c.id.in_(ids))
                .values(
                    status=NotificationStatus.FAILED.value,
                    failed_at=now,
                    lease_owner=None,
                    lease_until=None,
                    error_message="the content of this row cannot be read",
                )
            )


# Built once: an idle worker asks ten times a second, and building takes longer than asking.
@cache
def _ripe() -> sa.Select[int]:
    """Whether any time has come, be it for a row that has to wait for another: one look into an index."""
    return sa.select(sa.literal(1)).select_from(notification).where(_ready()).limit(1)


@cache
def _due(*, lock: bool = False) -> sa.Select[str]:
    """Parameters: `now`, `limit`."""
    n, earlier = notification.c, notification.alias("earlier")
    unsent_before = sa.exists().where(
        earlier.c.alert_id == n.alert_id,
        earlier.c.channel_type == n.channel_type,
        earlier.c.status.in_((_PENDING, _SENDING)),
        # Told in one instant: the milder first, as severity rises.
        sa.tuple_(earlier.c.created_at, earlier.c.priority, earlier.c.id) < sa.tuple_(n.created_at, n.priority, n.id),
    )
    due = (
        sa.select(n.id)
        .where(_ready(), ~unsent_before)
        .order_by(n.priority.desc(), n.created_at, n.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
    return due.with_for_update(skip_locked=True, of=notification) if lock else due


def _ready() -> sa.ColumnElement[bool]:
    n, now = notification.c, sa.bindparam("now", type_=notification.c.not_before.type)
    return sa.and_(
        n.status.in_((_PENDING, _SENDING)),
        sa.or_(
            sa.and_(n.status == _PENDING, n.not_before <= now),
            sa.and_(n.status == _SENDING, n.lease_until < now, n.lost_leases + 1 < MAX_LOST_LEASES),
        ),
    )


def _withdraw_dismissed(connection: sa.Connection) -> None:
    """What was being sent when a person dismissed its alert is not tried again."""
    dismissed = sa.select(alert_dynamic.c.alert_id).where(
        alert_dynamic.c.alert_id == notification.c.alert_id, alert_dynamic.c.status == AlertStatus.DISMISSED.value
    )
    connection.execute(sa.delete(notification).where(notification.c.status == _PENDING, dismissed.exists()))


def _finish(
    connection: sa.Connection,
    note: Note,
    metadata: Mapping[str, Any],
    **changes: Any,  # noqa: ANN401 - column values
) -> bool:
    """End the lease that came with the note; False when it was not held any more."""
    kept = _metadata(connection, note.notification_id)
    result = connection.execute(
        sa.update(notification)
        .where(
            notification.c.id == note.notification_id,
            notification.c.status == _SENDING,
            notification.c.lease_owner == note.lease,
        )
        .values({"lease_owner": None, "lease_until": None, "metadata": {**kept, **metadata}, **changes})
    )
    return result.rowcount == 1


def _outcome(connection: sa.Connection, note: Note, now: datetime) -> dict[str, Any]:
    """SENT, unless the provider has told more of it already."""
    n = notification.c
    query = sa.select(n.delivered_at, n.metadata).where(n.id == note.notification_id).with_for_update()
    known = connection.execute(query).first()
    if known is None or (BOUNCED not in known.metadata and known.delivered_at is None):
        return {"status": NotificationStatus.SENT.value}
    if BOUNCED in known.metadata:
        return {"status": NotificationStatus.FAILED.value, "failed_at": now, "error_message": known.metadata[BOUNCED]}
    return {"status": NotificationStatus.DELIVERED.value}


def _metadata(connection: sa.Connection, notification_id: str) -> dict[str, Any]:
    query = sa.select(notification.c.metadata).where(notification.c.id == notification_id).with_for_update()
    return dict(connection.scalar(query) or {})


def _tell(connection: sa.Connection, note: Note, summary: Summary, now: datetime) -> None:
    """Keep what people were told last, for the pages. An alert that ended keeps the title of the attack."""
    connection.execute(
        sa.update(alert_dynamic)
        .where(alert_dynamic.c.alert_id == note.alert_id)
        .values(last_notified_at=now, version=alert_dynamic.c.version + 1, updated_at=now)
    )
    query = sa.select(alert.c.metadata).where(alert.c.id == note.alert_id).with_for_update()
    kept = dict(connection.scalar(query) or {})
    decided_at = note.created_at.isoformat()
    if decided_at < kept.get("summary_of", ""):
        return  # a slower channel tells late what another has told long ago
    words: dict[str, Any] = {
        "summary": summary.text,
        "suggested_action": summary.suggested_action,
        "metadata": {**kept, "summary_source": summary.source, "summary_of": decided_at},
        "updated_at": now,
    }
    if note.reason is not NotifyReason.RESOLVED:
        words["title"] = summary.title
    connection.execute(sa.update(alert).where(alert.c.id == note.alert_id).values(words))


def _notes(connection: sa.Connection, ids: Sequence[str]) -> list[Note]:
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
        )
        .join(alert, alert.c.id == n.alert_id)
        .join(alert_dynamic, alert_dynamic.c.alert_id == n.alert_id)
        .where(n.id.in_(ids))
    )
    rows = {row["id"]: row for row in connection.execute(query).mappings()}
    sent = _sent(connection, {row["alert_id"] for row in rows.values()})
    return [note for id_ in ids if id_ in rows and (note := _note(rows[id_], sent)) is not None]


def _sent(connection: sa.Connection, alert_ids: Collection[str]) -> list[sa.RowMapping]:
    """What went out about these alerts, the last first."""
    n = notification.c
    query = (
        sa.select(n.alert_id, n.channel_type, n.content, n.metadata)
        .where(n.alert_id.in_(alert_ids), n.sent_at.is_not(None))
        .order_by(n.sent_at.desc(), n.created_at.desc())
    )
    return list(connection.execute(query).mappings())


def _note(row: sa.RowMapping, sent: Sequence[sa.RowMapping]) -> Note | None:
    try:
        return _read(row, sent)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _read(row: sa.RowMapping, sent: Sequence[sa.RowMapping]) -> Note:
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
        metrics=_numbers(content.get("metrics", row["latest_metrics"])),
        thresholds=_numbers(content.get("thresholds")),
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
