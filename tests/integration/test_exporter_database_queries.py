"""Parameters, types and statements, as each database takes them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import duckdb
import polars as pl
import psycopg
import pytest

from exporter.collectors.base import Collection
from exporter.collectors.database import DatabaseCollector, DatabaseConfig
from exporter.collectors.duckdb_session import DuckdbSession
from exporter.errors import QueryRefused, TimedOut, Unreachable

pytestmark = pytest.mark.xdist_group("mariadb")  # which is slow to start
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
Ask = Callable[..., pl.DataFrame]


def ask_at(url: str, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Collect once: `ask(query, *columns, **options)`."""
    monkeypatch.setenv("DATABASE", url)

    def ask(query: str, *columns: str, timeout: float = 60, **options: Any) -> pl.DataFrame:
        metrics = [{"source_field": name, "prometheus_name": f"m_{i}", "labels": []} for i, name in enumerate(columns)]
        model = {"name": "x", "type": "database", "url_env": "DATABASE", "query": query, "metrics": metrics}
        collector = DatabaseCollector(DatabaseConfig.model_validate(model | options))
        try:
            return collector.collect(Collection(now=NOW, deadline=monotonic() + timeout)).select(columns)
        finally:
            collector.close()

    return ask


@pytest.fixture(params=["sqlite", "duckdb", "postgresql", "mariadb"])
def ask(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    if request.param in ("sqlite", "duckdb"):
        file = tmp_path / "x.db"
        if request.param == "duckdb":
            duckdb.connect(file).close()
        else:
            file.touch()
        return ask_at(f"{request.param}:///{file}", monkeypatch)
    database = "postgres" if request.param == "postgresql" else "mysql"
    return ask_at(f"{request.getfixturevalue(f'{request.param}_server')}/{database}", monkeypatch)


@pytest.fixture
def ask_postgresql(postgresql_server: str, monkeypatch: pytest.MonkeyPatch) -> Ask:
    return ask_at(f"{postgresql_server}/postgres", monkeypatch)


def test_parameters_are_values_and_never_sql(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGION", "eu'; DROP TABLE x; --")
    params = {"region": "${REGION}", "low": 2, "share": 0.25, "absent": None, "quoted": '50% "\\" :low'}
    query = """
        SELECT ':low' AS text, '100%' AS percent, r AS region, n, s AS share, q AS quoted -- :low
        FROM (SELECT CAST(:region AS CHAR(40)) AS r, 2 AS n, CAST(:share AS DECIMAL(8,4)) AS s,
                     CAST(:quoted AS CHAR(40)) AS q) AS one
        WHERE n >= :low AND n = :low AND :absent IS NULL AND n % 2 = 0;"""
    if os.environ["DATABASE"].startswith("postgresql"):
        query = query.replace(":absent IS", "CAST(:absent AS TEXT) IS").replace("CHAR(40)", "TEXT")
    row = ask(query, "text", "percent", "region", "n", "share", "quoted", params=params).row(0)
    assert row[:4] == (":low", "100%", "eu'; DROP TABLE x; --", 2)
    assert float(row[4]) == 0.25
    assert row[5] == '50% "\\" :low'


def test_time_parameters_are_the_window_before_the_collection(ask: Ask) -> None:
    query = "SELECT CAST(:a AS CHAR(25)) AS since, CAST(:b AS CHAR(25)) AS until"
    times = {"a": "{time_from}", "b": "{time_to}"}
    since, until = ask(query, "since", "until", params=times, time_window="5m").row(0)
    assert since.startswith("2026-03-01 11:55:00")
    assert until.startswith("2026-03-01 12:00:00")


def test_more_than_one_statement_is_refused(ask: Ask) -> None:
    for query in ("SELECT 1 AS a; SELECT 2 AS a", "SELECT 1 AS a; DROP TABLE x"):
        for params in ({}, {"p": 1}):
            with pytest.raises(QueryRefused):
                ask(query + (" WHERE 1 = :p" if params else ""), "a", params=params)


def test_a_semicolon_at_the_end_and_comments_do_no_harm(ask: Ask) -> None:
    for query in ("SELECT 1 AS a ; ", "SELECT 1 AS a -- done", "SELECT 1 AS a; -- done", "/* x */ SELECT 1 AS a;\n"):
        assert ask(query, "a").row(0) == (1,), query


def test_rows_beyond_one_chunk_and_columns_whose_type_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.db").touch()
    ask = ask_at(f"sqlite:///{tmp_path}/x.db", monkeypatch)
    numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 24999)"
    query = f"{numbers} SELECT i, CASE WHEN i < 15000 THEN i WHEN i < 20000 THEN NULL ELSE i + 0.5 END AS mixed FROM n"
    frame = ask(query, "i", "mixed")
    assert frame["i"].to_list() == list(range(25_000))
    assert frame["mixed"].dtype == pl.String
    assert frame["mixed"][14_999] == "14999"
    assert frame["mixed"][15_000] is None
    assert frame["mixed"][24_999] == "24999.5"


POSTGRESQL_VALUES = """
    SELECT * FROM (VALUES
      (1, 9007199254740993::bigint, 0.30000000000000004::float8, 0.1::float4,
       12345678901234567890.000000000000000001::numeric, true,
       'a,"b" \\ ''c''', '\\x6162ff'::bytea, '2026-03-01 12:00:00.5+00'::timestamptz AT TIME ZONE 'UTC', '{1,2}'::int[],
       E'line\\r\\none\\ttab'),
      (2, NULL, 'NaN', '-Infinity', 'NaN', false, '', '', NULL, NULL, '\\N'),
      (3, -1, 4.9406564584124654e-324, 'Infinity', -0.5, NULL, NULL, NULL, 'infinity', '{}', '\\.')
    ) AS v(id, big, f8, f4, num, yes, text, data, at, list, odd)"""
POSTGRESQL_COLUMNS = ("id", "big", "f8", "f4", "num", "yes", "text", "data", "at", "list", "odd")


def test_postgresql_values_are_exact_and_the_same_with_and_without_parameters(ask_postgresql: Ask) -> None:
    copied = ask_postgresql(POSTGRESQL_VALUES, *POSTGRESQL_COLUMNS)
    bound = ask_postgresql(f"{POSTGRESQL_VALUES} WHERE id < :most", *POSTGRESQL_COLUMNS, params={"most": 9})
    assert copied.drop("data").equals(bound.drop("data"))
    assert copied.schema == bound.schema
    assert copied["big"].to_list() == [9007199254740993, None, -1]
    assert copied["f8"].to_list()[::2] == [0.30000000000000004, 4.9406564584124654e-324]
    assert copied["f4"].to_list() == [0.1, float("-inf"), float("inf")]
    assert copied["num"].to_list() == ["12345678901234567890.000000000000000001", "NaN", "-0.5"]
    assert copied["yes"].to_list() == [True, False, None]
    assert copied["text"].to_list() == ["a,\"b\" \\ 'c'", "", None]
    assert copied["data"].to_list() == ["ab\ufffd", "", None]
    assert copied["odd"].to_list() == ["line\r\none\ttab", "\\N", "\\."]
    assert copied["at"].to_list() == ["2026-03-01 12:00:00.5", None, "infinity"]


def test_postgresql_one_column_keeps_its_nulls_and_no_rows_keep_their_columns(ask_postgresql: Ask) -> None:
    query = "SELECT v FROM (VALUES (1, 'a'), (2, NULL), (3, ''), (4, NULL)) AS t(i, v) ORDER BY i"
    assert ask_postgresql(query, "v")["v"].to_list() == ["a", None, "", None]
    assert ask_postgresql("SELECT NULL::float8 AS v", "v")["v"].to_list() == [None]
    assert ask_postgresql("SELECT 1 AS v WHERE false", "v").schema == {"v": pl.Int64}


def test_postgresql_many_rows_come_whole_and_in_order(ask_postgresql: Ask) -> None:
    query = "SELECT i, 'é' || i AS name FROM generate_series(1, 45000) AS n(i) ORDER BY i"
    frame = ask_postgresql(query, "i", "name")
    assert frame["i"].to_list() == list(range(1, 45_001))
    assert frame["name"][44_999] == "é45000"


def test_postgresql_a_query_cannot_leave_the_parentheses_that_are_put_around_it(ask_postgresql: Ask) -> None:
    for query in (
        "SELECT 1 AS a) TO PROGRAM 'touch x' --",
        "SELECT 1 AS a) TO '/x' WITH (FORMAT csv",
        "TABLE a) TO STDOUT; --",
    ):
        with pytest.raises(QueryRefused, match="syntax error"):
            ask_postgresql(query, "a")


def test_postgresql_statements_that_give_rows(ask_postgresql: Ask) -> None:
    for query, column in (
        ("SHOW work_mem", "work_mem"),
        ("VALUES (4)", "column1"),
        ("EXPLAIN SELECT 1", "QUERY PLAN"),
        ("(SELECT 1 AS a) UNION SELECT 2", "a"),
        ("-- first\nWITH x AS (SELECT 1 AS a) TABLE x", "a"),
    ):
        assert len(ask_postgresql(query, column)), query


def test_postgresql_errors_in_the_middle_of_a_result_are_the_query_s(ask_postgresql: Ask) -> None:
    for one, params in (("1", {}), (":p", {"p": 1})):
        query = f"SELECT {one} / (40000 - i) AS a FROM generate_series(1, 50000) AS n(i)"
        with pytest.raises(QueryRefused, match="division by zero"):
            ask_postgresql(query, "a", params=params)


def test_postgresql_text_that_is_no_utf8_is_named(postgresql_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(f"{postgresql_server}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0")
    ask = ask_at(f"{postgresql_server}/bytes?client_encoding=latin1", monkeypatch)
    with pytest.raises(QueryRefused, match=r"invalid byte sequence .* 0xff"):
        ask("SELECT convert_from('\\x61ff'::bytea, 'SQL_ASCII') AS v", "v")
    assert ask("SELECT 'é' AS v", "v").row(0) == ("é",)


@pytest.fixture
def duckdb_file(tmp_path: Path) -> Path:
    file = tmp_path / "x.duckdb"
    with contextlib.closing(duckdb.connect(file)) as connection:
        connection.execute("CREATE TABLE t AS SELECT range AS i, range / 3 AS share FROM range(250000)")
    return file


def test_duckdb_reads_nothing_but_its_file_unless_allowed(
    duckdb_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ask_at("", monkeypatch)
    (tmp_path / "more.csv").write_text("a\n7\n")
    query = f"SELECT a FROM read_csv('{tmp_path}/more.csv')"
    connection = {"driver": "duckdb", "database": str(duckdb_file)}
    with pytest.raises(QueryRefused, match="disabled by configuration"):
        ask(query, "a", url_env=None, connection=connection)
    for refused in (f"COPY t TO '{tmp_path}/out.csv'", "SET threads = 1", "DELETE FROM t", "ATTACH 'other.db'"):
        with pytest.raises(QueryRefused, match="read-only"):
            ask(refused, "a", url_env=None, connection=connection | {"external_access": True})
    for database in (str(duckdb_file), ":memory:"):
        open_to_all = {"driver": "duckdb", "database": database, "external_access": True}
        assert ask(query, "a", url_env=None, connection=open_to_all).row(0) == (7,)
    assert not (tmp_path / "out.csv").exists()


def test_duckdb_types_batches_and_limits(duckdb_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ask_at(f"duckdb:///{duckdb_file}", monkeypatch)
    frame = ask("SELECT i, share FROM t ORDER BY i", "i", "share")
    assert frame["i"].to_list() == list(range(250_000))
    assert frame["share"][1] == 1 / 3
    assert len(ask("SELECT i FROM t", "i", max_rows=120_000, over_budget="truncate")) == 120_000
    frame = ask(
        "SELECT 170141183460469231731687303715884105727 AS huge, 1.50::DECIMAL(9,2) AS money, 'x'::ENUM('x') AS word, "
        "NULL AS nothing, 18446744073709551615::UBIGINT AS unsigned", "huge", "money", "word", "nothing", "unsigned",
    )  # fmt: skip
    assert frame.cast(pl.String).row(0) == (str(2**127 - 1), "1.50", "x", None, str(2**64 - 1))


def test_duckdb_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable, match=r"there is no database file .*none\.duckdb"):
        ask_at(f"duckdb:///{tmp_path}/none.duckdb", monkeypatch)("SELECT 1 AS a", "a")
    (tmp_path / "page.duckdb").write_text("<html>" * 10_000)
    with pytest.raises(Unreachable, match="not a valid DuckDB database"):
        ask_at(f"duckdb:///{tmp_path}/page.duckdb", monkeypatch)("SELECT 1 AS a", "a")


def test_sqlite_a_file_that_is_no_database_and_one_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.db").write_text("<html>" * 1000)
    with pytest.raises(QueryRefused, match="not a database"):
        ask_at(f"sqlite:///{tmp_path}/page.db", monkeypatch)("SELECT name AS a FROM sqlite_master", "a")
    (tmp_path / "x.db").touch()
    with pytest.raises(QueryRefused):
        ask_at(f"sqlite:///{tmp_path}/x.db", monkeypatch)(f"ATTACH '{tmp_path}/new.db' AS other", "a")
    assert not (tmp_path / "new.db").exists()


def test_duckdb_a_query_that_is_cancelled_before_it_runs_ends(
    duckdb_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = DuckdbSession._accept

    def cancelled(session: DuckdbSession, query: str) -> None:
        thread = threading.Thread(target=session.cancel)
        thread.start()
        thread.join(0.2)
        accept(session, query)

    monkeypatch.setattr(DuckdbSession, "_accept", cancelled)
    with pytest.raises(TimedOut):
        ask_at(f"duckdb:///{duckdb_file}", monkeypatch)(
            "SELECT sum(a.i * b.i) AS s FROM t AS a, t AS b", "s", timeout=3600
        )


def test_a_query_without_an_end_is_timed_out_by_duckdb(duckdb_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TimedOut):
        ask_at(f"duckdb:///{duckdb_file}", monkeypatch)(
            "SELECT sum(a.i * b.i) AS s FROM t AS a, t AS b", "s", timeout=0.5
        )
