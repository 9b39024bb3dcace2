"""What the pages and the API ask of a full store, in groups that have a goal each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from webhook.domain.alert import AlertStatus, NotificationStatus, Outcome
from webhook.domain.severity import Severity
from webhook.storage import queries
from webhook.storage.audit import AuditFilter, list_audit
from webhook.storage.explaining import read_facts
from webhook.storage.records import AlertFilter, AlertPlace, AlertSort, NotificationFilter, TriggerFilter
from webhook.storage.statistics import Interval, Period, period_statistics
from webhook.storage.tables import alert
from webhook.storage.trigger_search import list_triggers

Ask = Callable[[sa.Connection], object]
Questions = Mapping[str, Ask]


@dataclass(frozen=True, slots=True)
class Subject:
    """Rows that exist: the newest alert, its account, a few accounts of a merchant, and a place in the middle."""

    now: datetime
    alert_id: str
    account_id: str
    accounts: frozenset[str]
    middle: AlertPlace
    """In the list by severity; its time is also in the middle of the trigger log."""


def subject(connection: sa.Connection, now: datetime) -> Subject:
    newest = sa.select(alert.c.id, alert.c.account_id).order_by(alert.c.created_at.desc()).limit(1)
    alert_id, account_id = connection.execute(newest).one()
    listed = sa.select(alert.c.account_id).distinct().order_by(alert.c.account_id).limit(5)
    accounts = frozenset(connection.scalars(listed))
    half = (connection.scalar(sa.select(sa.func.count()).select_from(alert)) or 0) // 2
    found = queries.list_alerts(connection, AlertFilter(), sort=AlertSort.SEVERITY, limit=1, offset=half)
    return Subject(now, str(alert_id), account_id, accounts, queries.place_of(found[0], AlertSort.SEVERITY))


def lists(of: Subject) -> Questions:
    """Asked at every view of a page, and by whoever reads through the API."""
    list_alerts, gravest = queries.list_alerts, AlertSort.SEVERITY
    active, mine = AlertFilter(status=AlertStatus.ACTIVE), AlertFilter(accounts=of.accounts)
    place = (of.middle.at, of.middle.id)
    return {
        "alerts, newest": lambda c: list_alerts(c, AlertFilter()),
        "alerts, newest, from the middle": lambda c: list_alerts(c, AlertFilter(), after=of.middle),
        "alerts, gravest": lambda c: list_alerts(c, AlertFilter(), sort=gravest),
        "alerts, gravest, from the middle": lambda c: list_alerts(c, AlertFilter(), sort=gravest, after=of.middle),
        "alerts, least grave": lambda c: list_alerts(c, AlertFilter(), sort=gravest, descending=False),
        "alerts, active and gravest": lambda c: list_alerts(c, active, sort=gravest),
        "alerts, active": lambda c: list_alerts(c, active),
        "alerts, active, count": lambda c: queries.count_alerts(c, active),
        "alerts, P0": lambda c: list_alerts(c, AlertFilter(severity=Severity.P0)),
        "alerts, P0, count": lambda c: queries.count_alerts(c, AlertFilter(severity=Severity.P0)),
        "alerts of an account": lambda c: list_alerts(c, AlertFilter(account_id=of.account_id)),
        "alerts of a merchant": lambda c: list_alerts(c, mine),
        "alerts of a merchant, gravest": lambda c: list_alerts(c, mine, sort=gravest),
        "alerts of a merchant, count": lambda c: queries.count_alerts(c, mine),
        "alerts, a week": lambda c: list_alerts(c, AlertFilter(since=of.now - timedelta(days=7))),
        "alerts, count": lambda c: queries.count_alerts(c, AlertFilter()),
        "alerts, last triggered": lambda c: list_alerts(c, AlertFilter(), sort=AlertSort.LAST_TRIGGERED),
        "alerts, updated": lambda c: list_alerts(c, AlertFilter(), sort=AlertSort.UPDATED),
        "alerts, occurrences": lambda c: list_alerts(c, AlertFilter(), sort=AlertSort.OCCURRENCES),
        "alerts, page 2,500": lambda c: list_alerts(c, AlertFilter(), offset=50_000),
        "alerts, gravest, page 2,500": lambda c: list_alerts(c, AlertFilter(), sort=gravest, offset=50_000),
        "triggers, newest": lambda c: list_triggers(c, TriggerFilter()),
        "triggers, from the middle": lambda c: list_triggers(c, TriggerFilter(before=place)),
        "triggers, suppressed": lambda c: list_triggers(c, TriggerFilter(outcome=Outcome.SUPPRESSED)),
        "triggers, rejected": lambda c: list_triggers(c, TriggerFilter(outcome=Outcome.REJECTED)),
        "triggers of an account": lambda c: list_triggers(c, TriggerFilter(account=of.account_id)),
        "triggers of a merchant": lambda c: list_triggers(c, TriggerFilter(accounts=of.accounts)),
        "notifications": lambda c: queries.list_notifications(c, NotificationFilter()),
        "notifications of a merchant": lambda c: queries.list_notifications(
            c, NotificationFilter(accounts=of.accounts)
        ),
        "dead letters": lambda c: queries.list_notifications(c, NotificationFilter(status=NotificationStatus.FAILED)),
        "dead letters of a merchant": lambda c: queries.list_notifications(
            c, NotificationFilter(status=NotificationStatus.FAILED, accounts=of.accounts)
        ),
        "audit": lambda c: list_audit(c, AuditFilter()),
        "audit of an alert": lambda c: list_audit(c, AuditFilter(alert_id=of.alert_id)),
        "audit of an actor": lambda c: list_audit(c, AuditFilter(actor="nobody")),
        "audit of a merchant": lambda c: list_audit(c, AuditFilter(), accounts=of.accounts),
        "head of the list": lambda c: queries.statistics(c, of.now - timedelta(days=1)),
        "head of a merchant's list": lambda c: queries.statistics(c, of.now - timedelta(days=1), None, of.accounts),
    }


def details(of: Subject) -> Questions:
    """What an alert's page shows."""
    alert_id = of.alert_id
    return {
        "alert": lambda c: queries.alert_by_id(c, alert_id),
        "alert, verdict": lambda c: queries.latest_verdicts(c, [alert_id]),
        "alert, explained": lambda c: read_facts(c, alert_id),
        "alert, comments": lambda c: queries.comments_of(c, alert_id),
        "alert, notifications": lambda c: queries.list_notifications(c, NotificationFilter(alert_id=alert_id)),
        "alert, triggers": lambda c: list_triggers(c, TriggerFilter(alert_id=alert_id)),
    }


_TEXTS = {
    "a name": "merchant acc_70",
    "one name": "merchant acc_1234",
    "a name of all": "merchant",
    "no name": "nobody",
}


def searches(of: Subject) -> Questions:
    def alerts(text: str, accounts: frozenset[str] | None = None) -> Ask:
        return lambda c: queries.list_alerts(c, AlertFilter(search=text, accounts=accounts))

    def count(text: str, accounts: frozenset[str] | None = None) -> Ask:
        return lambda c: queries.count_alerts(c, AlertFilter(search=text, accounts=accounts))

    def triggers(text: str, accounts: frozenset[str] | None = None) -> Ask:
        return lambda c: list_triggers(c, TriggerFilter(account=text, accounts=accounts))

    mine = f"merchant {min(of.accounts)}"
    kinds = {"alerts": alerts, "alerts counted": count, "triggers": triggers}
    by_all = {f"{kind}, {name}": ask(text) for kind, ask in kinds.items() for name, text in _TEXTS.items()}
    return {
        **by_all,
        "alerts of a merchant, a name": alerts(mine, of.accounts),
        "alerts of a merchant, no name": alerts("nobody", of.accounts),
        "triggers of a merchant, a name": triggers(mine, of.accounts),
        "triggers of a merchant, no name": triggers("nobody", of.accounts),
        "triggers, a label": lambda c: list_triggers(c, TriggerFilter(label="nowhere")),
    }


def figures(of: Subject) -> Questions:
    def ask(days: int, accounts: frozenset[str] | None = None) -> Ask:
        interval = Interval.HOUR if days == 1 else Interval.DAY
        period = Period(of.now - timedelta(days=days), of.now, interval, accounts)
        return lambda c: period_statistics(c, period)

    return {
        **{f"statistics, {days} days": ask(days) for days in (1, 7, 30)},
        "statistics of a merchant, 30 days": ask(30, of.accounts),
    }


GOALS = {"list": 50, "detail": 50, "search": 200, "statistics": 300}
"""Milliseconds."""


def groups(of: Subject) -> Iterator[tuple[str, Questions]]:
    yield from (("list", lists(of)), ("detail", details(of)), ("search", searches(of)), ("statistics", figures(of)))
