"""The schema's history, applied without an ini file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from webhook.storage.database import Database

_LOCK = 0x53454E54  # any number, the same for everyone who migrates this schema


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to a revision, in one transaction; others that migrate wait for it."""
    _run(url, command.upgrade, revision)


def downgrade(url: str, revision: str) -> None:
    """Take the database at `url` back to a revision (`base`: to nothing), in one transaction."""
    _run(url, command.downgrade, revision)


def _run(url: str, step: Callable[[Config, str], None], revision: str) -> None:
    database = Database(url)
    try:
        with database.write() as connection:
            if database.dialect == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            step(configuration(connection), revision)
    finally:
        database.close()


def configuration(connection: sa.Connection) -> Config:
    """Alembic's configuration for one open transaction."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
