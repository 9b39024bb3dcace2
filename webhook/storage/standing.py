"""Messages that stand somewhere and follow what people do: where they are, and how their alert stands now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import NotificationStatus
from webhook.domain.message import Summary
from webhook.domain.severity import Severity
from webhook.domain.shown import Shown
from webhook.ports import Receipt, Standing
from webhook.storage.access_tables import audit_log
from webhook.storage.database import Database
from webhook.storage.notes import read_notes
from webhook.storage.tables import alert, alert_dynamic, notification
from webhook.storage.transactions import transaction

_ACTIONS = tuple(
    f"alert_{verb}" for verb in ("acknowledged", "unacknowledged", "snoozed", "unsnoozed", "dismissed", "resolved")
)


@dataclass(frozen=True, slots=True)
class Told:
    """An alert that was told of in a message somebody answers. `own`: the place is one its merchant set."""

    alert_id: str
    account_id: str
    title: str
    severity: Severity
    version: int
    own: bool


class Standings:
    def __init__(self, database: Database) -> None:
        self._database = database

    def touched(self, since: datetime) -> dict[str, datetime]:
        """Alerts that people have done something to at or after `since`, and when last: one look into an index."""
        log = audit_log.c
        query = (
            sa.select(log.alert_id, sa.func.max(log.created_at).label("at"))
            .where(log.created_at >= since, log.action.in_(_ACTIONS), log.authenticated_as != "")
            .where(log.alert_id.is_not(None))
            .group_by(log.alert_id)
        )
        with self._database.read() as connection:
            return {row.alert_id: row.at for row in connection.execute(query)}

    def of(self, alert_ids: Collection[str], channel_type: str) -> tuple[list[Standing], set[str]]:
        """The last message at each place; and the alerts of which one is just being sent, which are left alone."""
        n = notification.c
        query = (
            sa.select(n.id, n.alert_id, n.status, n.target, n.metadata)
            .where(n.alert_id.in_(alert_ids), n.channel_type == channel_type)
            .order_by(n.sent_at.desc(), n.created_at.desc())
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            busy = {row.alert_id for row in rows if row.status == NotificationStatus.SENDING.value}
            receipts: dict[str, Receipt] = {}
            seen: set[tuple[str, ...]] = set()
            for row in rows:
                receipt = _receipt(row.metadata)
                if receipt is None or row.alert_id in busy:
                    continue
                place = (row.alert_id, *receipt.place(row.target))
                if place not in seen:
                    seen.add(place)
                    receipts[row.id] = receipt
            words = _words(connection, {alert_id for alert_id, *_ in seen})
            notes = read_notes(connection, list(receipts))
        found = [Standing(note, words[note.alert_id], receipts[note.notification_id]) for note in notes]
        return found, busy

    def record(self, standing: Standing, receipt: Receipt) -> bool:
        """What the message shows now. False where a later state has got there meanwhile, or one is being sent."""
        n, note = notification.c, standing.note
        ours, which = Shown.read(receipt.details.get("shown")), n.id == note.notification_id
        with transaction(self._database) as connection:
            kept = connection.scalar(sa.select(n.metadata).where(which).with_for_update())
            if kept is None:
                return True
            others = sa.select(n.status, n.target, n.metadata).where(
                n.alert_id == note.alert_id, n.channel_type == note.channel_type, ~which
            )
            later = _is_later(kept, ours)
            if not later:
                provider = {"reference": receipt.reference, **receipt.details}
                connection.execute(sa.update(notification).where(which).values(metadata={**kept, "provider": provider}))
            for row in connection.execute(others):
                there = _receipt(row.metadata)
                beside = there is not None and there.place(row.target) == standing.place
                sending = row.status == NotificationStatus.SENDING.value
                later = later or sending or (beside and _is_later(row.metadata, ours))
        return not later

    def told(self, alert_id: str, channel_type: str, receipt: Receipt) -> Told | None:
        """The alert, when the message of this reference and channel was sent about it; else None."""
        n, d = notification.c, alert_dynamic.c
        query = (
            sa.select(n.metadata, n.content, alert.c.account_id, alert.c.title, d.current_severity, d.version)
            .join(alert, alert.c.id == n.alert_id)
            .join(alert_dynamic, d.alert_id == n.alert_id)
            .where(n.alert_id == alert_id, n.channel_type == channel_type, n.sent_at.is_not(None))
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            found = _receipt(row.metadata)
            if found is not None and _place(found) == _place(receipt):
                own = bool((row.content.get("channel_settings") or {}).get("channel"))
                severity = Severity(row.current_severity)
                return Told(alert_id, row.account_id, row.title, severity, row.version, own)
        return None


def _place(receipt: Receipt) -> tuple[str, object]:
    return receipt.reference, receipt.details.get("channel")


def _receipt(metadata: Mapping[str, Any]) -> Receipt | None:
    """Where a message is; None for one that was not sent, or that nobody can find again."""
    details = dict(metadata.get("provider") or {})
    reference = str(details.pop("reference", ""))
    return Receipt(reference, details) if reference else None


def _is_later(metadata: Mapping[str, Any], ours: Shown | None) -> bool:
    """Whether what a message shows, by its row, came after `ours`."""
    found = _receipt(metadata)
    return ours is not None and found is not None and ours.is_before(Shown.read(found.details.get("shown")))


def _words(connection: sa.Connection, alert_ids: Collection[str]) -> dict[str, Summary]:
    """The words that the people of these alerts got last."""
    columns = (alert.c.id, alert.c.title, alert.c.summary, alert.c.suggested_action)
    query = sa.select(*columns).where(alert.c.id.in_(alert_ids))
    return {
        row.id: Summary(row.title, row.summary, str(row.suggested_action or ""), "stored")
        for row in connection.execute(query)
    }
