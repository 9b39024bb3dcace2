"""The trigger log, searched: newest first, and never more of it read at once than one can wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from webhook.storage.queries import before_place, within
from webhook.storage.records import Place, TriggerFilter, TriggerPage, TriggerRecord
from webhook.storage.tables import alert_trigger_log

LOOKED_THROUGH = 20_000
"""Rows that one request looks through for what no index finds; the next one goes on where it stopped."""

MOST_ACCOUNTS = 5_000
"""Accounts whose names one request looks through; where there are more, it looks through rows instead."""

MERGED = 20
"""Accounts whose triggers are merged, each read from its index; those of more are met on the way through the log."""

_NEWEST = (alert_trigger_log.c.created_at.desc(), alert_trigger_log.c.id.desc())


def list_triggers(connection: sa.Connection, wanted: TriggerFilter, limit: int = 50) -> TriggerPage:
    """Newest first; ask on with `before` = `next` of the page."""
    indexed, others = _indexed(wanted), _others(wanted)
    accounts = _accounts(connection, wanted)
    if accounts is None:
        others.append(_named(wanted.account))
    elif not accounts:
        return TriggerPage([], None)
    elif len(accounts) == 1:
        indexed.append(alert_trigger_log.c.account_id == accounts[0])
    elif accounts != [_ALL] and len(accounts) <= MERGED and not others:
        return _page(connection, _merged(accounts, indexed, limit), limit, None)
    elif accounts != [_ALL]:
        others.append(alert_trigger_log.c.account_id.in_(accounts))
    return TriggerPage([], None)
