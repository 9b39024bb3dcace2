"""What is read for a merchant holds its accounts alone, in SQL, on both databases."""

from __future__ import annotations

from datetime import timedelta

import page_rows as rows
import pytest
from access_rows import FOREIGN, OWN

from webhook.domain.severity import Severity
from webhook.storage import queries
from webhook.storage.audit import AuditFilter, list_audit, record_audit
from webhook.storage.database import Database
from webhook.storage.records import AlertFilter, TriggerFilter
from webhook.storage.trigger_search import list_triggers
from webhook.web.live import ChangeFeed

ALL, NONE, MINE = None, frozenset[str](), frozenset({OWN, "acc_other"})


@pytest.mark.parametrize(("accounts", "seen"), [(ALL, [FOREIGN, OWN]), (MINE, [OWN]), (NONE, [])])
def test_queries_find_the_accounts_alone(database: Database, accounts: frozenset[str] | None, seen: list[str]) -> None:
    for account in (OWN, FOREIGN):
        alert_id = rows.insert_alert(database, account_id=account)
        rows.insert_trigger(database, alert_id, account_id=account)
        rows.insert_trigger(database, account_id=account, outcome="suppressed")
        with database.write() as connection:
            record_audit(connection, rows.ADMIN, "alert_resolved", now=rows.NOW, account_id=account)
    with database.read() as connection:
        found = queries.list_alerts(connection, AlertFilter(accounts=accounts))
        triggers = list_triggers(connection, TriggerFilter(accounts=accounts)).records
        statistics = queries.statistics(connection, rows.NOW - timedelta(days=1), accounts=accounts)
        audited = list_audit(connection, AuditFilter(), accounts=accounts)
        assert queries.count_alerts(connection, AlertFilter(accounts=accounts)) == len(seen)
    assert sorted(record.account_id for record in found) == seen
    assert sorted({record.account_id for record in triggers}) == seen
    assert (statistics.active[Severity.P1], statistics.suppressed_accounts) == (len(seen), len(seen))
    assert sorted(record.account_id or "" for record in audited) == seen


def test_live_updates_tell_a_merchant_of_its_own_alone(database: Database) -> None:
    feed = ChangeFeed(database, rows.NOW - timedelta(hours=1), MINE)
    foreign = rows.insert_alert(database, account_id=FOREIGN)
    rows.insert_trigger(database, foreign, account_id=FOREIGN)
    rows.insert_notification(database, foreign)
    assert feed.poll() is None
    own = rows.insert_alert(database, account_id=OWN)
    rows.insert_trigger(database, own, account_id=OWN)
    change = feed.poll()
    assert change
    assert (change.alerts, change.triggers, change.many) == (frozenset({own}), True, False)
