"""How deliveries have come: since when some may be missing, and what was heard of attacks meanwhile."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from webhook.domain.alert import TriggerStatus
from webhook.domain.missed import Gap, Heard, gap_after
from webhook.domain.severity import Severity
from webhook.storage.database import Database
from webhook.storage.delivery_tables import reception
from webhook.storage.tables import alert_trigger_log

_NAME = "alertmanager"
_AT_ONCE = 500


class Reception:
    def __init__(self, database: Database, lookback: timedelta) -> None:
        """`lookback`: how long what fails may have been under way before."""
        self._database = database
        self._lookback = lookback

    def look(self, mark: str, now: datetime) -> Gap | None:
        """Remember what the senders count, and say since when something may be missing; None: nothing is."""
        r = reception.c
        with self._database.write() as connection:
            row = connection.execute(sa.select(reception).where(r.name == _NAME)).one_or_none()
            if row is None:
                self._begin(connection, mark, now)
                return None
            before = row.seen_at, row.missing_since, row.changed_at
            since, changed = gap_after(before, same=row.mark == mark, now=now, lookback=self._lookback)
            values = {"mark": mark, "seen_at": now, "missing_since": since, "changed_at": changed}
            connection.execute(sa.update(reception).where(r.name == _NAME).values(values))
        return None if since is None else Gap(since, changed)

    def close(self, gap: Gap) -> None:
        """All of it was looked through. One that goes on since then stays."""
        r = reception.c
        same = sa.and_(r.name == _NAME, r.changed_at == gap.changed_at)
        with self._database.write() as connection:
            connection.execute(sa.update(reception).where(same).values(missing_since=None))

    def heard(self, account_ids: Collection[str], since: datetime) -> list[Heard]:
        """Firings that were received since then, found ones too."""
        log, found = alert_trigger_log.c, list[Heard]()
        accounts = sorted(account_ids)
        last = sa.func.max(log.created_at, type_=log.created_at.type)
        with self._database.read() as connection:
            for start in range(0, len(accounts), _AT_ONCE):
                query = (
                    sa.select(log.condition_fingerprint, log.severity, log.starts_at, last)
                    .where(log.account_id.in_(accounts[start : start + _AT_ONCE]), log.created_at >= since)
                    .where(log.status == TriggerStatus.FIRING.value, log.starts_at.is_not(None))
                    .group_by(log.condition_fingerprint, log.severity, log.starts_at)
                )
                rows = connection.execute(query)
                found += [Heard(condition, Severity(severity), at, until) for condition, severity, at, until in rows]
        return found

    def _begin(self, connection: sa.Connection, mark: str, now: datetime) -> None:
        """The first look of all: what was before it nobody can say."""
        insert = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        first = insert(reception).values(name=_NAME, mark=mark, seen_at=now, changed_at=now)
        connection.execute(first.on_conflict_do_nothing())
