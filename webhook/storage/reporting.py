"""What the store knows of a series of reports before one more comes."""

from __future__ import annotations

import sqlalchemy as sa

from webhook.domain.alert import Instance
from webhook.domain.evaluation import MerchantConfig
from webhook.ports import StoreUnavailable
from webhook.storage.config_rows import read_configs
from webhook.storage.database import Database
from webhook.storage.sessions import instance_of
from webhook.storage.tables import alert_instance


class ReportRuns:
    """The firing of a fingerprint that was heard last, and its merchant's configuration.

    Not the one that started last: starts are what reporters say they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, fingerprint: str, account_id: str, alert_type: str) -> tuple[Instance | None, MerchantConfig | None]:
        """Raise StoreUnavailable."""
        i, key = alert_instance.c, (account_id, alert_type)
        ours = sa.select(alert_instance).where(i.fingerprint == fingerprint)
        latest = ours.order_by(i.last_heard_at.desc(), i.starts_at.desc()).limit(1)
        try:
            with self._database.read() as connection:
                row = connection.execute(latest).mappings().first()
                config = read_configs(connection, {key}).get(key)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise StoreUnavailable(type(getattr(error, "orig", None) or error).__name__) from error
        return (instance_of(row) if row is not None else None), config
