"""Sessions kept between collections: checked, shared, bounded, renewed; and what a broken one does to a source."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pymysql
import pytest
from servers import wait_for
from servers_database import Relay, relay

from exporter.collectors.base import Collection
from exporter.collectors.database import DatabaseCollector, DatabaseConfig, _pools
from exporter.errors import CollectError, Denied, Unauthorized, Unreachable

pytestmark = pytest.mark.xdist_group("mariadb")  # which is slow to start
METRICS = [{"source_field": "value", "prometheus_name": "sentinel_value", "labels": ["id"]}]


class Server:
    """A database server of either kind, and the URL of an empty database on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.parts = urlsplit(url)
        self.postgresql = url.startswith("postgresql")

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Rows of the last statement, by another connection."""
        with contextlib.closing(self._connect()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def sessions(self, running: str = "") -> list[int]:
        """Ids of the exporter's sessions, those that run a statement with the given text."""
        if self.postgresql:
            rows = self.execute(
                "SELECT pid, state, query FROM pg_stat_activity WHERE application_name = 'sentinel-exporter'"
            )
            return [pid for pid, state, query in rows if not running or (state == "active" and running in query)]
        rows = self.execute(
            "SELECT id, info FROM information_schema.processlist WHERE db = DATABASE() AND id <> connection_id()"
        )
        return [number for number, info in rows if not running or running in (info or "")]

    def kill(self) -> None:
        """End the exporter's sessions, as a restart would."""
        for number in self.sessions():
            self.execute(f"SELECT pg_terminate_backend({number})" if self.postgresql else f"KILL {number}")
        wait_for(lambda: not self.sessions(), what="sessions ended")

    def sleep(self, seconds: float) -> str:
        name = "pg_sleep" if self.postgresql else "SLEEP"
        return f"SELECT 1 AS id, 2 AS value FROM (SELECT {name}({seconds})) AS pause"

    def _connect(self) -> Any:
        if self.postgresql:
            return psycopg.connect(self.url, autocommit=True)
        parts = self.parts
        return pymysql.connect(host=parts.hostname, port=parts.port or 0, user="root", database=parts.path[1:])


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server(request.getfixturevalue(f"{request.param}_database"))
    monkeypatch.setenv("DATABASE", found.url)
    return found


@pytest.fixture
def sources() -> Iterator[Callable[..., DatabaseCollector]]:
    """Make collectors, which are closed in the end."""
    made: list[DatabaseCollector] = []

    def make(query: str = "SELECT 1 AS id, 2 AS value", **options: Any) -> DatabaseCollector:
        model = {"name": "x", "type": "database", "url_env": "DATABASE", "metrics": METRICS, "query": query} | options
        made.append(DatabaseCollector(DatabaseConfig.model_validate(model)))
        return made[-1]

    yield make
    for collector in made:
        collector.close()
    assert not _pools._pools


def collect(collector: DatabaseCollector, timeout: float = 60, later: float = 0) -> list[tuple[Any, ...]]:
    """Rows of one collection, begun `later` seconds from now."""
    collection = Collection(
        now=datetime.now(UTC), deadline=monotonic() + later + timeout, clock=lambda: monotonic() + later
    )
    frame = collector.collect(collection)
    return frame.select("id", "value").rows()


def test_a_session_is_kept_between_collections_and_closed_with_the_source(
    server: Server, sources: Callable[..., DatabaseCollector]
) -> None:
    collector = sources()
    assert collect(collector) == [(1, 2)]
    first = server.sessions()
    assert len(first) == 1
    assert collect(collector) == [(1, 2)]
    assert server.sessions() == first
    if server.postgresql:
        state = server.execute(f"SELECT state FROM pg_stat_activity WHERE pid = {first[0]}")
        assert state == [("idle",)], "no transaction is left open"
    collector.close()
    wait_for(lambda: not server.sessions(), what="closed")


def test_a_server_that_went_away_between_two_collections_costs_none(
    server: Server, sources: Callable[..., DatabaseCollector]
) -> None:
    collector = sources()
    collect(collector)
    server.kill()
    assert collect(collector) == [(1, 2)]


def test_a_session_is_renewed_when_its_lifetime_ends(server: Server, sources: Callable[..., DatabaseCollector]) -> None:
    collector = sources(pool={"max_lifetime": "10m"})
    collect(collector)
    first = server.sessions()
    collect(collector, later=500)
    assert server.sessions() == first
    collect(collector, later=601)
    wait_for(lambda: len(server.sessions()) == 1, what="the old one closed")
    assert server.sessions() != first


def test_sources_of_one_database_share_a_bounded_pool(
    server: Server, sources: Callable[..., DatabaseCollector]
) -> None:
    collectors = [sources(server.sleep(0.02), pool={"size": 3}) for _ in range(20)]
    threads = [threading.Thread(target=collect, args=(collector,)) for collector in collectors]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, len(server.sessions()))
    assert 1 <= most <= 3
    assert len(server.sessions()) <= 3


def test_a_query_that_hangs_delays_no_other_source(server: Server, sources: Callable[..., DatabaseCollector]) -> None:
    hanging = sources(server.sleep(3600), pool={"size": 2})
    failed = threading.Event()

    def hang() -> None:
        with pytest.raises(CollectError):
            collect(hanging, timeout=3600)
        failed.set()

    thread = threading.Thread(target=hang)
    thread.start()
    wait_for(lambda: server.sessions(running="3600"), what="hanging", timeout=60)
    other = sources(pool={"size": 2})
    for _ in range(5):
        collect(other)
    assert not failed.is_set()
    hanging.cancel()
    thread.join()
    assert collect(other) == [(1, 2)]


def test_cancelling_ends_the_query_on_the_server_at_once(
    server: Server, sources: Callable[..., DatabaseCollector]
) -> None:
    collector = sources(server.sleep(3601))
    failed: list[CollectError] = []

    def hang() -> None:
        try:
            collect(collector, timeout=3600)
        except CollectError as error:
            failed.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    wait_for(lambda: server.sessions(running="3601"), what="running", timeout=60)
    collector.cancel()
    wait_for(lambda: not server.sessions(running="3601"), what="cancelled on the server", timeout=60)
    thread.join()
    assert failed


def test_a_row_budget_stops_reading_and_the_next_collection_is_whole(
    server: Server, sources: Callable[..., DatabaseCollector]
) -> None:
    many = " UNION ALL ".join(f"SELECT {i} AS id, {i} AS value" for i in range(200))
    collector = sources(f"SELECT * FROM ({many}) AS a", max_rows=7, over_budget="truncate")
    for _ in range(2):
        assert len(collect(collector)) == 7


@pytest.fixture
def cut_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    assert server.parts.port
    with relay(server.parts.port) as found:
        options = "?sslmode=disable" if server.postgresql else ""
        url = server.url.replace(f":{server.parts.port}/", f":{found.port}/") + options
        monkeypatch.setenv("DATABASE", url)
        yield found


@pytest.mark.parametrize("params", [{}, {"nothing": ""}])
def test_a_database_that_closes_in_the_middle_of_a_result_is_unreachable_and_asked_again(
    server: Server, cut_server: Relay, sources: Callable[..., DatabaseCollector], params: dict[str, str]
) -> None:
    numbers = "generate_series(1, 30000) AS n(id)" if server.postgresql else "numbers"
    if not server.postgresql:
        server.execute("CREATE TABLE numbers AS SELECT seq AS id FROM seq_1_to_30000")
    condition = " WHERE :nothing = ''" if params else ""
    query = f"SELECT id, id AS value FROM {numbers}{condition}"
    collector = sources(query, params=params, tls={"mode": "disable"})
    assert len(collect(collector)) == 30_000
    cut_server.most = 30_000
    with pytest.raises(Unreachable):
        collect(collector)
    cut_server.most = None
    assert len(collect(collector)) == 30_000


def test_another_host_is_asked_at_the_next_collection(
    server: Server, sources: Callable[..., DatabaseCollector], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = sources()
    collect(collector)
    assert server.parts.port
    with relay(server.parts.port) as other:
        monkeypatch.setenv("DATABASE", server.url.replace(f":{server.parts.port}/", f":{other.port}/"))
        collect(collector)
        assert other.accepted == 1
        assert len(server.sessions()) == 1, "the old one is closed"
        collector.close()


SPECIAL = "p@ss:w/rd?#[%41]&= '\"\\ü"


def test_special_characters_and_changed_passwords_in_url_and_connection(
    mariadb_database: str, sources: Callable[..., DatabaseCollector], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(mariadb_database)
    user = f"us%er {server.parts.path[6:]}"
    literal = SPECIAL.replace("\\", "\\\\").replace("'", "''")
    server.execute(f"CREATE USER '{user}' IDENTIFIED BY '{literal}'")
    where = f"127.0.0.1:{server.parts.port}"
    try:
        monkeypatch.setenv("DATABASE", f"mysql://{quote(user)}:{quote(SPECIAL, safe='')}@{where}")
        by_url = sources("SELECT 1 AS id, CURRENT_USER() AS value")
        assert collect(by_url)[0][1].startswith(user)
        monkeypatch.setenv("SECRET", SPECIAL)
        connection = {"driver": "mariadb", "host": "127.0.0.1", "port": server.parts.port, "username": user}
        connection |= {"database": "information_schema", "password_env": "SECRET"}
        configured = sources(url_env=None, connection=connection)
        assert collect(configured) == [(1, 2)]
        server.execute(f"ALTER USER '{user}' IDENTIFIED BY 'second one'")
        assert collect(configured) == [(1, 2)], "sessions that are open stay so"
        monkeypatch.setenv("SECRET", "second one")
        assert collect(configured) == [(1, 2)], "no failed collection when both change"
        monkeypatch.setenv("SECRET", "third one")
        with pytest.raises(Unauthorized) as refused:
            collect(configured)
        assert "third one" not in str(refused.value)
    finally:
        server.execute(f"DROP USER '{user}'")


def test_a_database_name_with_special_characters(
    postgresql_server: str, sources: Callable[..., DatabaseCollector], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "a/b c?d#ä%"
    with psycopg.connect(f"{postgresql_server}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    for options in ("", "?sslmode=disable&application_name=mine"):
        monkeypatch.setenv("DATABASE", f"{postgresql_server}/{quote(name, safe='')}{options}")
        assert collect(sources("SELECT 1 AS id, current_database() AS value")) == [(1, name)]


def test_a_right_that_is_missing_is_denied_and_does_not_stop_the_source(
    server: Server, sources: Callable[..., DatabaseCollector], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = f"nobody_{server.parts.path[6:]}"
    server.execute(
        "CREATE TABLE hidden (id INT, value INT)",
        f"CREATE USER {user}",
        f"GRANT {'CONNECT ON DATABASE' if server.postgresql else 'CREATE ON'} "
        f"{server.parts.path[1:]}{'' if server.postgresql else '.*'} TO {user}",
    )
    parts = server.parts
    monkeypatch.setenv("DATABASE", f"{parts.scheme}://{user}@{parts.hostname}:{parts.port}{parts.path}")
    with pytest.raises(Denied) as denied:
        collect(sources("SELECT id, value FROM hidden"))
    assert not denied.value.stops
    server.execute(*([f"DROP OWNED BY {user}"] if server.postgresql else []), f"DROP USER {user}")
