"""The schema that this version works with, and whether a database has it."""

from __future__ import annotations

import sqlalchemy as sa

from webhook.storage.database import Database

REVISION = "0002"
"""The newest of `storage/migrations/versions`; kept here, for Alembic takes long to import."""

_version = sa.table("alembic_version", sa.column("version_num"))


def unready(database: Database) -> str:
    """Why the database cannot be used, in words for an operator; empty when it can.

    One that is newer will do: it is migrated before the processes are replaced.
    """
    try:
        with database.read() as connection:
            if not sa.inspect(connection).has_table(_version.name):
                return "the database is empty: run sentinel-webhook migrate"
            found = connection.scalar(sa.select(_version.c.version_num))
    except sa.exc.SQLAlchemyError as error:
        return f"the database cannot be used: {type(getattr(error, 'orig', None) or error).__name__}"
    if found is None or found < REVISION:
        return f"the database is at revision {found}, {REVISION} is needed: run sentinel-webhook migrate"
    return ""
