"""Fixtures over the real servers of `tests/servers.py`; databases are fresh for each test."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pymysql
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import servers
from stores import Cluster, cluster

# Programs that tests start, in whatever folder, are those of this checkout and not of one that is installed.
_ROOT = str(Path(__file__).parent.parent)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))

# How long an example takes, or its making, says nothing on a busy machine. What fails, fails at every run: `make fuzz`
# draws other examples.
_sturdy = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("fuzz", _sturdy, max_examples=500)
hypothesis.settings.register_profile("sentinel", _sturdy, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("sentinel")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with servers.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_cluster(postgresql_server: str) -> Iterator[Cluster]:
    with cluster(postgresql_server) as databases:
        yield databases


@pytest.fixture
def postgresql_database(postgresql_server: str, postgresql_cluster: Cluster) -> Iterator[str]:
    """URL of an empty PostgreSQL database."""
    with postgresql_cluster.database() as name:
        yield f"{postgresql_server}/{name}"


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[str]:
    with servers.mariadb() as url:
        yield url


@pytest.fixture
def mariadb_database(mariadb_server: str) -> Iterator[str]:
    """URL of an empty MariaDB database."""
    name, port = f"test_{next(_numbers)}", int(mariadb_server.rsplit(":", 1)[1])

    def execute(statement: str) -> None:
        with contextlib.closing(pymysql.connect(host="127.0.0.1", port=port, user="root")) as connection:
            connection.cursor().execute(statement)

    execute(f"CREATE DATABASE {name}")
    yield f"{mariadb_server}/{name}"
    execute(f"DROP DATABASE {name}")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of a Redis; tests keep to keys of their own."""
    with servers.redis() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLAlchemy URL of an empty store, on each database that the webhook supports; `stores.migrate` fills it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/sentinel.db"
    url: str = request.getfixturevalue("postgresql_database")
    return url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def free_port() -> Callable[[], int]:
    return servers.free_port


@pytest.fixture
def run_prometheus() -> Iterator[Callable[..., str]]:
    """`run_prometheus(config, *flags, port=…, data=…)` starts one and returns its base URL."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(servers.prometheus(*args, **options))


@pytest.fixture
def run_alertmanager() -> Iterator[Callable[..., str]]:
    """`run_alertmanager(config, *flags, port=…)` starts one and returns its base URL."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(servers.alertmanager(*args, **options))
