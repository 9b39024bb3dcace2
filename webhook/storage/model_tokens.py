"""Tokens of a day over all processes, counted before a model is asked."""

from __future__ import annotations

from datetime import UTC, date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from webhook.storage.database import Database
from webhook.storage.delivery_tables import model_tokens
from webhook.storage.transactions import transaction


class TokenBudget:
    """Days are UTC. Both raise StoreUnavailable."""

    def __init__(self, database: Database, per_day: int) -> None:
        self._database = database
        self._per_day = per_day

    def reserve(self, tokens: int, now: datetime) -> bool:
        """One statement, so that no two callers get the same rest of it; False where it does not hold so many."""
        if tokens > self._per_day:
            return False
        insert = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        first = insert(model_tokens).values(day=_day(now), tokens=tokens)
        more = model_tokens.c.tokens + tokens
        counted = first.on_conflict_do_update(
            index_elements=["day"], set_={"tokens": more}, where=more <= self._per_day
        )
        with transaction(self._database) as connection:
            return connection.scalar(counted.returning(model_tokens.c.day)) is not None

    def correct(self, tokens: int, now: datetime) -> None:
        """Add what was too little, or take back what was too much (negative)."""
        if not tokens:
            return
        c = model_tokens.c
        with transaction(self._database) as connection:
            connection.execute(sa.update(model_tokens).where(c.day == _day(now)).values(tokens=c.tokens + tokens))

    def used(self, now: datetime) -> int:
        with self._database.read() as connection:
            query = sa.select(model_tokens.c.tokens).where(model_tokens.c.day == _day(now))
            return connection.scalar(query) or 0


def _day(now: datetime) -> date:
    return now.astimezone(UTC).date()
