"""The stored past of one account and alert type, for the replay: a few ordered passes over plain rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotifyReason, Outcome
from webhook.domain.past import Attack, Past, Stored, Wanted, beginnings, known_past
from webhook.domain.session import UNHEARD
from webhook.domain.severity import Escalation, rises_by_time
from webhook.domain.throttle import LONGEST_WINDOW
from webhook.domain.triggers import Triggers
from webhook.storage.database import Database, allow
from webhook.storage.tables import alert, alert_dynamic, alert_instance, alert_trigger_log, notification
from webhook.storage.trigger_columns import TriggerLog, Where

_LONGEST = timedelta(seconds=20)  # for a statement: somebody waits


@dataclass(frozen=True, slots=True)
class StoredPast:
    """What the preview reads, in one transaction that cannot write."""

    database: Database

    @contextmanager
    def read(self, wanted: Wanted) -> Iterator[Stored]:
        """`Past.since` is later than wanted where there are too many triggers."""
        with read_only(self.database) as connection:
            attacks = _attacks(connection, wanted)
            begun = beginnings(attacks, wanted.since, wanted.remembered)
            readable = {condition: at for condition, at in begun.items() if at >= wanted.earliest}
            log = TriggerLog(connection, wanted, readable)
            past = known_past(attacks, _created(connection, wanted, log.where), log.since, wanted.remembered)
            rows = Triggers()
            with closing(log.read(rows)) as more:
                yield Stored(read_past(connection, wanted, attacks, past), rows, more)


@contextmanager
def read_only(database: Database) -> Iterator[sa.Connection]:
    """One view of the data for all that is read in it; the database refuses to write."""
    with database.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            connection.execute(sa.text("SET LOCAL DateStyle = 'ISO'"))  # times are read as texts
            allow(connection, _LONGEST)
        yield connection


def _attacks(connection: sa.Connection, wanted: Wanted) -> list[Attack]:
    """Alerts that were not closed before `earliest`."""
    a, d = alert.c, alert_dynamic.c
    query = (
        sa.select(
            d.condition_fingerprint,
            d.first_triggered_at,
            d.resolved_at,
            d.authenticated_as,
            a.id,
            sa.and_(d.last_notified_at.is_not(None), sa.func.coalesce(d.resolution_note, "") != UNHEARD),
            d.escalation_history,
        )
        .select_from(alert_dynamic.join(alert, a.id == d.alert_id))
        .where(
            a.account_id == wanted.account_id,
            a.alert_type == wanted.alert_type,
            sa.or_(d.resolved_at.is_(None), d.resolved_at >= wanted.earliest),
        )
    )
    rows = connection.execute(query)
    return [
        Attack(condition, begun, ended, by is not None, alert_id, bool(told), _rises(history))
        for condition, begun, ended, by, alert_id, told, history in rows
    ]


def _rises(history: Mapping[str, Any]) -> int:
    return rises_by_time(map(Escalation.from_json, history.get("escalations", ())))


def _created(connection: sa.Connection, wanted: Wanted, read: Where) -> set[tuple[str, datetime]]:
    """Conditions and times of triggers that began an alert, of those that are read."""
    t, a, d = alert_trigger_log.c, alert.c, alert_dynamic.c
    began = sa.and_(t.alert_id == a.id, t.created_at == d.first_triggered_at, t.outcome == Outcome.CREATED.value)
    query = (
        sa.select(t.condition_fingerprint, t.created_at)
        .select_from(alert.join(alert_dynamic, d.alert_id == a.id).join(alert_trigger_log, began))
        .where(a.account_id == wanted.account_id, a.alert_type == wanted.alert_type, *read)
    )
    return {(condition, at) for condition, at in connection.execute(query)}


def read_past(connection: sa.Connection, wanted: Wanted, attacks: Sequence[Attack], past: Past) -> Past:
    """With what happened beside the triggers."""
    first = min(past.starts.values(), default=past.since)
    closings = sorted(
        (attack.ended, attack.condition)
        for attack in attacks
        if attack.by_person and attack.ended is not None and attack.ended >= past.start_of(attack.condition)
    )
    sent: dict[tuple[str, datetime], datetime | None] = {}
    told_on: dict[tuple[str, datetime], frozenset[str]] = {}
    notified, resent = [], []
    for condition, created_at, sent_at, by_person, channels in _messages(connection, wanted, first):
        if by_person:
            resent += [(sent_at, condition)] if sent_at is not None else []
        elif created_at < past.start_of(condition):
            notified.append(created_at)
        else:
            sent[condition, created_at] = sent_at
            told_on[condition, created_at] = frozenset(channels.split(","))
    return replace(
        past,
        closings=closings,
        sent=sent,
        resent=sorted(resent),
        notified=notified,
        closed=_closed(connection, wanted, past),
        channels=told_on,
        ended=frozenset(attack.alert_id for attack in attacks if attack.ended and attack.told and not attack.by_person),
        rises={attack.alert_id: attack.rises for attack in attacks if attack.rises},
    )


def _messages(connection: sa.Connection, wanted: Wanted, first: datetime) -> Iterable[Any]:
    """Conditions, when it was decided to tell of them and when that went out.

    With whether a person asked for it, and the channels.
    """
    n = notification.c
    by_person = n.reason == NotifyReason.RESEND.value
    last = sa.func.max(n.sent_at, type_=n.sent_at.type)
    channels = sa.func.aggregate_strings(n.channel_type, ",")
    query = (
        sa.select(alert.c.condition_fingerprint, n.created_at, last, by_person, channels)
        .select_from(notification.join(alert, alert.c.id == n.alert_id))
        .where(
            n.account_id == wanted.account_id,
            n.alert_type == wanted.alert_type,
            n.created_at > first - LONGEST_WINDOW,
            n.reason.not_in((NotifyReason.RESOLVED.value, NotifyReason.MENTION.value, NotifyReason.DIGEST.value)),
        )
        .group_by(n.alert_id, alert.c.condition_fingerprint, n.created_at, by_person)
        .order_by(n.created_at)
    )
    return connection.execute(query)


def _closed(connection: sa.Connection, wanted: Wanted, past: Past) -> frozenset[tuple[str, datetime]]:
    i, d = alert_instance.c, alert_dynamic.c
    query = (
        sa.select(i.fingerprint, i.starts_at, d.condition_fingerprint, d.resolved_at)
        .select_from(alert_instance.join(alert_dynamic, d.alert_id == i.alert_id))
        .where(
            i.account_id == wanted.account_id,
            i.alert_type == wanted.alert_type,
            d.authenticated_as.is_not(None),
            d.status != AlertStatus.ACTIVE.value,
        )
    )
    rows = connection.execute(query)
    return frozenset((name, start) for name, start, condition, ended in rows if ended < past.start_of(condition))
