"""What only one process may do at a time: a row that says who, and until when."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from webhook.storage.database import Database
from webhook.storage.tables import lease


class Leases:
    """A right that ends by itself when its holder dies: nobody has to be told, and no connection is held."""

    def __init__(self, database: Database, owner: str) -> None:
        """`owner` is unique among all processes, at most 64 characters."""
        self._database = database
        self._owner = owner

    def hold(self, name: str, now: datetime, length: timedelta) -> bool:
        """Take or prolong it until `now + length`; False while another holds it."""
        insert = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        wanted = insert(lease).values(name=name, owner=self._owner, until=now + length)
        taken = wanted.on_conflict_do_update(
            index_elements=["name"],
            set_={"owner": wanted.excluded.owner, "until": wanted.excluded.until},
            where=sa.or_(lease.c.owner == self._owner, lease.c.until <= now),
        )
        with self._database.write() as connection:
            return connection.scalar(taken.returning(lease.c.name)) is not None

    def give_back(self, name: str) -> None:
        """So that another need not wait for its end."""
        mine = sa.and_(lease.c.name == name, lease.c.owner == self._owner)
        with self._database.write() as connection:
            connection.execute(sa.delete(lease).where(mine))
