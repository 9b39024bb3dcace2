"""Write transactions whose failures say whether the same again can help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from webhook.ports import StoreConflict, StoreUnavailable
from webhook.storage.database import Database

_CONFLICTS = ("40001", "40P01")  # PostgreSQL: serialisation failure, deadlock


@contextmanager
def transaction(database: Database) -> Iterator[sa.Connection]:
    """Commit on leaving; raise StoreConflict or StoreUnavailable for what the database refuses; DataError goes on."""
    try:
        with database.write() as connection:
            yield connection
    except sa.exc.IntegrityError as error:
        raise StoreConflict("another transaction wrote the same alert") from error
    except sa.exc.DataError:
        raise  # a value that it cannot take: the same again cannot help
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _CONFLICTS:
            raise StoreConflict("the transaction met another one, or its connection broke") from error
        raise StoreUnavailable(f"the database refuses: {type(error.orig).__name__}") from error
    except sa.exc.TimeoutError as error:
        raise StoreUnavailable("no connection to the database became free in time") from error
