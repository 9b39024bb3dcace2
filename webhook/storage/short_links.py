"""Alerts by the beginning of their id, as a text message names them."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from webhook.storage.tables import alert


def alert_between(connection: sa.Connection, first: str, last: str, accounts: Collection[str] | None) -> str | None:
    """The one alert of these accounts (None: of all) whose id lies there; None for several as for none."""
    query = sa.select(alert.c.id).where(alert.c.id >= first, alert.c.id <= last)
    if accounts is not None:
        query = query.where(alert.c.account_id.in_(accounts))
    found = connection.scalars(query.limit(2)).all()
    return found[0] if len(found) == 1 else None
