"""The alert types of one merchant: what its own key may report of."""

from __future__ import annotations

import sqlalchemy as sa

from webhook.storage.database import Database
from webhook.storage.tables import alert, alert_config


class KnownTypes:
    """Those that it has a configuration of, and those that it had an alert of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, account_id: str) -> frozenset[str]:
        own = [sa.select(table.c.alert_type).where(table.c.account_id == account_id) for table in (alert_config, alert)]
        with self._database.read() as connection:
            return frozenset(connection.execute(sa.union(*own)).scalars())
