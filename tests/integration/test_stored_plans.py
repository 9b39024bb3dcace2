"""With many triggers stored, what is asked all the time is answered from indexes, in PostgreSQL's own estimate."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from bench.stored import asked, fill, newest_alert, whole_tables
from webhook.storage.database import Database
from webhook.storage.migrations import upgrade

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
OF_FEW_ALERTS = {"alerts, gravest", "alerts, active and gravest", "alerts, active"}  # 4,000 may be read and sorted


@pytest.fixture
def filled(postgresql_database: str) -> Iterator[Database]:
    url = postgresql_database.replace("postgresql://", "postgresql+psycopg://")
    upgrade(url)
    fill(postgresql_database, triggers=20_000, alerts=4_000, now=NOW)
    database = Database(url)
    yield database
    database.close()


def test_no_query_of_a_page_reads_a_large_table_whole(filled: Database) -> None:
    with filled.read() as connection:
        of = newest_alert(connection)
        read = {name: whole_tables(connection, ask) for name, ask in asked(*of, NOW).items()}
    assert {name: tables for name, tables in read.items() if tables and name not in OF_FEW_ALERTS} == {}
    assert all("alert_trigger_log" not in tables for tables in read.values())
