"""The read side over both databases: what is found, in which order, and by which index."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import uuid4

import page_rows as rows
import pytest
import sqlalchemy as sa
from page_rows import NOW

from webhook.domain.alert import AlertStatus, Outcome
from webhook.domain.severity import Severity
from webhook.storage import queries
from webhook.storage.changes import changed_alerts, last_trigger_at, open_notifications
from webhook.storage.database import Database
from webhook.storage.records import AlertFilter, AlertSort, NotificationFilter, TriggerFilter
from webhook.storage.tables import alert, alert_comment, alert_dynamic, alert_trigger_log, notification
from webhook.storage.trigger_search import list_triggers
from webhook.web.parameters import day_start


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    database = rows.open_store(store_url)
    yield database
    database.close()


@pytest.fixture
def seeded(database: Database) -> dict[str, str]:
    return rows.seed(database)


def found(database: Database, wanted: AlertFilter, **how: object) -> list[str]:
    with database.read() as connection:
        listed = queries.list_alerts(connection, wanted, **{"limit": 100, **how})  # type: ignore[arg-type]
        assert queries.count_alerts(connection, wanted) == len(listed)
    return [record.id for record in listed]


def test_filters_narrow_and_combine(database: Database, seeded: dict[str, str]) -> None:
    assert len(found(database, AlertFilter())) == 27
    assert found(database, AlertFilter(status=AlertStatus.DISMISSED)) == [seeded["dismissed"]]
    assert found(database, AlertFilter(severity=Severity.P0)) == [seeded["long"]]
    assert found(database, AlertFilter(account_id="acc_017")) == [seeded["attack"]]
    velocity = AlertFilter(alert_type="VELOCITY_ATTACK", status=AlertStatus.ACTIVE)
    assert found(database, velocity) == [seeded["long"]]
    assert found(database, AlertFilter(since=NOW - timedelta(hours=1))) == [seeded["hostile"], seeded["attack"]]
    assert found(database, AlertFilter(until=NOW - timedelta(hours=24), search="harbour")) == [seeded["dismissed"]]


@pytest.mark.parametrize(
    ("search", "name"),
    [
        ("nordLICHT", "attack"),
        ("acc_017", "attack"),
        ("Café", "resolved"),
        ("CAFÉ", "resolved"),
        ("<script>", "hostile"),
    ],
)
def test_search_finds_a_part_of_a_name_or_account(
    database: Database, seeded: dict[str, str], search: str, name: str
) -> None:
    assert found(database, AlertFilter(search=search)) == [seeded[name]]


@pytest.mark.parametrize("search", ["%%", "_c_", "100%", "\\", "'; DROP TABLE alert; --", "acc?017"])
def test_search_text_is_no_pattern(database: Database, seeded: dict[str, str], search: str) -> None:
    assert found(database, AlertFilter(search=search)) == []


def test_severity_order_is_gravest_first_then_newest(database: Database, seeded: dict[str, str]) -> None:
    listed = found(database, AlertFilter(), sort=AlertSort.SEVERITY)
    assert listed[:4] == [seeded["long"], seeded["attack"], seeded["hostile"], seeded["resolved"]]


@pytest.mark.parametrize("sort", list(AlertSort))
@pytest.mark.parametrize("descending", [True, False])
def test_pages_never_overlap_even_where_times_are_equal(database: Database, sort: AlertSort, descending: bool) -> None:
    ids = {rows.insert_alert(database, account_id=f"acc_{number}") for number in range(23)}
    seen: list[str] = []
    for page in range(5):
        with database.read() as connection:
            listed = queries.list_alerts(
                connection, AlertFilter(), sort=sort, descending=descending, limit=5, offset=page * 5
            )
        seen += [record.id for record in listed]
    assert len(seen) == 23
    assert set(seen) == ids


def test_the_head_of_the_list_counts_today(database: Database, seeded: dict[str, str]) -> None:
    rows.insert_alert(database, status="RESOLVED", at=NOW - timedelta(days=2), resolved_at=day_start(NOW))
    rows.insert_alert(
        database, status="RESOLVED", at=NOW - timedelta(days=2), resolved_at=day_start(NOW) - timedelta(microseconds=1)
    )
    with database.read() as connection:
        counted = queries.statistics(connection, day_start(NOW))
    assert counted.active == {Severity.P0: 1, Severity.P1: 1, Severity.P2: 1, Severity.P3: 0}
    assert counted.resolved == 2
    assert (counted.suppressed, counted.suppressed_accounts) == (3, 2)


def test_the_verdict_is_that_of_the_last_trigger_that_counted(database: Database) -> None:
    alert_id, without = rows.insert_alert(database), rows.insert_alert(database)
    rows.insert_trigger(database, alert_id, at=NOW - timedelta(minutes=9), verdict={"reason": "old"})
    rows.insert_trigger(database, alert_id, at=NOW, outcome="session_updated", verdict={"reason": "new"})
    rows.insert_trigger(database, alert_id, at=NOW + timedelta(minutes=1), outcome="duplicate", verdict={})
    with database.read() as connection:
        assert queries.latest_verdicts(connection, [alert_id, without]) == {alert_id: {"reason": "new"}, without: {}}


def test_triggers_are_found_by_account_name_and_outcome(database: Database, seeded: dict[str, str]) -> None:
    def names(**wanted: object) -> list[str]:
        with database.read() as connection:
            listed = list_triggers(connection, TriggerFilter(**wanted)).records  # type: ignore[arg-type]
        return [record.account_id for record in listed]

    assert names(account="acc_029") == ["acc_029"] * 2
    assert names(account="mistral") == ["acc_029"] * 2
    assert names(account="acc_03") == ["acc_031", "acc_033", "acc_034"]
    assert names(outcome=Outcome.REJECTED) == ["acc_034"]
    assert names(account="osaka", outcome=Outcome.CREATED) == []
    assert len(names(alert_id=seeded["attack"])) == 8
    assert names(since=NOW - timedelta(minutes=4)) == ["acc_017", "acc_031", "acc_<b>"]


def test_the_trigger_log_is_walked_without_gap_or_repeat(database: Database) -> None:
    same_time = [rows.insert_trigger(database) for _ in range(7)]
    later = [rows.insert_trigger(database, at=NOW) for _ in range(4)]
    place, seen = None, []
    while True:
        with database.read() as connection:
            page = list_triggers(connection, TriggerFilter(before=place), limit=3).records
        if not page:
            break
        seen += [record.id for record in page]
        place = (page[-1].created_at, page[-1].id)
    assert sorted(seen[:4]) == sorted(later)
    assert sorted(seen[4:]) == sorted(same_time)


def test_a_trigger_that_could_not_be_read_is_listed_all_the_same(database: Database) -> None:
    trigger = rows.insert_trigger(database, outcome="rejected", verdict={"error": "no labels", "raw": "{"})
    with database.write() as connection:
        blank = dict.fromkeys(("alert_name", "alert_type", "account_id", "status", "severity"), "")
        connection.execute(sa.update(alert_trigger_log).values(labels={}, starts_at=None, **blank))
    with database.read() as connection:
        (record,) = list_triggers(connection, TriggerFilter()).records
    assert (record.id, record.severity, record.status) == (trigger, "", "")


def test_what_changed_is_seen(database: Database) -> None:
    with database.read() as connection:
        assert last_trigger_at(connection) is None
    old = rows.insert_alert(database, at=NOW - timedelta(hours=1))
    new = rows.insert_alert(database, at=NOW)
    rows.insert_notification(database, old, status="SENT")
    waiting = rows.insert_notification(database, new, status="PENDING", retries=2)
    rows.insert_trigger(database, new, at=NOW)
    with database.read() as connection:
        assert changed_alerts(connection, NOW - timedelta(minutes=1), 10) == [(new, NOW)]
        assert open_notifications(connection, 10) == {waiting: (new, "PENDING/2")}
        assert last_trigger_at(connection) == NOW


def test_no_question_reads_a_whole_table(database: Database) -> None:
    """The plans of the statements that run at every view or every second, over a store of some size."""
    _fill(database, 5000)
    plans = _plans(database)
    whole = {name: [line for line in plan if _reads_all(line)] for name, plan in plans.items()}
    assert {name: lines for name, lines in whole.items() if lines} == {}
    if database.dialect == "sqlite":
        assert any("ix_alert_trigger_log_outcome_created_at" in line for line in plans["statistics"])


def _reads_all(line: str) -> bool:
    return "Seq Scan" in line or (line.startswith("SCAN ") and " USING " not in line)


def _fill(database: Database, count: int) -> None:
    """`count` more of everything, each an hour older than the one before."""
    first = rows.insert_alert(database, at=NOW - timedelta(minutes=5), status="RESOLVED")
    rows.insert_trigger(database, first)
    rows.insert_comment(database, first, "note")
    rows.insert_notification(database, first)
    ids = [str(uuid4()) for _ in range(count)]
    with database.write() as connection:
        for table in (alert, alert_dynamic, alert_trigger_log, alert_comment, notification):
            model = dict(connection.execute(sa.select(table)).mappings().one())
            connection.execute(sa.insert(table), [_copy(model, table.name, *item) for item in enumerate(ids)])
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def _copy(model: dict[str, object], table: str, number: int, alert_id: str) -> dict[str, object]:
    copy = dict(model)
    for name, value in model.items():
        if name in ("created_at", "updated_at") and isinstance(value, datetime):
            copy[name] = value - timedelta(hours=number + 1)
    ids = {"id": alert_id} if table == "alert" else {"id": str(uuid4()), "alert_id": alert_id}
    account = {"account_id": f"acc_{number}"} if table == "alert_trigger_log" else {}
    return copy | ids | account | ({"condition_fingerprint": uuid4().hex} if table == "alert_dynamic" else {})


def _plans(database: Database) -> dict[str, list[str]]:
    statements: list[tuple[str, object]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        statements.append((statement, parameters))

    asked = {
        "list": lambda c: queries.list_alerts(c, AlertFilter()),
        "verdicts": lambda c: queries.latest_verdicts(c, [str(uuid4())]),
        "detail": lambda c: queries.alert_by_id(c, str(uuid4())),
        "comments": lambda c: queries.comments_of(c, str(uuid4())),
        "notifications": lambda c: queries.list_notifications(c, NotificationFilter(alert_id=str(uuid4()))),
        "timeline": lambda c: list_triggers(c, TriggerFilter(alert_id=str(uuid4()))),
        "account": lambda c: list_triggers(c, TriggerFilter(account="acc_7")),
        "triggers": lambda c: list_triggers(c, TriggerFilter(since=NOW - timedelta(days=1))),
        "statistics": lambda c: queries.statistics(c, day_start(NOW)),
        "changes": lambda c: changed_alerts(c, NOW - timedelta(seconds=15), 500),
        "last": last_trigger_at,
    }
    plans = {}
    explain = "EXPLAIN QUERY PLAN " if database.dialect == "sqlite" else "EXPLAIN "
    with database.read() as connection:
        for name, ask in asked.items():
            statements.clear()
            sa.event.listen(connection, "before_cursor_execute", note)
            ask(connection)
            sa.event.remove(connection, "before_cursor_execute", note)
            plans[name] = [
                str(row[-1]).strip()
                for statement, parameters in list(statements)
                for row in connection.exec_driver_sql(explain + statement, parameters)  # type: ignore[arg-type]
            ]
    return plans
