"""The schema while others use it: who migrates waits for who migrates, readers go on, and readiness says what is so."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from servers import wait_for

from webhook.app import create_app
from webhook.config import Settings
from webhook.storage.database import Database
from webhook.storage.migrations import _LOCK, downgrade, upgrade
from webhook.storage.schema import REVISION
from webhook.worker import build_worker
from webhook.worker_options import WorkerOptions

on_postgresql = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    database = Database(store_url)
    yield database
    database.close()


def test_readiness_says_what_to_do_until_the_schema_is_the_newest(store_url: str) -> None:
    settings = Settings(
        database_url=store_url, ingest_token="i" * 20, admin_token="a" * 20, secret_key="s" * 20, config_file=None
    )
    app = create_app(settings)
    client = app.test_client()
    worker = build_worker(settings, WorkerOptions(), CollectorRegistry())

    def answers() -> list[tuple[int, str]]:
        told = client.get("/-/ready")
        reason = worker.unready()
        assert told.text.strip() == (reason or "ready")
        return [(told.status_code, told.text.strip())]

    assert answers() == [(503, "the database is empty: run sentinel-webhook migrate")]
    upgrade(store_url, "0001")
    older = f"the database is at revision 0001, {REVISION} is needed: run sentinel-webhook migrate"
    assert answers() == [(503, older)]
    upgrade(store_url)
    assert answers() == [(200, "ready")]
    newer = Database(store_url)
    with newer.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0999'"))
    assert answers() == [(200, "ready")], "it was migrated before this process is replaced"
    newer.close()
    app.extensions["sentinel_database"].close()
    worker.dispatcher.close()
    worker.close()


def test_the_revision_that_is_asked_for_is_the_newest_there_is(store_url: str, database: Database) -> None:
    upgrade(store_url)
    with database.read() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == REVISION


@on_postgresql
def test_a_second_migration_waits_for_the_first_however_long_that_takes(
    store_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.storage.database.LONGEST_WAIT_S", 1)
    monkeypatch.setattr("webhook.storage.database.LONGEST_STATEMENT_S", 1)
    waiting = sa.text("SELECT now() - query_start > interval '3 s' FROM pg_stat_activity WHERE wait_event = 'advisory'")

    def waits_beyond_all_limits() -> bool:
        with database.read() as connection:
            return bool(connection.scalar(waiting))

    with ThreadPoolExecutor(1) as pool:
        with database.write() as first:
            first.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            second = pool.submit(upgrade, store_url)
            wait_for(lambda: second.done() or waits_beyond_all_limits(), what="a second migration that waits")
            assert not second.done(), second.exception()
        second.result()


@on_postgresql
def test_readers_go_on_while_indexes_are_built(store_url: str, database: Database) -> None:
    upgrade(store_url, "0001")
    with database.read() as connection:
        old = set(sa.inspect(connection).get_table_names())
    held = sa.text(
        "SELECT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE l.mode = 'AccessExclusiveLock'"
    )
    built: dict[str, set[str]] = {}

    def note(connection: sa.Connection, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("CREATE INDEX"):
            with database.read() as other:
                built[statement] = set(other.scalars(held)) & old

    sa.event.listen(sa.Engine, "after_cursor_execute", note)
    try:
        upgrade(store_url)
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", note)
    # Those of new columns have to come after them: no value stands there yet, so each is one look through its table.
    old_columns = [
        built[statement] for statement in built if not any(new in statement for new in ("audit_log", "group_id"))
    ]
    shut = set().union(*old_columns)
    assert len(built) > 3
    assert shut == set()


@on_postgresql
def test_a_migration_does_not_wait_for_readers_for_ever(
    store_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a table to be free holds up all who come after."""
    upgrade(store_url)
    monkeypatch.setattr("webhook.storage.database.LONGEST_WAIT_S", 1)
    with database.read() as reader, ThreadPoolExecutor(1) as pool:
        reader.execute(sa.text("LOCK TABLE alert IN ACCESS SHARE MODE"))
        migration = pool.submit(downgrade, store_url, "base")
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            migration.result()
