"""The migrations and the tables are two accounts of one schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from webhook.storage.database import Database
from webhook.storage.migrations import downgrade, upgrade
from webhook.storage.tables import metadata


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


def test_upgrade_makes_the_tables_of_the_code(store_url: str) -> None:
    upgrade(store_url)
    upgrade(store_url)  # nothing is left to do
    database = Database(store_url)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    migrated = constraints(database.engine)
    downgrade(store_url, "base")
    assert sa.inspect(database.engine).get_table_names() == ["alembic_version"]
    metadata.create_all(database.engine)
    assert constraints(database.engine) == migrated
    database.close()


def test_a_migration_that_fails_changes_nothing(store_url: str) -> None:
    database = Database(store_url)
    with database.write() as connection:
        connection.execute(sa.text("CREATE TABLE notification (id INTEGER)"))
    with pytest.raises(sa.exc.DatabaseError):
        upgrade(store_url)
    assert set(sa.inspect(database.engine).get_table_names()) <= {"alembic_version", "notification"}
    database.close()


def test_the_migrations_are_where_an_installed_package_has_them() -> None:
    import webhook.storage.migrations as package
    from webhook.storage.migrations import versions

    folder = Path(package.__file__ or "").parent
    assert (folder / "script.py.mako").exists()
    assert list(Path(versions.__file__ or "").parent.glob("0001_*.py"))
