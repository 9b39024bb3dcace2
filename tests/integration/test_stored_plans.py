"""With many triggers stored, what is asked all the time is answered from indexes, in PostgreSQL's own estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psycopg
import pytest
import sqlalchemy as sa
from servers import wait_for
from stores import Cluster

from bench.stored import fill, plans, whole_tables
from bench.stored_questions import Questions, Subject, details, figures, lists, searches, subject
from webhook.storage import queries
from webhook.storage.database import Database
from webhook.storage.migrations import upgrade
from webhook.storage.records import AlertFilter, AlertSort, TriggerFilter, TriggerPage
from webhook.storage.tables import alert_trigger_log
from webhook.storage.trigger_search import list_triggers

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled(postgresql_server: str, postgresql_cluster: Cluster) -> Iterator[Database]:
    with postgresql_cluster.database() as name:
        url = f"{postgresql_server}/{name}"
        database = Database(url.replace("postgresql://", "postgresql+psycopg://"))
        upgrade(url.replace("postgresql://", "postgresql+psycopg://"))
        fill(url, triggers=20_000, alerts=4_000, now=NOW)
        wait_for(lambda: all_visible(url), what="nobody who could still see what was there before the rows")
        yield database
        database.close()


def all_visible(url: str) -> bool:
    """Whether an index alone can answer: a vacuum marks only pages that no transaction sees otherwise."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM alert_trigger_log")
        row = connection.execute(
            "SELECT relallvisible = relpages FROM pg_class WHERE oid = 'alert_trigger_log'::regclass"
        ).fetchone()
    return row is not None and bool(row[0])


def read_whole(database: Database, *questions: Callable[[Subject], Questions]) -> dict[str, list[str]]:
    """What each question reads from end to end, where that is anything."""
    with database.read() as connection:
        of = subject(connection, NOW)
        asked = {name: ask for some in questions for name, ask in some(of).items()}
        read = {name: whole_tables(connection, ask) for name, ask in asked.items()}
    return {name: tables for name, tables in read.items() if tables}


def test_no_query_of_a_page_reads_a_large_table_whole(filled: Database) -> None:
    read = {table for tables in read_whole(filled, lists, details).values() for table in tables}
    assert read <= {"alert", "alert_dynamic"}, "a few thousand rows may be read and sorted"


def test_a_name_is_looked_for_among_accounts_not_among_triggers(filled: Database) -> None:
    read = read_whole(filled, searches)
    reading = {name for name, tables in read.items() if "alert_trigger_log" in tables}
    assert reading <= {"triggers, a label", "triggers, a name of all"}


@pytest.mark.parametrize(
    ("question", "index"),
    [
        ("alerts, gravest", "ix_alert_dynamic_gravest"),
        ("alerts, gravest, from the middle", "ix_alert_dynamic_gravest"),
        ("alerts, active and gravest", "ix_alert_dynamic_status_gravest"),
        ("alerts, no name", "ix_alert_texts"),
        ("alerts counted, one name", "ix_alert_texts"),
        ("triggers, one name", "ix_alert_trigger_log_account_id_created_at"),
        ("triggers of a merchant", "ix_alert_trigger_log_account_id_created_at"),
        ("statistics, 30 days", "ix_alert_trigger_log_outcome_created_at"),
    ],
)
def test_each_question_has_the_index_that_was_made_for_it(filled: Database, question: str, index: str) -> None:
    with filled.read() as connection:
        of = subject(connection, NOW)
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # as it is with many more rows
        plan = plans(connection, {**lists(of), **searches(of), **figures(of)}[question])
    using = [line for line in plan if f" {index}" in line]
    assert using, "\n".join(plan)
    assert "statistics" not in question or all("Only" in line for line in using)


def test_who_is_told_together_is_found_without_reading_all_messages(filled: Database) -> None:
    """As each report of an SMS asks."""
    one = "'11111111-1111-4111-8111-111111111111'"
    with filled.read() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        asked = f"EXPLAIN SELECT id FROM notification WHERE (id = {one} OR group_id = {one}) AND status = 'SENT'"
        plan = "\n".join(row[0] for row in connection.exec_driver_sql(asked))
    assert "Seq Scan" not in plan
    assert "ix_notification_group_id" in plan


def test_figures_of_a_period_do_not_read_the_trigger_log_whole(filled: Database) -> None:
    assert "alert_trigger_log" not in {table for tables in read_whole(filled, figures).values() for table in tables}


@pytest.mark.parametrize("sort", list(AlertSort))
@pytest.mark.parametrize("descending", [True, False])
def test_a_place_in_the_middle_of_a_list_is_where_its_page_is(
    filled: Database, sort: AlertSort, descending: bool
) -> None:
    with filled.read() as connection:
        both = queries.list_alerts(connection, AlertFilter(), sort=sort, descending=descending, limit=60, offset=1970)
        place = queries.place_of(both[29], sort)
        after = queries.list_alerts(connection, AlertFilter(), sort=sort, descending=descending, limit=30, after=place)
    assert [record.id for record in after] == [record.id for record in both[30:]]


@pytest.mark.parametrize("text", ["merchant acc_1234", "MERCHANT ACC_70", "t ACC_199", "merchant"])
def test_triggers_of_a_name_are_found_however_old_they_are(filled: Database, text: str) -> None:
    log = alert_trigger_log.c
    name = sa.func.lower(log.labels["merchant_name"].as_string())
    with filled.read() as connection:
        wanted = sa.select(log.id).where(name.contains(text.lower(), autoescape=True))
        stored = list(connection.scalars(wanted.order_by(log.created_at.desc(), log.id.desc()).limit(200)))
        assert stored
        found, page = [], TriggerPage([], None)
        while len(found) < len(stored):
            before = page.next
            page = list_triggers(connection, TriggerFilter(account=text, before=before), limit=30)
            found += [record.id for record in page.records]
            assert page.next is not None or len(found) == len(stored)
    assert found[:200] == stored
