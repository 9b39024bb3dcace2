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
"""For a lock, where the wait is not what is tested: a machine that stalls must not make it a failure."""

_TEMPLATE = "sentinel_template"
_sqlite: list[bytes] = []  # the migrated file, once it was made
_clusters: dict[tuple[str, int], Cluster] = {}


class Cluster:
    """The databases of one PostgreSQL server, made and dropped over one connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers, self._spare, self._migrated = itertools.count(1), list[str](), False
        self.admin = psycopg.connect(f"{url}/postgres", autocommit=True)

    def _run(self, statement: str) -> None:
        self.admin.execute(statement.encode())

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Name of an empty database."""
        name = f"test_{next(self._numbers)}"
        self._run(f"ALTER DATABASE {self._spare.pop()} RENAME TO {name}" if self._spare else f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def migrate(self, name: str) -> None:
        """Put a copy of the migrated database into the place of an empty one, which stays for another test."""
        from webhook.storage.migrations import upgrade

        if not self._migrated:
            self._run(f"CREATE DATABASE {_TEMPLATE}")
            upgrade(f"{self.url.replace('postgresql:', 'postgresql+psycopg:')}/{_TEMPLATE}")
            self._migrated = True
        spare = f"spare_{next(self._numbers)}"
        self._run(f"ALTER DATABASE {name} RENAME TO {spare}")
        self._spare.append(spare)
        self._run(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")


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
