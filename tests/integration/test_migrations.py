"""The migrations and the tables are two accounts of one schema."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from page_rows import seed

from webhook.storage import migrations
from webhook.storage.database import Database
from webhook.storage.migrations import ForeignKeysBroken, UnknownRevision, downgrade, upgrade
from webhook.storage.queries import list_alerts
from webhook.storage.records import AlertFilter
from webhook.storage.tables import metadata

OF_POSTGRESQL = ("ix_alert_texts", "ix_alert_dynamic_gravest", "ix_alert_dynamic_status_gravest")


def constraints(engine: sa.Engine) -> dict[str, Any]:
    """Names and conditions of what autogenerate does not compare."""
    inspector = sa.inspect(engine)
    return {
        table: (
            sorted((check["name"] or "", check["sqltext"]) for check in inspector.get_check_constraints(table)),
            sorted((key["name"] or "", str(key["options"])) for key in inspector.get_foreign_keys(table)),
            sorted(
                (
                    index["name"] or "",
                    index["unique"],
                    sorted(f"{k}={v}" for k, v in index.get("dialect_options", {}).items()),
                )
                for index in inspector.get_indexes(table)
            ),
            inspector.get_pk_constraint(table)["name"],
        )
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def comparable(dialect: str) -> Callable[..., bool]:
    """Autogenerate cannot compare an index in falling order on SQLite, nor leave out those of another dialect."""

    def included(_item: object, name: str | None, *_rest: object) -> bool:
        return dialect == "postgresql" or name not in OF_POSTGRESQL

    return included


def test_upgrade_makes_the_tables_of_the_code(store_url: str) -> None:
    upgrade(store_url)
    upgrade(store_url)  # nothing is left to do
    database = Database(store_url)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": comparable(database.dialect)})
        assert compare_metadata(context, metadata) == []
    migrated = constraints(database.engine)
    downgrade(store_url, "base")
    assert sa.inspect(database.engine).get_table_names() == ["alembic_version"]
    metadata.create_all(database.engine)
    assert constraints(database.engine) == migrated
    database.close()


def test_where_the_extension_is_refused_search_goes_without_its_index(
    postgresql_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = postgresql_database.rsplit("/", 1)[1]
    with psycopg.connect(postgresql_database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE tenant_of_{name} LOGIN".encode())
        connection.execute(f"GRANT CREATE ON SCHEMA public TO tenant_of_{name}".encode())
    url = postgresql_database.replace("postgresql://sentinel", f"postgresql+psycopg://tenant_of_{name}")
    upgrade(url)
    assert "CREATE EXTENSION pg_trgm; CREATE INDEX ix_alert_texts" in caplog.text
    database = Database(url)
    seeded = seed(database)
    with database.read() as connection:
        found = list_alerts(connection, AlertFilter(search="nordLICHT"))
    assert [record.id for record in found] == [seeded["attack"]]
    downgrade(url, "0001")
    database.close()
    with psycopg.connect(postgresql_database, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY tenant_of_{name}; DROP ROLE tenant_of_{name}".encode())


def test_a_migration_that_fails_changes_nothing(store_url: str) -> None:
    database = Database(store_url)
    with database.write() as connection:
        connection.execute(sa.text("CREATE TABLE notification (id INTEGER)"))
    with pytest.raises(sa.exc.DatabaseError):
        upgrade(store_url)
    assert set(sa.inspect(database.engine).get_table_names()) <= {"alembic_version", "notification"}
    database.close()


REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "next", "0002"


def upgrade():
    with op.batch_alter_table("alert") as batch:
        batch.add_column(sa.Column("note", sa.Text()))
        batch.alter_column("title", type_=sa.String(500))
    op.execute("{statement}")
"""


def migrate_on(url: str, folder: Path, statement: str) -> None:
    """Apply one more revision, as `upgrade` would."""
    (folder / "next.py").write_text(REVISION.format(statement=statement))
    known = Path(migrations.__file__ or "").parent / "versions"

    def step(config: Config, revision: str) -> None:
        config.set_main_option("version_locations", f"{known}:{folder}")
        command.upgrade(config, revision)

    migrations._run(url, step, "head")


def counted(database: Database) -> dict[str, int]:
    with database.read() as connection:
        return {
            name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for name, table in metadata.tables.items()
        }


def test_altering_a_table_loses_nothing_that_refers_to_it(store_url: str, tmp_path: Path) -> None:
    upgrade(store_url)
    database = Database(store_url)
    seed(database)
    before = counted(database)
    assert min(before[name] for name in ("alert", "alert_dynamic", "alert_comment", "notification")) > 0

    migrate_on(store_url, tmp_path, "SELECT 1")

    assert counted(database) == before
    columns = {column["name"] for column in sa.inspect(database.engine).get_columns("alert")}
    assert "note" in columns
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        connection.execute(sa.update(metadata.tables["notification"]).values(alert_id=str(uuid.uuid4())))
    database.close()


def test_a_migration_that_leaves_rows_without_their_alert_is_undone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sentinel.db"
    upgrade(url)
    database = Database(url)
    seed(database)
    before = counted(database)

    with pytest.raises(ForeignKeysBroken, match="notification → alert"):
        migrate_on(url, tmp_path, "DELETE FROM alert")

    assert counted(database) == before
    database.close()


def test_a_commit_on_sqlite_outlives_a_power_loss(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/sentinel.db")
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL"
    database.close()


def test_the_migrations_are_where_an_installed_package_has_them() -> None:
    import webhook.storage.migrations as package
    from webhook.storage.migrations import versions

    folder = Path(package.__file__ or "").parent
    assert (folder / "script.py.mako").exists()
    assert list(Path(versions.__file__ or "").parent.glob("0001_*.py"))


def test_a_revision_that_nobody_knows_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sentinel.db"
    upgrade(url)
    with pytest.raises(UnknownRevision, match="0815"):
        downgrade(url, "0815")
