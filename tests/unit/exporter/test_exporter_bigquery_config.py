from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors.base import Collection, SourceConfig
from exporter.collectors.bigquery import BigQueryConfig, parameter_value, window_of
from exporter.config import parse
from exporter.environment import Secrets
from exporter.errors import BadAnswer, ConfigError

SOURCE = """
data_sources:
  - name: daily
    type: bigquery
    project: risk-prod
    query: SELECT account_id, rate FROM shop.daily WHERE day = @day
    metrics: [{source_field: rate, prometheus_name: sentinel_rate}]
    parameters: {day: {type: date, value: 2026-01-31}}
"""
PAGE = (Path(__file__).parents[3] / "docs/sources/bigquery.md").read_text()


def config(more: str = "", text: str = SOURCE) -> BigQueryConfig:
    (source,) = parse(text + "".join(f"    {line}\n" for line in more.splitlines()), "test.yaml").sources
    assert isinstance(source, BigQueryConfig)
    return source


def problem(more: str, text: str = SOURCE) -> str:
    with pytest.raises(ConfigError) as caught:
        config(more, text)
    return str(caught.value)


def with_parameter(text: str) -> str:
    return SOURCE.replace("{day: {type: date, value: 2026-01-31}}", f"{{day: {text}}}")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("max_bytes: 1MB", "max_bytes: is less than the 10 MiB"),
        ("max_bytes: lots", "max_bytes: could not parse value"),
        ("credentials: none", "needs endpoint"),
        ("credentials_env: A\ncredentials_file: /b", "credentials_file and credentials_env contradict"),
        ("credentials: none\ncredentials_env: A\nendpoint: http://emulator:9050", "contradict each other"),
        ("endpoint: http://emulator:9050", "in plain text: use https://"),
        ("endpoint: emulator:9050", "is no web address"),
        ("endpoint: https://me:secret@host", "without user and password"),
        ("time_window: 1h", "time_window has no effect"),
        ("job_labels: {Team: risk}", "has characters that are not allowed"),
        ("priority: urgent", "use one of interactive, batch"),
        ("storage_api: true\nendpoint: https://example.test", "storage_api"),
        ("maximum_bytes: 1", "did you mean max_bytes?"),
    ],
)
def test_what_is_wrong_is_said(more: str, words: str) -> None:
    message = problem(more)
    assert words in message
    assert "secret@" not in message


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("{type: date, value: tomorrow}", "is no date: write a date such as"),
        ("{type: int, value: 9223372036854775808}", "is no int"),
        ("{type: int, value: 1.5}", "is no int"),
        ("{type: float, value: nan}", "is no float"),
        ("{type: bool, value: 1}", "is no bool: write true or false"),
        ("{type: timestamp, value: [2026-01-31T08:00:00Z, now]}", "is no timestamp"),
        ("{type: string, value: [[a]]}", "a value, or a list of values"),
        ("{type: string, value: null}", "a value, or a list of values"),
        ("{type: text, value: a}", "use one of string, int"),
        ("{type: timestamp, value: '{time_from}'}", "add time_window"),
    ],
)
def test_a_parameter_that_cannot_be_sent_is_found_by_check(parameter: str, words: str) -> None:
    assert words in problem("", with_parameter(parameter))


def test_a_parameter_that_the_query_does_not_use_is_refused() -> None:
    assert "@other" in problem("", SOURCE.replace("{day:", "{other: {type: int, value: 1}, day:"))


def test_a_variable_is_read_when_collecting_and_must_fit_then() -> None:
    source = config("", with_parameter("{type: int, value: '${LEAST}'}"))
    assert source.needs() == ("LEAST",)

    def read(value: str) -> Any:
        run = Collection(now=datetime.now(UTC), deadline=0, secrets=Secrets({"LEAST": value}))
        return source.parameters["day"].read("day", {}, run)

    assert read(" 12 ") == 12
    with pytest.raises(BadAnswer, match="parameter day is no int") as caught:
        read("secret-text")
    assert "secret-text" not in str(caught.value)


def test_lists_become_arrays_and_may_be_empty() -> None:
    run = Collection(now=datetime.now(UTC), deadline=0)
    source = config("", with_parameter("{type: float, value: [1, 2.5]}"))
    assert source.parameters["day"].read("day", {}, run) == [1.0, 2.5]
    assert config("", with_parameter("{type: int, value: []}")).parameters["day"].read("day", {}, run) == []


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=9))])), st.integers(1, 10**7))
def test_the_window_ends_now_and_is_as_long_as_said(now: datetime, seconds: int) -> None:
    now = now.replace(year=min(max(now.year, 1900), 9000))
    window = window_of(now, seconds)
    since, until = (parameter_value("timestamp", window[name]) for name in ("{time_from}", "{time_to}"))
    assert isinstance(since, datetime)
    assert isinstance(until, datetime)
    assert until == now.replace(microsecond=0)
    assert (until - since).total_seconds() == seconds


@given(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.dates())
def test_values_written_as_text_are_read_back_exactly(whole: int, number: float, flag: bool, day: date) -> None:
    assert parameter_value("int", str(whole)) == whole
    assert parameter_value("float", repr(number)) == number
    assert parameter_value("bool", str(flag)) is flag
    assert parameter_value("date", day.isoformat()) == day


def test_the_default_budget() -> None:
    assert config().max_bytes == 10 * 1024**3
    assert config("max_bytes: null").max_bytes is None
    assert config("max_bytes: 1 TiB").max_bytes == 1024**4


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_in_the_documentation_are_valid(example: str) -> None:
    assert parse(example, "docs/sources/bigquery.md").sources


def test_every_key_of_its_own_is_in_the_documentation() -> None:
    keys = BigQueryConfig.model_fields.keys() - SourceConfig.model_fields.keys()
    assert {key for key in keys if f"`{key}`" not in PAGE} == set()
