"""The schema's history, applied without an ini file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from webhook.storage.database import Database, allow

_LOCK = 0x53454E54  # any number, the same for everyone who migrates this schema


class ForeignKeysBroken(Exception):  # noqa: N818 - a state of the data
    """A migration would leave rows that refer to nothing; nothing of it was kept."""


class UnknownRevision(Exception):  # noqa: N818 - an answer to a person
    """There is no such revision, or the database is at one that this version does not know."""


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to a revision, in one transaction; others that migrate wait for it."""
    _run(url, command.upgrade, revision)


def downgrade(url: str, revision: str) -> None:
    """Take the database at `url` back to a revision (`base`: to nothing), in one transaction."""
    _run(url, command.downgrade, revision)


def _run(url: str, step: Callable[[Config, str], None], revision: str) -> None:
    database = Database(url)
    sqlite = database.dialect == "sqlite"
    if sqlite:
        sa.event.listen(database.engine, "connect", _let_tables_be_copied)
    try:
        with database.write() as connection:
            if not sqlite:
                _wait_for_others(connection)
            try:
                step(configuration(connection), revision)
            except CommandError as error:
                raise UnknownRevision(f"{error}") from error
            if sqlite:
                _check_foreign_keys(connection)
    finally:
        database.close()


def _wait_for_others(connection: sa.Connection) -> None:
    """However long they take, and so may the statements after this; not for the locks of those who serve, though.

    Whoever waits for such a lock holds up everybody who comes after: better to fail and to be run again.
    """
    allow(connection, None)
    patience = connection.scalar(sa.text("SHOW lock_timeout"))
    connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    connection.execute(sa.select(sa.func.set_config("lock_timeout", patience, True)))


def _let_tables_be_copied(connection: Any, _record: Any) -> None:
    """SQLite alters a table by dropping it for a copy, and would delete whatever cascades from it.

    Within a transaction the pragma does nothing; these connections serve this migration alone.
    """
    connection.execute("PRAGMA foreign_keys=OFF")


def _check_foreign_keys(connection: sa.Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if broken:
        tables = ", ".join(sorted({f"{row[0]} → {row[2]}" for row in broken}))
        raise ForeignKeysBroken(f"{len(broken)} rows refer to nothing: {tables}")


def configuration(connection: sa.Connection) -> Config:
    """Alembic's configuration for one open transaction."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
