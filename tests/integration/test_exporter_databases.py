"""The database source over real SQLite, DuckDB, PostgreSQL and MariaDB."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import duckdb
import psycopg
import pymysql
import pytest
from exporter_parts import running
from servers import wait_for

from exporter.scheduler import Clock

pytestmark = pytest.mark.xdist_group("mariadb")  # which is slow to start
SOURCE = """
- name: source
  type: database
  interval: {interval}
  timeout: {timeout}
  max_staleness: {max_staleness}
  max_rows: {max_rows}
  url_env: PAYMENTS_URL
  query: {query}
  metrics:
    - {{source_field: rate, prometheus_name: sentinel_block_rate, labels: [account_id, merchant_name]}}
    - {{source_field: count, prometheus_name: sentinel_transaction_count, labels: [account_id]}}
"""
OFTEN = "200ms"
QUERY = "SELECT account_id, merchant_name, rate, count FROM payments ORDER BY account_id"
ROWS = [
    ("acc_001", 'Müller "& Söhne"', 0.35038363171355497, 9007199254740993),
    ("acc_002", "back\\slash", None, 0),
    ("acc_003", None, 1e-17, -1),
    ("acc_004", "日本\nline", 0.1, None),
]


def source(query: str = QUERY, interval: str = "1h", timeout: str = "60s", **more: Any) -> str:
    values = {"max_staleness": "2h", "max_rows": 1000} | more
    return SOURCE.format(query=query, interval=interval, timeout=timeout, **values)


def named(text: str, number: int) -> str:
    """One of several sources in one exporter, with metrics of its own."""
    return text.replace("name: source", f"name: source_{number}").replace("sentinel_", f"sentinel_{number}_")


def written_to(file: Path) -> Callable[[], Any]:
    """Connect to a DuckDB file to write, as soon as the exporter does not read it."""

    def connect() -> Any | None:
        with contextlib.suppress(duckdb.Error):
            return duckdb.connect(file)
        return None

    return lambda: wait_for(connect, what="nobody reads", timeout=60, step=0.01)


class Database:
    """One empty database with its driver's own connection, to write with."""

    def __init__(self, url: str, connect: Callable[[], Any], placeholder: str) -> None:
        self.url = url
        self._connect = connect
        self._placeholder = placeholder

    @property
    def on_a_server(self) -> bool:
        return self.url.startswith(("postgresql", "mysql"))

    def execute(self, *statements: str) -> None:
        with contextlib.closing(self._connect()) as connection:
            for statement in statements:
                connection.cursor().execute(statement)
            connection.commit()

    def rows(self, rows: list[tuple[Any, ...]]) -> None:
        values = ", ".join([self._placeholder] * len(rows[0]))
        with contextlib.closing(self._connect()) as connection:
            connection.cursor().executemany(f"INSERT INTO payments VALUES ({values})", rows)
            connection.commit()

    def running_queries(self, text: str) -> int:
        """How many other sessions run a statement that contains `text`."""
        view = "information_schema.processlist" if self.url.startswith("mysql") else "pg_stat_activity"
        column, own = ("info", "id <> connection_id()") if self.url.startswith("mysql") else ("query", "state='active'")
        with contextlib.closing(self._connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(f"SELECT {column} FROM {view} WHERE {own}")
            return sum(text in (row[0] or "") and view not in row[0] for row in cursor.fetchall())


@pytest.fixture(params=["sqlite", "duckdb", "postgresql", "mysql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    if request.param == "sqlite":
        file = tmp_path / "pay ments?.db"
        found = Database(f"sqlite:///{quote(str(file))}", lambda: sqlite3.connect(file), "?")
    elif request.param == "duckdb":
        file = tmp_path / "pay ments.duckdb"
        found = Database(f"duckdb:///{quote(str(file))}", written_to(file), "?")
    elif request.param == "postgresql":
        url = request.getfixturevalue("postgresql_database")
        found = Database(url, lambda: psycopg.connect(url), "%s")
    else:
        url = request.getfixturevalue("mariadb_database")
        parts = urlsplit(url)
        options = {"host": parts.hostname, "port": parts.port, "user": parts.username, "database": parts.path[1:]}
        found = Database(url, lambda: pymysql.connect(**options, charset="utf8mb4"), "%s")
    double = "DOUBLE PRECISION" if request.param != "sqlite" else "REAL"
    text = "VARCHAR(99) CHARACTER SET utf8mb4" if request.param == "mysql" else "TEXT"
    found.execute(f"CREATE TABLE payments (account_id {text}, merchant_name {text}, rate {double}, count BIGINT)")
    monkeypatch.setenv("PAYMENTS_URL", found.url)
    return found


def test_rows_become_samples_exactly_and_a_vanished_row_goes(database: Database) -> None:
    database.rows(ROWS)
    with running(source(interval=OFTEN)) as exporter:
        scraped = exporter.tried()
        assert scraped.samples["sentinel_block_rate"] == {
            frozenset({("account_id", a), ("merchant_name", m or "")}): r for a, m, r, _ in ROWS if r is not None
        }
        assert scraped.values("sentinel_transaction_count", "account_id") == {
            account: count for account, _, _, count in ROWS if count is not None
        }
        assert 'sentinel_transaction_count{account_id="acc_001"} 9007199254740993\n' in scraped.text
        assert scraped.value("sentinel_source_rows", source="source") == 4
        assert scraped.value("sentinel_source_series", source="source") == 6
        assert scraped.value("sentinel_source_up", source="source") == 1
        database.execute("DELETE FROM payments WHERE account_id = 'acc_001'")
        scraped = exporter.wait(lambda s: s.value("sentinel_source_rows", source="source") == 3, "the row gone")
        assert "acc_001" not in scraped.text
        database.execute("DELETE FROM payments")
        exporter.wait(lambda s: "sentinel_block_rate" not in s.samples, "no rows, no series")


def test_column_types_of_each_database(database: Database) -> None:
    decimal = "0.35" if database.url.startswith("sqlite") else "CAST(0.350383631713554971 AS DECIMAL(30,18))"
    database.rows(ROWS)
    query = f"""|
    SELECT 'a' AS account_id, 1 AS merchant_name, {decimal} AS rate, CAST(NULL AS DECIMAL) AS count
    UNION ALL SELECT 'b', 2, 3, 18446744073709551616.5"""
    with running(source(query)) as exporter:
        scraped = exporter.tried()
        assert scraped.value("sentinel_source_up", source="source") == 1, exporter.error()
        exact = 0.35 if database.url.startswith("sqlite") else 0.350383631713554971
        assert scraped.value("sentinel_block_rate", account_id="a", merchant_name="1") == exact
        assert scraped.value("sentinel_block_rate", account_id="b", merchant_name="2") == 3
        assert scraped.value("sentinel_transaction_count", account_id="a") is None


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_failing_source_keeps_its_last_good_data_and_then_drops_it(database: Database) -> None:
    database.rows(ROWS)
    passed = [0.0]
    clock = Clock(lambda: time.monotonic() + passed[0], lambda: time.time() + passed[0])
    with running(source(interval=OFTEN, max_staleness="1h"), clock) as exporter:
        exporter.tried()
        database.execute("ALTER TABLE payments RENAME TO elsewhere")
        failures = {"source": "source", "reason": "query"}
        scraped = exporter.wait(lambda s: s.value("sentinel_source_errors_total", **failures), "failing")
        assert scraped.value("sentinel_source_up", source="source") == 0
        assert scraped.value("sentinel_transaction_count", account_id="acc_003") == -1
        assert "payments" in exporter.error()[1]
        passed[0] = 3600
        scraped = exporter.wait(lambda s: "sentinel_block_rate" not in s.samples, "stale data gone")
        assert scraped.value("sentinel_source_series", source="source") == 0
        assert (scraped.value("sentinel_source_age_seconds", source="source") or 0) >= 3600
        database.execute("ALTER TABLE elsewhere RENAME TO payments")
        exporter.wait(lambda s: s.value("sentinel_transaction_count", account_id="acc_003") == -1, "back again")


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_a_renamed_column_costs_its_own_metric_only_and_is_named_until_it_is_back(database: Database) -> None:
    database.rows(ROWS[:1])
    with running(source("SELECT * FROM payments", interval=OFTEN)) as exporter:
        exporter.tried()
        database.execute("ALTER TABLE payments RENAME COLUMN rate TO rates")
        scraped = exporter.wait(lambda s: "sentinel_block_rate" not in s.samples, "left out")
        assert scraped.samples["sentinel_transaction_count"]
        assert scraped.value("sentinel_source_up", source="source") == 1
        assert (scraped.value("sentinel_source_warnings_total", source="source", reason="missing_field") or 0) >= 1
        words = (
            "sentinel_block_rate is left out: the result has no field 'rate'; did you mean 'rates'? It has: account_id"
        )
        assert words in unescape(exporter.get("/").text)
        database.execute("ALTER TABLE payments RENAME COLUMN rates TO rate")
        exporter.wait(lambda s: "sentinel_block_rate" in s.samples, "recovered")
        assert words not in unescape(exporter.get("/").text)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_source_without_any_of_its_columns_has_failed(database: Database) -> None:
    database.rows(ROWS[:1])
    with running(source("SELECT account_id FROM payments")) as exporter:
        scraped = exporter.tried()
        assert scraped.value("sentinel_source_up", source="source") == 0
        reason, message = exporter.error()
        assert reason == "missing_field"
        assert "the result has no field 'rate'" in message
        assert "sentinel_transaction_count" in message


def test_row_budget_refuses_the_collection(database: Database) -> None:
    database.rows(ROWS)
    with running(source(max_rows=3)) as exporter:
        scraped = exporter.tried()
        assert exporter.error() == ("budget", "more than max_rows (3) rows: raise it, or ask for fewer")
        assert scraped.value("sentinel_source_errors_total", source="source", reason="budget")
        assert "sentinel_block_rate" not in scraped.samples


def test_the_session_is_read_only(database: Database) -> None:
    database.rows(ROWS)
    writing = ["DELETE FROM payments", "CREATE TABLE more AS SELECT 1"]
    if database.url.startswith("postgresql"):  # where these are written by what is a query otherwise
        database.execute("CREATE SEQUENCE numbers")
        writing += ["SELECT nextval('numbers') AS rate", "WITH x AS (DELETE FROM payments RETURNING *) SELECT * FROM x"]
    texts = [named(source(query), number) for number, query in enumerate(writing)]
    with running("".join(texts)) as exporter:
        exporter.tried()
        for number, query in enumerate(writing):
            reason, message = exporter.error(f"source_{number}")
            assert reason in ("query", "denied"), query
            assert re.search("read.?only", message.lower()), query
    with running(source()) as exporter:
        assert exporter.tried().value("sentinel_source_rows", source="source") == 4


def test_a_refused_query_says_why(database: Database) -> None:
    queries = ("SELEC 1", "SELECT 1; SELECT 2", "SELECT * FROM absent")
    with running("".join(named(source(f"'{query}'"), number) for number, query in enumerate(queries))) as exporter:
        exporter.tried()
        for number, query in enumerate(queries):
            reason, message = exporter.error(f"source_{number}")
            assert reason == "query", query
            assert len(message) > 20
            assert "\n" not in message


def endless(database: Database) -> str:
    if database.url.startswith("sqlite"):
        return "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    if database.url.startswith("duckdb"):
        return "SELECT max(a.range + b.range) FROM range(1000000) a, range(10000000) b"
    if database.url.startswith("postgresql"):
        return "SELECT pg_sleep(3600)"
    return "SELECT SLEEP(3600)"


def test_a_query_that_never_returns_is_cancelled_on_the_server(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.slot._GRACE", 3600.0)  # the server's own limit comes first, however slow it is
    with running(source(endless(database), timeout="1s")) as exporter:
        exporter.tried()
        assert exporter.error()[0] == "timeout"
        if database.on_a_server:
            wait_for(lambda: not database.running_queries("3600)"), what="cancelled on the server", timeout=60)


def test_stopping_does_not_wait_for_a_query(database: Database) -> None:
    with running(source(endless(database), timeout="1h")) as exporter:
        (slot,) = exporter.exporter._scheduler.slots
        job: Any = slot.job
        wait_for(lambda: job._collector and job._collector._session, what="a session", timeout=60)
        if database.on_a_server:
            wait_for(lambda: database.running_queries("3600)"), what="the statement has reached the server", timeout=60)
    assert slot.closed.wait(60), "its run goes on, and nobody waits for it"


def test_an_absent_database_is_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    file = tmp_path / "later.db"
    monkeypatch.setenv("PAYMENTS_URL", f"sqlite:///{file}")
    with running(source(interval="500ms")) as exporter:
        exporter.tried()
        assert exporter.error() == ("unreachable", f"there is no database file {file}")
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE payments (account_id, merchant_name, rate, count)")
            connection.execute("INSERT INTO payments VALUES ('a', 'b', 1, 2)")
            connection.commit()
        exporter.wait(lambda s: s.value("sentinel_source_up", source="source") == 1, "found")
    for driver in ("postgresql", "mysql"):
        monkeypatch.setenv("PAYMENTS_URL", f"{driver}://u@127.0.0.1:{free_port()}/d")
        with running(source()) as exporter:
            exporter.tried()
            assert exporter.error()[0] == "unreachable"


def test_sqlite_columns_without_a_type_and_text_that_is_no_utf8(tmp_path: Path) -> None:
    file = tmp_path / "mixed.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE payments (account_id, rate)")
        values: list[Any] = [1, 2.5, "3.25", None, b"4", "many", 2**63 - 1]
        connection.executemany("INSERT INTO payments VALUES (?, ?)", [(f"acc_{i}", v) for i, v in enumerate(values)])
        connection.execute("INSERT INTO payments VALUES (CAST(x'616363ff' AS TEXT), 7)")
        connection.commit()
    config = f"""
    - name: source
      type: database
      connection: {{driver: sqlite, database: {file}}}
      query: SELECT account_id, rate FROM payments
      metrics:
        - {{source_field: rate, prometheus_name: sentinel_rate, labels: [account_id]}}
    """
    with running(config) as exporter:
        scraped = exporter.tried()
        assert scraped.values("sentinel_rate", "account_id") == {
            "acc_0": 1, "acc_1": 2.5, "acc_2": 3.25, "acc_4": 4, "acc_6": 2**63, "acc\ufffd": 7,
        }  # fmt: skip
        assert scraped.value("sentinel_source_warnings_total", source="source", reason="not_a_number") == 1


def test_connection_as_in_the_owners_example_and_a_refused_password(
    mariadb_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(mariadb_database)
    options: dict[str, Any] = {"host": parts.hostname, "port": parts.port, "user": parts.username}
    user = f"reader_{parts.path[6:]}"

    def execute(*statements: str) -> None:
        with contextlib.closing(pymysql.connect(**options, database=parts.path[1:])) as connection:
            for statement in statements:
                connection.cursor().execute(statement)
            connection.commit()

    execute(
        "CREATE TABLE merchant_risk_config (account_id VARCHAR(9), alert_threshold DECIMAL(5,4))",
        "INSERT INTO merchant_risk_config VALUES ('acc_1', 0.3)",
        f"CREATE USER {user} IDENTIFIED BY 'first-password'",
        f"GRANT SELECT ON {parts.path[1:]}.* TO {user}",
    )
    for name, value in {"MYSQL_HOST": "127.0.0.1", "MYSQL_USER": user, "MYSQL_PASSWORD": "wrong-password"}.items():
        monkeypatch.setenv(name, value)
    config = f"""
    - name: source
      type: database
      connection:
        driver: mysql
        host_env: MYSQL_HOST
        port: {parts.port}
        database: {parts.path[1:]}
        username_env: MYSQL_USER
        password_env: MYSQL_PASSWORD
      query: SELECT account_id, alert_threshold FROM merchant_risk_config
      metrics:
        - {{source_field: alert_threshold, prometheus_name: sentinel_merchant_threshold, labels: [account_id]}}
    """
    with running(config) as exporter:
        exporter.tried()
        reason, message = exporter.error()
        assert reason == "denied"
        assert "wrong-password" not in message
        assert exporter.exporter._scheduler.states[0].next_run is None, "the account might be locked"
    monkeypatch.setenv("MYSQL_PASSWORD", "first-password")
    with running(config) as exporter:
        scraped = exporter.tried()
        assert scraped.value("sentinel_merchant_threshold", account_id="acc_1") == 0.3
    execute(f"DROP USER {user}")
