"""Databases for the tests, cheap to make: the webhook's schema is migrated once and copied from then on."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import sqlalchemy as sa

PATIENCE_S = 60
"""For an answer or a lock, where the wait is not what is tested: a machine that stalls must not make it a failure."""

_TEMPLATE = "sentinel_template"
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
_SCHEMA_STATE = """
    SELECT (SELECT count(*) FROM pg_class), (SELECT max(xmin::text::bigint) FROM pg_class),
           (SELECT count(*) FROM pg_attribute), (SELECT max(xmin::text::bigint) FROM pg_attribute),
           (SELECT count(*) FROM pg_constraint), (SELECT max(xmin::text::bigint) FROM pg_constraint)
"""  # the last transaction that wrote the catalogue: any change of any table shows

_sqlite: list[bytes] = []  # the migrated file, once it was made
_clusters: dict[tuple[str, int], Cluster] = {}


class Cluster:
    """The databases of one PostgreSQL server, made and dropped over one connection.

    Making one costs more than most tests: empty ones and emptied ones change their names and are used again.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = itertools.count(1)
        self._empty, self._migrated, self._in_use = list[str](), list[str](), set[str]()
        self._schema: tuple[object, ...] | None = None  # of the template, once it was made
        self.admin = psycopg.connect(f"{url}/postgres", autocommit=True)

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Name of an empty database."""
        name = self._new_name()
        self._run(f"ALTER DATABASE {self._empty.pop()} RENAME TO {name}" if self._empty else f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            self._give_back(name)

    def migrate(self, name: str) -> None:
        """Put a migrated database into the place of an empty one, which stays for another test."""
        self._empty.append(self._renamed(name))
        if self._migrated:
            self._run(f"ALTER DATABASE {self._migrated.pop()} RENAME TO {name}")
        else:
            self._run(f"CREATE DATABASE {name} TEMPLATE {self._template()}")
        self._in_use.add(name)

    def _give_back(self, name: str) -> None:
        self.admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            if name in self._in_use and self._emptied(name):
                self._migrated.append(self._renamed(name))
                return
        except psycopg.errors.ObjectInUse:  # a thread of the test has just come back
            pass
        finally:
            self._in_use.discard(name)
        self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _emptied(self, name: str) -> bool:
        """Delete all rows; False when the test has changed the tables themselves."""
        with psycopg.connect(f"{self.url}/{name}", autocommit=True) as connection:
            if connection.execute(_SCHEMA_STATE).fetchone() != self._schema:
                return False
            tables = [name for (name,) in connection.execute(_TABLES)]
            deletes = "".join(f"DELETE FROM {table};" for table in tables)
            connection.execute(f"SET session_replication_role = replica; {deletes}".encode())  # in whatever order
        return True

    def _template(self) -> str:
        from webhook.storage.migrations import upgrade

        if self._schema is None:
            self._run(f"CREATE DATABASE {_TEMPLATE}")
            upgrade(f"{self.url.replace('postgresql:', 'postgresql+psycopg:')}/{_TEMPLATE}")
            with psycopg.connect(f"{self.url}/{_TEMPLATE}") as connection:
                self._schema = connection.execute(_SCHEMA_STATE).fetchone()
        return _TEMPLATE

    def _renamed(self, name: str) -> str:
        new = self._new_name()
        self._run(f"ALTER DATABASE {name} RENAME TO {new}")
        return new

    def _new_name(self) -> str:
        return f"test_{next(self._numbers)}"

    def _run(self, statement: str) -> None:
        self.admin.execute(statement.encode())


@contextlib.contextmanager
def cluster(url: str) -> Iterator[Cluster]:
    """`migrate` knows the server's databases while this is open."""
    made, place = Cluster(url), sa.make_url(url)
    _clusters[place.host or "", place.port or 0] = made
    try:
        yield made
    finally:
        del _clusters[place.host or "", place.port or 0]
        made.admin.close()


def migrate(store_url: str) -> None:
    """Give the empty store of the fixture `store_url` the newest schema, as `upgrade` would."""
    url = sa.make_url(store_url)
    if url.get_backend_name() == "postgresql":
        _clusters[url.host or "", url.port or 0].migrate(url.database or "")
    else:
        Path(url.database or "").write_bytes(_migrated_file())


def _migrated_file() -> bytes:
    from webhook.storage.migrations import upgrade

    if not _sqlite:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "template.db"
            upgrade(f"sqlite:///{path}")
            _sqlite.append(path.read_bytes())
    return _sqlite[0]
