from __future__ import annotations

import re
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime

import pymysql.converters
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors.sql_parameters import dollar_named, numbered, percent_named, placeholders, time_value
from exporter.collectors.sql_session import Driver, Statement

NOW = datetime(2026, 3, 1, 12, 30, 15, 999_999, tzinfo=UTC)


def test_a_name_used_twice_is_one_number_and_unknown_names_stay() -> None:
    query = "SELECT a FROM t WHERE x > :low AND y < :high AND z > :low AND k = :other"
    assert numbered(Statement(query, {"low": 1, "high": 2})) == (
        "SELECT a FROM t WHERE x > $1 AND y < $2 AND z > $1 AND k = :other",
        [1, 2],
    )


@pytest.mark.parametrize(
    "text",
    [
        "':x'", "'it''s :x'", '":x"', "-- :x\n", "/* :x */", "a::x", "'12:x'", "$$ :x $$", "$f$ :x $f$", "E'\\' :x'",
        "'C:\\'",
    ],
)  # fmt: skip
def test_strings_comments_and_casts_are_left_alone_by_postgresql_and_duckdb(text: str) -> None:
    statement = Statement(f"SELECT {text}, :x", {"x": 1})
    assert numbered(statement) == (f"SELECT {text}, $1", [1])
    assert dollar_named(statement) == (f"SELECT {text}, $x", {"x": 1})


@pytest.mark.parametrize("text", ["':x'", "'\\' :x'", '"\\" :x"', "`:x`", "-- :x\n", "# :x\n", "/* :x */"])
def test_strings_and_comments_are_left_alone_by_mysql(text: str) -> None:
    assert percent_named(Statement(f"SELECT {text}, :x", {"x": 1})) == (f"SELECT {text}, %(x)s", {"x": 1})


def test_percent_signs_survive_where_the_driver_formats_the_query() -> None:
    query, values = percent_named(Statement("SELECT '100%', a % 2 WHERE b LIKE '%(x)s' AND c = :x", {"x": "50%"}))
    assert query % {"x": pymysql.converters.escape_string("50%")} == (
        "SELECT '100%', a % 2 WHERE b LIKE '%(x)s' AND c = 50%"
    )
    assert values == {"x": "50%"}
    assert percent_named(Statement("SELECT '100%'")) == ("SELECT '100%'", None)


@given(st.lists(st.sampled_from(["':x'", '":x"', "/* :x */", "-- :x\n", "[:x]", " ", ",", "(", "1", "a"]), max_size=12))
def test_sqlite_agrees_on_what_is_a_placeholder(parts: list[str]) -> None:
    query = "SELECT 1 WHERE 1 = :y AND " + " ".join(parts)
    with closing(sqlite3.connect(":memory:")) as connection, suppress(sqlite3.OperationalError):  # what is no SQL
        connection.execute(query, {"y": 1})  # ProgrammingError, if it knew of another
    assert placeholders(query, "sqlite") == {"y"}


@pytest.mark.parametrize("driver", ["postgresql", "duckdb", "mysql", "mariadb", "sqlite"])
@given(query=st.text(alphabet="ab:'\"-/*#$\\` \n%[]()", max_size=40))
def test_any_text_is_read_in_time_and_without_values_stays_as_it_is(driver: Driver, query: str) -> None:
    placeholders(query, driver)
    statement = Statement(query)
    assert numbered(statement, driver) == (query, [])
    assert percent_named(statement) == (query, None)
    assert not re.search(r"%(?!%)", percent_named(Statement(query, {"zz": 1}))[0].replace("%%", ""))


def test_times_are_whole_seconds_of_utc_in_the_form_that_each_database_takes() -> None:
    assert time_value("{time_to}", "postgresql", NOW, 60) == datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
    assert time_value("{time_from}", "duckdb", NOW, 60) == datetime(2026, 3, 1, 12, 29, 15, tzinfo=UTC)
    assert time_value("{time_from}", "mysql", NOW, 3600) == "2026-03-01 11:30:15"
    assert time_value("{time_to}", "sqlite", NOW, None) == "2026-03-01 12:30:15"
    for plain in ("time_to", 5, None, True, "at {time_to}"):
        assert time_value(plain, "mysql", NOW, 60) is plain
