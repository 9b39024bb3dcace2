"""What people do to alerts: each action locks the alert, checks, writes and is audited in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.action import DismissReason, Doing, mentions
from webhook.domain.alert import SYSTEM, AlertSession, AlertStatus, CommentType
from webhook.domain.channel_choice import Channels, channels_for
from webhook.domain.session import IllegalChange, closed
from webhook.ports import AlertNotFound
from webhook.storage.audit import record_audit
from webhook.storage.closing import Closing, close_alerts
from webhook.storage.database import Database
from webhook.storage.sessions import lock_sessions
from webhook.storage.tables import alert, alert_comment, alert_dynamic
from webhook.storage.telling import tell_again, tell_mention
from webhook.storage.transactions import transaction


@dataclass(frozen=True, slots=True)
class Acted:
    """An alert after an action: its version, and what the action made: a comment, messages on channels, or why none."""

    version: int
    comment_id: str = ""
    channels: Sequence[str] = ()
    untold: str = ""


Noted = Callable[[AlertSession, str, Doing, bool], None]
"""Told of an alert, what was done to it, by whom, and whether that was the first thing that a person did to it."""


def _unnoted(_session: AlertSession, _action: str, _doing: Doing, _first: bool) -> None:
    pass


class AlertActions:
    """Raises AlertNotFound (also for what is another's), VersionChanged, IllegalChange, StoreUnavailable."""

    def __init__(
        self, database: Database, channels: Channels, noted: Noted = _unnoted, operations: Channels | None = None
    ) -> None:
        self._database, self._noted = database, noted
        self._default = partial(channels_for, default=channels, operations=operations)

    @contextmanager
    def _on(
        self, alert_id: str, action: str, doing: Doing, *, active: bool = True
    ) -> Iterator[tuple[sa.Connection, AlertSession]]:
        """The locked alert, and its transaction; what was done is noted when that is committed."""
        with transaction(self._database) as connection:
            session = (_active if active else _locked)(connection, alert_id, doing)
            first = not _touched(connection, alert_id)
            yield connection, session
        self._noted(session, action, doing, first)

    def resolve(self, alert_id: str, note: str, doing: Doing) -> Acted:
        """Whoever was told that it fired is told that it ended."""
        return self._close(alert_id, Closing(AlertStatus.RESOLVED, note, doing.actor, doing.by, doing.now), doing)

    def dismiss(self, alert_id: str, reason: DismissReason, feedback: str, doing: Doing) -> Acted:
        """Nobody is told."""
        words = reason.replace("_", " ").capitalize()
        note = f"{words}: {feedback}" if feedback else words
        closing = Closing(AlertStatus.DISMISSED, note, doing.actor, doing.by, doing.now, reason, feedback)
        return self._close(alert_id, closing, doing)

    def _close(self, alert_id: str, closing: Closing, doing: Doing) -> Acted:
        with self._on(alert_id, closing.verb, doing, active=False) as (connection, session):
            after = closed(session, closing.status, doing.now)
            close_alerts(connection, [after], closing)
            return Acted(after.version)

    def acknowledge(self, alert_id: str, note: str, doing: Doing) -> Acted:
        """Somebody is on it."""
        with self._on(alert_id, "acknowledged", doing) as (connection, session):
            if (by := _state(connection, alert_id)["acknowledged_by"]) is not None:
                raise IllegalChange(f"the alert is already acknowledged, by {by}")
            values = {"acknowledged_at": doing.now, "acknowledged_by": doing.actor}
            because = f": {note}" if note else ""
            said = f"Acknowledged by {doing.actor}{because}"
            return _change(connection, session, doing, values, "acknowledged", said=said, details={"note": note})

    def unacknowledge(self, alert_id: str, doing: Doing) -> Acted:
        with self._on(alert_id, "unacknowledged", doing) as (connection, session):
            if _state(connection, alert_id)["acknowledged_by"] is None:
                raise IllegalChange("the alert is not acknowledged")
            values = {"acknowledged_at": None, "acknowledged_by": None}
            said = f"No longer acknowledged, says {doing.actor}"
            return _change(connection, session, doing, values, "unacknowledged", said=said, details={})

    def snooze(self, alert_id: str, until: datetime, doing: Doing) -> Acted:
        """No message until then, unless the severity rises or it is P0. A later snooze replaces an earlier one."""
        if until <= doing.now:
            raise IllegalChange("that time has passed")
        with self._on(alert_id, "snoozed", doing) as (connection, session):
            values = {"snoozed_until": until, "snoozed_by": doing.actor}
            said = f"Snoozed by {doing.actor} until {until:%Y-%m-%d %H:%M} UTC"
            return _change(
                connection, session, doing, values, "snoozed", said=said, details={"until": until.isoformat()}
            )

    def unsnooze(self, alert_id: str, doing: Doing) -> Acted:
        with self._on(alert_id, "unsnoozed", doing) as (connection, session):
            until = session.snoozed_until
            if until is None or until <= doing.now:
                raise IllegalChange("the alert is not snoozed")
            values = {"snoozed_until": None, "snoozed_by": None}
            return _change(
                connection, session, doing, values, "unsnoozed", said=f"Snooze ended by {doing.actor}", details={}
            )

    def comment(self, alert_id: str, content: str, doing: Doing) -> Acted:
        """On any alert, closed ones too. One that names others is told on the channels on which people talk."""
        with self._on(alert_id, "commented", doing, active=False) as (connection, session):
            named = {"mentions": mentions(content)}
            acted = _change(
                connection, session, doing, {}, "commented", said=content, details=named, kind=CommentType.USER_NOTE
            )
            if not named["mentions"]:
                return acted
            told, why_not = tell_mention(
                connection, self._default(session.account_id), session, (acted.comment_id, content), doing
            )
            return Acted(acted.version, acted.comment_id, told, why_not)

    def resend(self, alert_id: str, channels: Sequence[str], doing: Doing) -> Acted:
        """Send the alert as it stands, or its end, on these channels, or on all that its merchant has."""
        with self._on(alert_id, "resent", doing, active=False) as (connection, session):
            if session.status is AlertStatus.DISMISSED:
                raise IllegalChange("the alert was dismissed as no attack: nothing more is sent of it")
            queued = tell_again(connection, self._default(session.account_id), session, channels, doing)
            said = f"Message sent again on {', '.join(queued)}, asked for by {doing.actor}"
            acted = _change(connection, session, doing, {}, "resent", said=said, details={"channels": queued})
            return Acted(acted.version, acted.comment_id, queued)


def _locked(connection: sa.Connection, alert_id: str, doing: Doing) -> AlertSession:
    where = [alert_dynamic.c.alert_id == alert_id]
    if doing.by.accounts is not None:
        where.append(alert.c.account_id.in_(doing.by.accounts))
    found = lock_sessions(connection, *where)
    if not found:
        raise AlertNotFound(alert_id)
    doing.check(found[0].version)
    return found[0]


def _active(connection: sa.Connection, alert_id: str, doing: Doing) -> AlertSession:
    session = _locked(connection, alert_id, doing)
    if session.status is not AlertStatus.ACTIVE:
        raise IllegalChange(f"the alert is already {session.status}")
    return session


def _touched(connection: sa.Connection, alert_id: str) -> bool:
    """Whether a person has done anything to it: each leaves a comment."""
    c = alert_comment.c
    by_people = sa.select(c.id).where(c.alert_id == alert_id, c.created_by != SYSTEM).limit(1)
    return connection.execute(by_people).first() is not None


def _state(connection: sa.Connection, alert_id: str) -> sa.RowMapping:
    """Of the locked alert: what only people change."""
    columns = (alert_dynamic.c.acknowledged_by, alert_dynamic.c.snoozed_until)
    return connection.execute(sa.select(*columns).where(alert_dynamic.c.alert_id == alert_id)).mappings().one()


def _change(
    connection: sa.Connection,
    session: AlertSession,
    doing: Doing,
    values: Mapping[str, Any],
    action: str,
    *,
    said: str,
    details: Mapping[str, Any],
    kind: CommentType = CommentType.SYSTEM_LOG,
) -> Acted:
    """Write `values`, raise the version, and say in the alert's history and in the audit log who did it."""
    version, comment_id = session.version + 1, str(uuid4())
    connection.execute(
        sa.update(alert_dynamic)
        .where(alert_dynamic.c.alert_id == session.alert_id)
        .values(**values, version=version, updated_at=doing.now)
    )
    comment = {
        "id": comment_id,
        "alert_id": session.alert_id,
        "comment_type": kind.value,
        "content": said,
        "metadata": {"action": action, **details},
        "created_by": doing.actor,
        "created_at": doing.now,
    }
    connection.execute(sa.insert(alert_comment).values(**comment))
    record_audit(
        connection,
        replace(doing.by, name=doing.actor),
        f"alert_{action}",
        now=doing.now,
        account_id=session.account_id,
        alert_id=session.alert_id,
        details=details,
    )
    return Acted(version, comment_id)
