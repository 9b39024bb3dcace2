"""The outbox: notification rows are claimed with a lease, sent by the caller, then recorded.

PENDING → SENDING (lease) → SENT → DELIVERED where the provider tells so, or back to PENDING until a later time, or
FAILED (dead letter, kept and shown on the alert's page). Right before the provider is called, `begin` marks the row:
a lease that ends without that mark was lost before the send and is simply sent again; one with it may have reached the
provider, and goes out again as `maybe_repeated`. A message that takes its worker down MAX_LOST_LEASES times in a row
is a dead letter too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotificationStatus
from webhook.domain.message import Note, Summary
from webhook.domain.retrying import NextTry
from webhook.ports import Receipt, StoreUnavailable
from webhook.storage.claiming import MAX_LOST_LEASES, TELLS_MORE, Choice, anything_ripe, lease_rows, lost_lease
from webhook.storage.database import Database
from webhook.storage.notes import read_notes
from webhook.storage.pacing import Lease, Paces, free_from, pause
from webhook.storage.sent import Sent, record
from webhook.storage.sms_log import settle_early
from webhook.storage.tables import alert_dynamic, notification
from webhook.turns import Turns

_PENDING, _SENDING = NotificationStatus.PENDING.value, NotificationStatus.SENDING.value
_OWNER_LENGTH, _TOKEN_LENGTH = 47, 16  # of the 64 characters that the column holds, with a slash between them
NOTHING: Mapping[str, Any] = {}
_DIED = "the worker died or hung while sending"


class _Begun(NamedTuple):
    note: Note
    now: datetime


class Outbox:
    """Any number of workers may claim from one store; each claim has a lease of its own."""

    def __init__(self, database: Database, paces: Paces | None = None) -> None:
        self._database = database
        self._paces = paces or Paces()
        self._choice = Choice(self._paces)
        self._under_way = False
        self._beginning = Turns(self._begin)
        self._recording = Turns(self._record_sent)

    def claim(
        self, limit: int, owner: str, now: datetime, lease: timedelta, room: Mapping[str, int] | None = None
    ) -> list[Note]:
        """Lease up to `limit` messages that can go out now, of each channel in `room` no more than that.

        The gravest first, merchants in turn, then the oldest. `owner` is for people who look. Many that wait for one
        merchant in one place are one note with `companions`.
        """
        if not self._under_way:
            with self._database.read() as connection:
                if not anything_ripe(connection, now):
                    return []
        self._under_way = False
        lease_name = f"{owner[:_OWNER_LENGTH]}/{uuid4().hex[:_TOKEN_LENGTH]}"
        with self._database.write() as connection:
            chosen = self._choice.choose(connection, limit, room or {}, Lease(now, now + lease))
            if not chosen.ids:
                return []
            lease_rows(connection, chosen, lease_name, now + lease)
            groups = {lead: [companion for _, companion in group] for lead, group in chosen.groups.items()}
            notes = read_notes(connection, chosen.ids, groups)
            self._bury_unreadable(connection, set(chosen.ids) - {note.notification_id for note in notes}, now)
        self._under_way = bool(notes)  # more has come, most likely: to ask first would be a transaction too many
        return notes

    def begin(self, note: Note, now: datetime) -> bool:
        """Mark that the provider is about to be called; False when the lease was lost: then it must not be.

        Raises StoreUnavailable.
        """
        try:
            return self._beginning(_Begun(note, now))
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise _unavailable(error) from error

    def _begin(self, begun: Sequence[_Begun]) -> list[bool]:
        n, latest = notification.c, max(now for _, now in begun)
        leases = sorted({note.lease for note, _ in begun})
        ids = sorted({note.notification_id for note, _ in begun})
        mark = (
            sa.update(notification)
            .where(
                sa.or_(n.id.in_(ids), n.group_id.in_(ids)),
                n.status == _SENDING,
                n.lease_owner.in_(leases),
                n.lease_until > latest,
            )
            .values(handed_over_at=latest)
            .returning(n.id, n.lease_owner)
        )
        with self._database.write() as connection:
            marked = {(row.id, row.lease_owner) for row in connection.execute(mark)}
        return [(note.notification_id, note.lease) in marked for note, _ in begun]

    def record_sent(
        self,
        note: Note,
        receipt: Receipt,
        summary: Summary,
        now: datetime,
        kept: Mapping[str, Any] = NOTHING,
    ) -> bool:
        """Status SENT, the provider's answer and what else is `kept`, when people were last told, and their words.

        False when the lease was lost meanwhile; then another worker answers for the row. Raises StoreUnavailable.
        """
        try:
            return self._recording(Sent(note, receipt, summary, now, kept))
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise _unavailable(error) from error

    def _record_sent(self, sent: Sequence[Sent]) -> list[bool]:
        with self._database.write() as connection:
            between = self._paces.targets
            used = [one for one in sent if one.note.channel_type in between]
            free_from(connection, {one.note.target: one.now + between[one.note.channel_type] for one in used})
            recorded = record(connection, sent)
            if texts := [one.note.notification_id for one in sent if one.note.channel_type == "sms"]:
                settle_early(connection, texts, max(one.now for one in sent))
            return recorded

    def record_failed(self, note: Note, error: str, now: datetime, following: NextTry, *, unsure: bool = False) -> bool:
        """Due again when `following` says; never: FAILED, a dead letter. What is `unsure` may be a repeat next time.

        False is returned when the lease was lost. Raises StoreUnavailable.
        """
        changes: dict[str, Any] = {
            "error_message": error,
            "retry_count": note.retry_count + (1 if following.counted else 0),
            "maybe_repeated": note.maybe_repeated + (1 if unsure else 0),
        }
        if following.at is None:
            changes |= {"status": NotificationStatus.FAILED.value, "failed_at": now}
        else:
            changes |= {"status": _PENDING, "not_before": following.at}
        try:
            return self._record_failed(note, following, now, changes)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as failure:
            raise _unavailable(failure) from failure

    def _record_failed(self, note: Note, following: NextTry, now: datetime, changes: Mapping[str, Any]) -> bool:
        n = notification.c
        with self._database.write() as connection:
            between = self._paces.targets.get(note.channel_type)
            if between is not None:
                free_from(connection, {note.target: now + max(following.pause, between)})
            elif following.pause and not following.channel:
                pause(connection, note.target, now + following.pause)
            if following.pause and following.channel:
                pause(connection, note.channel_type, now + following.pause)
            held = connection.execute(
                sa.update(notification)
                .where(
                    sa.or_(n.id == note.notification_id, n.group_id == note.notification_id),
                    n.status == _SENDING,
                    n.lease_owner == note.lease,
                )
                .values(
                    lease_owner=None,
                    lease_until=None,
                    handed_over_at=None,
                    lost_leases=0,
                    **changes,
                )
            )
            alerts = [note.alert_id, *(companion.alert_id for companion in note.companions)]
            _withdraw_dismissed(connection, notification.c.alert_id.in_(alerts))
            return held.rowcount > 0

    def record_chart(self, note: Note, outcome: Mapping[str, Any]) -> None:
        """What became of the chart, beside the provider's answer; the text's status stays as it is."""
        with self._database.write() as connection:
            query = sa.select(notification.c.metadata).where(notification.c.id == note.notification_id)
            kept = dict(connection.scalar(query.with_for_update()) or {})
            connection.execute(
                sa.update(notification)
                .where(notification.c.id == note.notification_id)
                .values({"metadata": {**kept, "chart": dict(outcome)}})
            )

    def release_expired(self, now: datetime) -> int:
        """Give up leases that ran out: due again at once, or FAILED after too many in a row. Return how many."""
        expired = sa.and_(notification.c.status == _SENDING, notification.c.lease_until < now)
        last_try = notification.c.lost_leases + 1 >= MAX_LOST_LEASES
        freed = {**lost_lease(), "lease_owner": None, "lease_until": None, "error_message": _DIED}
        with self._database.read() as connection:
            if connection.execute(sa.select(notification.c.id).where(expired).limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            dead = connection.execute(
                sa.update(notification)
                .where(expired, last_try)
                .values({**freed, "status": NotificationStatus.FAILED.value, "failed_at": now})
            )
            again = connection.execute(sa.update(notification).where(expired).values({**freed, "status": _PENDING}))
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

    def oldest_due(self, now: datetime) -> timedelta:
        """How long the message that waits longest could have gone out; 0 where none waits."""
        n = notification.c
        due = sa.select(sa.func.min(n.not_before)).where(n.status == _PENDING, n.not_before <= now)
        with self._database.read() as connection:
            since = connection.scalar(due)
        return timedelta(0) if since is None else now - since

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


def _unavailable(error: sa.exc.SQLAlchemyError) -> StoreUnavailable:
    return StoreUnavailable(type(getattr(error, "orig", None) or error).__name__)


def _withdraw_dismissed(connection: sa.Connection, *of: sa.ColumnElement[bool]) -> None:
    """What was being sent when a person dismissed its alert is not tried again."""
    dismissed = sa.select(alert_dynamic.c.alert_id).where(
        alert_dynamic.c.alert_id == notification.c.alert_id, alert_dynamic.c.status == AlertStatus.DISMISSED.value
    )
    told = notification.c.reason.not_in(TELLS_MORE)
    connection.execute(sa.delete(notification).where(notification.c.status == _PENDING, told, dismissed.exists(), *of))
