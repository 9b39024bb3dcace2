"""The exporter's dashboard and rules over a real Prometheus that scrapes two real exporters of the same sources."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import requests
from exporter_parts import running
from servers import prometheus, wait_for

from grafana.exporter import dashboard

ROOT = Path(__file__).parents[2]
MODEL = json.loads(dashboard())
PANELS = [panel for panel in MODEL["panels"] if panel["type"] != "row"]
QUERIES = [pytest.param(target["expr"], id=panel["title"]) for panel in PANELS for target in panel["targets"]]


def sources(file: Path) -> str:
    metrics = "metrics: [{source_field: v, prometheus_name: sentinel_%s, labels: [id]}]"
    base = f"type: database, interval: 1s, max_staleness: 1h, connection: {{driver: sqlite, database: {file}}}"
    return f"""
- {{name: good, {base}, query: "SELECT id, id AS v FROM t", {metrics % "good"}}}
- {{name: warns, {base}, query: "SELECT id, 'x' AS v FROM t", {metrics % "warns"}}}
- {{name: fails, {base}, query: "SELECT nothing FROM t", {metrics % "fails"}}}
- {{name: large, {base}, max_rows: 1, query: "SELECT id, id AS v FROM t", {metrics % "large"}}}
"""


def at_once(rules: str) -> str:
    """The rules without their waiting times, evaluated every second."""
    quick = re.sub(r"interval: 1m", "interval: 1s", re.sub(r"for: \d+m", "for: 0s", rules))
    return quick.replace("[15m]", "[10s]")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a Prometheus that has scraped some times."""
    folder = tmp_path_factory.mktemp("dashboard")
    file = folder / "t.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER)")
        connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,), (3,)])
        connection.commit()
    for name in ("exporter.yml", "sources.yml"):
        (folder / name).write_text(at_once((ROOT / "prometheus/rules" / name).read_text()))
    with ExitStack() as started:
        exporters = [started.enter_context(running(sources(file))).exporter for _ in range(2)]
        targets = [exporter.url.removeprefix("http://") for exporter in exporters]
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            "rule_files: [exporter.yml, sources.yml]\nscrape_configs:\n"
            f"  - {{job_name: sentinel-exporter, static_configs: [{{targets: {targets}}}]}}\n"
        )
        url = started.enter_context(prometheus(folder / "prometheus.yml"))
        wait_for(lambda: query(url, "sum(ALERTS{alertname='ExporterBudgetRefused'})"), what="alerts", timeout=60)
        wait_for(lambda: query(url, "min(count_over_time(up[1m])) >= 5"), what="scrapes", timeout=60)
        yield url


def query(url: str, expression: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{url}/api/v1/query", params={"query": expression}, timeout=60).json()
    assert answer["status"] == "success", answer
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


@pytest.mark.parametrize("expression", QUERIES)
def test_every_query_returns_data(stack: str, expression: str) -> None:
    filled = expression.replace("$__rate_interval", "10s").replace("$job", ".*").replace("$source", ".*")
    assert "$" not in filled
    assert query(stack, filled), filled


@pytest.mark.parametrize("variable", [v for v in MODEL["templating"]["list"] if v["type"] == "query"])
def test_every_variable_has_values(stack: str, variable: dict[str, Any]) -> None:
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
    assert match
    found = query(stack, f"count by ({match[2]}) ({match[1].replace('$job', '.*')})")
    assert found
    assert all(series["metric"].get(match[2]) for series in found)


def test_two_exporters_of_one_source_make_one_alert(stack: str) -> None:
    alerts = Counter(
        (series["metric"]["alertname"], series["metric"].get("source", ""))
        for series in query(stack, 'ALERTS{alertstate="firing"}')
    )
    assert {
        ("ExporterSourceNeverCollected", "fails"),
        ("ExporterSourceNeverCollected", "large"),
        ("ExporterBudgetRefused", "large"),
        ("ExporterSourceWarnings", "warns"),
    } <= set(alerts)
    assert set(alerts.values()) == {1}
    assert not any(source == "good" for _, source in alerts)
