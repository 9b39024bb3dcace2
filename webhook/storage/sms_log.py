"""What became of each number of each SMS: so that nobody gets one twice, and that the provider's reports find it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import sqlalchemy as sa

from webhook.domain.alert import NotificationStatus
from webhook.domain.text_message import SmsSlot
from webhook.storage.database import Database
from webhook.storage.delivery_tables import sms_message
from webhook.storage.tables import notification
from webhook.storage.transactions import transaction

_HOUR = timedelta(hours=1)
_LOCK = sa.text("SELECT pg_advisory_xact_lock(:key)")
_SENDING, _SENT, _DELIVERED, _FAILED = "SENDING", "SENT", "DELIVERED", "FAILED"
_OPEN = (_SENDING, _SENT)


@dataclass(frozen=True, slots=True)
class StoredSmsLog:
    """As `webhook.notifiers.sms.SmsLog` wants it. Each call is one transaction."""

    database: Database
    clock: Callable[[], datetime]

    def begin(self, notification_id: str, number_key: str, limit: int | None) -> SmsSlot:
        now, s = self.clock(), sms_message.c
        with transaction(self.database) as connection:
            self._lock(connection, number_key)
            ours = sa.and_(s.notification_id == notification_id, s.number_key == number_key)
            row = connection.execute(sa.select(sms_message).where(ours)).mappings().first()
            if row is not None and not (row["status"] == _FAILED and row["provider_id"]):
                return _known(row)
            if limit is not None and (free_at := _free_at(connection, number_key, limit, now)) is not None:
                return SmsSlot("", "limited", now, free_at=free_at)
            fresh = {"status": _SENDING, "provider_id": None, "error": None, "created_at": now, "updated_at": now}
            if row is not None:  # the provider had said that it did not arrive, and a person sends it again
                connection.execute(sa.update(sms_message).where(s.id == row["id"]).values(fresh))
                return SmsSlot(row["id"], "new", now)
            slot = SmsSlot(str(uuid4()), "new", now)
            who = {"id": slot.id, "notification_id": notification_id, "number_key": number_key}
            connection.execute(sa.insert(sms_message).values({**who, **fresh}))
            return slot

    def sent(self, slot: SmsSlot, reference: str) -> None:
        """A report that came meanwhile stays."""
        s = sms_message.c
        change = {"provider_id": reference or None, "updated_at": self.clock()}
        status = sa.case((s.status == _SENDING, _SENT), else_=s.status)
        with transaction(self.database) as connection:
            connection.execute(sa.update(sms_message).where(s.id == slot.id).values(status=status, **change))

    def refused(self, slot: SmsSlot, error: str) -> None:
        self._change(slot, {"status": _FAILED, "error": error})

    def release(self, slot: SmsSlot) -> None:
        with transaction(self.database) as connection:
            connection.execute(sa.delete(sms_message).where(sms_message.c.id == slot.id))

    def heard(self, slot_id: str, reference: str, ending: Literal["DELIVERED", "FAILED"], error: str) -> bool:
        """False for a message that nobody knows. The first ending counts: a later one changes nothing."""
        s, now = sms_message.c, self.clock()
        with transaction(self.database) as connection:
            row = connection.execute(sa.select(sms_message).where(s.id == slot_id).with_for_update()).mappings().first()
            if row is None or row["provider_id"] not in (None, reference):
                return False
            if row["status"] in _OPEN:
                change = {"status": ending, "provider_id": reference, "error": error or None, "updated_at": now}
                connection.execute(sa.update(sms_message).where(s.id == slot_id).values(change))
            _settle(connection, row["notification_id"], now)
            return True

    def _change(self, slot: SmsSlot, change: Mapping[str, Any]) -> None:
        changed = sa.update(sms_message).where(sms_message.c.id == slot.id)
        with transaction(self.database) as connection:
            connection.execute(changed.values(updated_at=self.clock(), **change))

    def _lock(self, connection: sa.Connection, number_key: str) -> None:
        """Nobody else counts this number's messages until the commit; SQLite has one writer anyway."""
        if self.database.dialect == "postgresql":
            digest = hashlib.blake2b(number_key.encode(), digest_size=8).digest()
            connection.execute(_LOCK, {"key": int.from_bytes(digest, signed=True)})


def slot_id(text: str) -> str | None:
    """Of a report's address; None for what is none."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _known(row: sa.RowMapping) -> SmsSlot:
    """Of an earlier try."""
    states: Mapping[str, Literal["unsure", "sent", "refused"]] = {_SENDING: "unsure", _FAILED: "refused"}
    return SmsSlot(row["id"], states.get(row["status"], "sent"), row["created_at"], row["provider_id"] or "")


def _free_at(connection: sa.Connection, number_key: str, limit: int, now: datetime) -> datetime | None:
    """When a number that has had `limit` messages within an hour may have the next; None where it may have it now."""
    s = sms_message.c
    lately = sa.select(s.created_at).where(s.number_key == number_key, s.created_at > now - _HOUR, s.status != _FAILED)
    first = connection.scalar(lately.order_by(s.created_at.desc()).offset(limit - 1).limit(1))
    return first + _HOUR if first is not None else None


def settle_early(connection: sa.Connection, notification_ids: Collection[str], now: datetime) -> None:
    """Of messages that were just recorded as sent: what was reported of them before."""
    s = sms_message.c
    reported = sa.and_(s.provider_id.is_not(None), s.status.in_((_DELIVERED, _FAILED)))
    query = sa.select(s.notification_id).distinct().where(s.notification_id.in_(notification_ids), reported)
    for notification_id in sorted(connection.scalars(query)):
        _settle(connection, notification_id, now)


def _settle(connection: sa.Connection, notification_id: str, now: datetime) -> None:
    """The notification is DELIVERED when each number has an ending and one got it, FAILED when none did.

    One that is not recorded as sent yet is settled then.
    """
    n, s = notification.c, sms_message.c
    status = connection.scalar(sa.select(n.status).where(n.id == notification_id).with_for_update())
    if status != NotificationStatus.SENT.value:
        return
    rows = connection.execute(sa.select(s.status, s.error).where(s.notification_id == notification_id)).all()
    change = _outcome([row.status for row in rows], [row.error for row in rows if row.error], now)
    told = sa.or_(n.id == notification_id, n.group_id == notification_id)  # what was told together arrives together
    connection.execute(sa.update(notification).where(told, n.status == status).values(change))


def _outcome(states: Sequence[str], errors: Sequence[str], now: datetime) -> dict[str, Any]:
    told = f"{states.count(_FAILED)} of {len(states)} numbers: {'; '.join(errors)}" if errors else None
    change: dict[str, Any] = {"error_message": told}
    if any(state in _OPEN for state in states):
        return change
    if _DELIVERED in states:
        return change | {"status": NotificationStatus.DELIVERED.value, "delivered_at": now}
    return change | {"status": NotificationStatus.FAILED.value, "failed_at": now}
