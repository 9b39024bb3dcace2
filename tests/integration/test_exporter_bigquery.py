"""The bigquery source over the emulator, which runs its queries."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterator

import pytest
import requests
import servers_bigquery
from exporter_parts import running
from servers_bigquery import PROJECT, Emulator

SOURCE = """
- name: source
  type: bigquery
  interval: {interval}
  max_staleness: 2h
  timeout: 60s
  project: {project}
  endpoint: {url}
  credentials: none
  query: |
{query}
  metrics:
    - {{source_field: rate, prometheus_name: sentinel_block_rate, labels: [account_id]}}
    - {{source_field: count, prometheus_name: sentinel_transaction_count, labels: [account_id]}}
"""
_numbers = itertools.count(1)
pytestmark = pytest.mark.xdist_group("bigquery")  # whose emulator is slow to start


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    with servers_bigquery.emulator() as found:
        yield found


def source(emulator: Emulator, query: str, interval: str = "1h", more: str = "") -> str:
    text = SOURCE.format(
        url=emulator.url,
        project=PROJECT,
        query=textwrap.indent(textwrap.dedent(query).strip(), "    "),
        interval=interval,
    )
    return text + textwrap.indent(textwrap.dedent(more), "  ")


def execute(emulator: Emulator, *statements: str) -> None:
    for statement in statements:
        answer = requests.post(
            f"{emulator.url}/bigquery/v2/projects/{PROJECT}/queries",
            json={"query": statement, "useLegacySql": False},
            timeout=60,
        )
        assert answer.ok, answer.text


@pytest.fixture
def payments(emulator: Emulator) -> str:
    """An empty table."""
    datasets = f"{emulator.url}/bigquery/v2/projects/{PROJECT}/datasets"
    requests.post(datasets, json={"datasetReference": {"projectId": PROJECT, "datasetId": "shop"}}, timeout=60)
    table = f"payments_{next(_numbers)}"
    columns = {"account_id": "STRING", "rate": "FLOAT64", "count": "INT64"}
    answer = requests.post(
        f"{datasets}/shop/tables",
        json={
            "tableReference": {"projectId": PROJECT, "datasetId": "shop", "tableId": table},
            "schema": {"fields": [{"name": name, "type": kind} for name, kind in columns.items()]},
        },
        timeout=60,
    )
    assert answer.ok, answer.text
    return f"shop.{table}"


def test_rows_become_samples_exactly_and_no_rows_are_an_empty_answer(emulator: Emulator, payments: str) -> None:
    query = f"SELECT account_id, rate, count FROM {payments}"
    with running(source(emulator, query, interval="300ms")) as exporter:
        scraped = exporter.tried()
        assert scraped.value("sentinel_source_up", source="source") == 1, exporter.error()
        assert "sentinel_block_rate" not in scraped.samples
        execute(
            emulator,
            f"""INSERT INTO {payments} VALUES ('Müller "&" \\\\ Söhne', 0.35038363171355497, 9007199254740993),
            ('acc_2', NULL, 0)""",
        )
        scraped = exporter.wait(lambda s: "sentinel_transaction_count" in s.samples, "rows")
        assert scraped.values("sentinel_block_rate", "account_id") == {'Müller "&" \\ Söhne': 0.35038363171355497}
        assert " 9007199254740993\n" in scraped.text
        execute(emulator, f"DELETE FROM {payments} WHERE count = 0")
        exporter.wait(lambda s: len(s.samples["sentinel_transaction_count"]) == 1, "the vanished row gone")


def test_a_missing_column_is_named_even_when_there_are_no_rows(emulator: Emulator, payments: str) -> None:
    with running(source(emulator, f"SELECT account_id, rate AS rates FROM {payments}")) as exporter:
        exporter.tried()
        reason, message = exporter.error()
        assert reason == "missing_field"
        assert "no field 'rate'; did you mean 'rates'?" in message


def test_decimals_keep_all_their_digits(emulator: Emulator) -> None:
    query = """
    SELECT 'a' AS account_id, NUMERIC '0.350383631' AS rate, BIGNUMERIC '9007199254740993' AS count
    UNION ALL SELECT 'b', NUMERIC '-0.000000001', BIGNUMERIC '10'
    """
    with running(source(emulator, query)) as exporter:
        scraped = exporter.tried()
        assert scraped.values("sentinel_block_rate", "account_id") == {"a": 0.350383631, "b": -1e-9}, exporter.get("/")
        assert 'sentinel_transaction_count{account_id="a"} 9007199254740993\n' in scraped.text
        assert 'sentinel_transaction_count{account_id="b"} 10\n' in scraped.text


def test_decimals_dates_and_times_can_be_labels(emulator: Emulator) -> None:
    for column, text in {
        "NUMERIC '12.50'": "12.5",
        "DATE '2026-01-31'": "2026-01-31",
        "TIMESTAMP '2026-01-31 08:00:00+00'": "2026-01-31T08:00:00Z",
    }.items():
        query = f"SELECT {column} AS account_id, 1 AS rate, 1 AS count"
        with running(source(emulator, query)) as exporter:
            (label,) = exporter.tried().values("sentinel_block_rate", "account_id")
            assert label.startswith(text)


def test_typed_parameters_reach_the_query(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGION", "EU'; DROP TABLE x --")
    query = """
    SELECT id AS account_id, @factor AS rate,
      IF(@flag AND @region = "EU'; DROP TABLE x --" AND @day = DATE '2026-01-31'
         AND TIMESTAMP_DIFF(@until, @since, SECOND) = 3600
         AND ABS(TIMESTAMP_DIFF(@until, CURRENT_TIMESTAMP(), SECOND)) < 60, @least, -1) AS count
    FROM UNNEST(@accounts) AS id
    """
    more = """
    time_window: 1h
    parameters:
      factor: {type: float, value: 0.25}
      flag: {type: bool, value: true}
      region: {type: string, value: "${REGION}"}
      day: {type: date, value: 2026-01-31}
      since: {type: timestamp, value: "{time_from}"}
      until: {type: timestamp, value: "{time_to}"}
      least: {type: int, value: 9007199254740993}
      accounts: {type: string, value: [a, b]}
    """
    with running(source(emulator, query, more=more)) as exporter:
        scraped = exporter.tried()
        assert scraped.values("sentinel_block_rate", "account_id") == {"a": 0.25, "b": 0.25}, exporter.error()
        assert 'sentinel_transaction_count{account_id="b"} 9007199254740993\n' in scraped.text


def test_many_pages_and_the_row_budget(emulator: Emulator) -> None:
    query = "SELECT CAST(x AS STRING) AS account_id, x AS rate, x AS count FROM UNNEST(GENERATE_ARRAY(1, 10500)) AS x"
    with running(source(emulator, query)) as exporter:
        scraped = exporter.tried()
        assert scraped.value("sentinel_source_rows", source="source") == 10_500, exporter.error()
        assert sum(scraped.samples["sentinel_block_rate"].values()) == 10_500 * 10_501 / 2
    with running(source(emulator, query, more="max_rows: 10499")) as exporter:
        exporter.tried()
        assert exporter.error() == ("budget", "more than max_rows (10499) rows: raise it, or ask for fewer")
    ordered = query + " ORDER BY x"
    more = "max_rows: 200\nover_budget: truncate"
    with running(source(emulator, ordered, more=more)) as exporter:
        scraped = exporter.tried()
        assert max(scraped.samples["sentinel_block_rate"].values()) == 200
        assert len(scraped.samples["sentinel_block_rate"]) == 200
        assert "max_rows" in exporter.get("/").text


@pytest.mark.parametrize(
    ("query", "reason", "words"),
    [
        ("SELECT\n  account_id FROM\nFROM x y z", "query", r"line \d of the query"),
        ("SELECT @unknown AS rate, 1 AS count, 'a' AS account_id", "query", "unknown"),
        ("CREATE TABLE shop.written (a INT64)", "query", "CREATE_TABLE, not one SELECT"),
        ("DECLARE x INT64 DEFAULT 1; SELECT x AS rate;", "query", "SCRIPT, not one SELECT"),
        ("SELECT 1 AS rate, 1 AS count, 'a' AS account_id FROM nowhere.gone", "query", "nowhere.*does location name"),
        ("SELECT INTERVAL 1 DAY AS rate, 1 AS count, 'a' AS account_id", "bad_answer", "'rate' is an INTERVAL"),
        ("SELECT 1 AS rate, 1 AS count, ['a'] AS account_id", "bad_answer", r"'account_id' is a nested ARRAY.*UNNEST"),
    ],
)
def test_what_cannot_be_served_is_explained(emulator: Emulator, query: str, reason: str, words: str) -> None:
    with running(source(emulator, query)) as exporter:
        exporter.tried()
        found, message = exporter.error()
        assert found == reason, message
        assert re.search(words, message), message


def test_a_nested_column_costs_only_the_metric_that_reads_it(emulator: Emulator) -> None:
    query = "SELECT 'a' AS account_id, 0.5 AS rate, STRUCT(1 AS total) AS count, [1, 2] AS unread"
    with running(source(emulator, query)) as exporter:
        scraped = exporter.tried()
        assert scraped.values("sentinel_block_rate", "account_id") == {"a": 0.5}
        assert "sentinel_transaction_count" not in scraped.samples
        assert "nested STRUCT" in exporter.get("/").text
