"""Each panel asks something that a running stack answers: exporter, Prometheus, Alertmanagers, serve, worker, model."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from dashboard_queries import Query, panel_queries, variable_queries
from e2e_stack import MERCHANTS, TOKENS, Stack, whole_stack
from fakes_llm import LlmStub, good
from servers import program, wait_for

from grafana.__main__ import DASHBOARDS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

MODELS: dict[str, dict[str, Any]] = {name: json.loads(make()) for name, make in DASHBOARDS.items()}
WEEK, HOUR = 7 * 86_400, 3600

NOT_HERE: dict[str, str] = {}
"""Panels that may be empty, by name and legend or by name alone, and why."""


def remembered(folder: Path) -> Path:
    """Prometheus' data with what it would have recorded of the merchants: an hour a week ago, and the last three."""
    now = int(time.time()) // 60 * 60
    moments = [*range(now - WEEK - HOUR, now - WEEK + HOUR, 60), *range(now - 3 * HOUR, now - 60, 60)]
    rates = ("block_rate", "failed_auth_rate", "unusual_spend_rate", "chargeback_rate", "transaction_rate")
    names = [f"account:sentinel_{name}:max" for name in (*rates, "transaction_count")]
    lines = []
    for name in [*names, "account:sentinel_block_rate:usual"]:
        lines.append(f"# TYPE {name} gauge")
        for account in MERCHANTS:
            lines += [f'{name}{{account_id="{account}"}} {0.02 + at % 300 / 30_000:g} {at}' for at in moments]
    text = folder / "remembered.om"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    data = folder / "prometheus-data"
    command = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text), str(data)]
    subprocess.run(command, check=True, capture_output=True)
    return data


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """After an attack that was told, one that was not, a message that Slack refused, and one that it put off."""
    folder = tmp_path_factory.mktemp("dashboards")
    with LlmStub(answers=[good()]) as model:
        environment = {
            "SENTINEL_LLM_MODEL": "stub",
            "SENTINEL_LLM_BASE_URL": f"{model.url}/v1",
            "SENTINEL_LLM_API_KEY": "k",
        }
        stores = (f"sqlite:///{folder}/sentinel.sqlite", f"sqlite:///{folder}/payments.sqlite")
        with whole_stack(folder, *stores, environment=environment, prometheus_data=remembered(folder)) as running:
            running.slack.fail_next(status=429, retry_after=1)
            running.slack.fail_next(error="is_archived")
            for account in MERCHANTS:
                running.attack(account, approved=211, blocked=137, declined=43)
            deliver(running, {"alertname": "NoTime", "account_id": "acc_001"})
            for number in range(2):
                labels = {"alertname": f"Broken{number}", "alert_type": "OPERATIONS", "severity": "P2"}
                deliver(running, labels, startsAt="2026-01-05T12:00:00Z", fingerprint=f"f{number}")
            wait_for(lambda: running.get("/api/v1/alerts", merchant_id="acc_001")["data"], timeout=240, what="an alert")
            (alert,) = running.get("/api/v1/alerts", merchant_id="acc_001")["data"]
            headers = {"Authorization": f"Bearer {TOKENS['ADMIN_TOKEN']}"}
            url = f"{running.webhook}/api/v1/alerts/{alert['alert_id']}/acknowledge"
            requests.post(url, headers=headers, timeout=60).raise_for_status()
            wait_for(lambda: running.slack.files, timeout=240, what="a chart")
            yield running


def deliver(stack: Stack, labels: dict[str, str], **fields: str) -> None:
    body = {"version": "4", "alerts": [{"status": "firing", "labels": labels, "annotations": {}, **fields}]}
    headers = {"Authorization": f"Bearer {TOKENS['INGEST_TOKEN']}"}
    url = f"{stack.webhook}/api/v1/alerts/prometheus/webhook"
    requests.post(url, json=body, headers=headers, timeout=60).raise_for_status()


def series(stack: Stack, expression: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{stack.prometheus}/api/v1/query", params={"query": expression}, timeout=60).json()
    assert answer["status"] == "success", (expression, answer)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return [each for each in found if each["value"][1] != "NaN"]


def may_be_empty(query: Query) -> bool:
    return query.name in NOT_HERE or query.name.rpartition(":")[0] in NOT_HERE


def known(stack: Stack) -> set[str]:
    """Names of all metrics that Prometheus has heard of, those without a sample too."""
    names = requests.get(f"{stack.prometheus}/api/v1/label/__name__/values", timeout=60).json()["data"]
    described = requests.get(f"{stack.prometheus}/api/v1/metadata", timeout=60).json()["data"]
    return {*names, *described, *(f"{name}_total" for name in described)}


@pytest.mark.parametrize("name", MODELS)
def test_every_panel_and_variable_is_answered(stack: Stack, name: str) -> None:
    queries = [*variable_queries(MODELS[name]), *panel_queries(MODELS[name])]

    def unanswered() -> list[str]:
        return [query.name for query in queries if not may_be_empty(query) and not series(stack, query.expression)]

    wait_for(lambda: not unanswered(), timeout=120, what=f"data for {unanswered()}", step=5)


@pytest.mark.parametrize("name", MODELS)
def test_what_may_be_empty_asks_for_metrics_that_exist(stack: Stack, name: str) -> None:
    there = known(stack)
    for query in panel_queries(MODELS[name]):
        if may_be_empty(query):
            series(stack, query.expression)  # is valid
            assert query.metrics, query
            missing = {each for each in query.metrics if each not in there}
            assert not missing, (query.name, missing)


def test_no_panel_is_excused_that_is_not_there() -> None:
    names = {query.name for model in MODELS.values() for query in panel_queries(model)}
    assert set(NOT_HERE) <= names | {name.rpartition(":")[0] for name in names}
