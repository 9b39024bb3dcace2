"""Each panel asks something that a running stack answers: exporter, Prometheus, Alertmanagers, serve, worker, model."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from dashboard_queries import Query, panel_queries, variable_queries
from e2e_stack import MERCHANTS, TOKENS, Stack, whole_stack
from fakes_llm import LlmStub, good
from servers import program, redis, wait_for

from grafana.__main__ import DASHBOARDS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

MODELS: dict[str, dict[str, Any]] = {
    name: json.loads(make()) for name, make in DASHBOARDS.items() if name != "exporter"
}
"""That of the exporter is asked in tests/integration/test_exporter_dashboard.py, where sources fail."""

WEEK, HOUR = 7 * 86_400, 3600

NOT_HERE = {
    "Test messages": "no canary is configured",
    "Withheld for frequency": "no limit has been reached",
}
"""Panels that may be empty, by name and legend or by name alone, and why."""


def remember(stack: Stack, folder: Path) -> None:
    """What Prometheus would have recorded of the merchants an hour a week ago and in the last five, as blocks.

    Of the week that is more than 288 samples, which a baseline is made of at least.

    It looks for new ones once a minute.
    """
    now = int(time.time()) // 60 * 60
    moments = [*range(now - WEEK - HOUR, now - WEEK + HOUR, 60), *range(now - 5 * HOUR, now - 60, 60)]
    rates = ("block_rate", "failed_auth_rate", "unusual_spend_rate", "chargeback_rate", "transaction_rate")
    names = [f"account:sentinel_{name}:max" for name in (*rates, "transaction_count")]
    lines = []
    for name in [*names, "account:sentinel_block_rate:usual"]:
        lines.append(f"# TYPE {name} gauge")
        for account in MERCHANTS:
            lines += [f'{name}{{account_id="{account}"}} {0.02 + at % 300 / 30_000:g} {at}' for at in moments]
    text = folder / "remembered.om"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    flags = requests.get(f"{stack.prometheus}/api/v1/status/flags", timeout=60).json()["data"]
    command = ["tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text), flags["storage.tsdb.path"]]
    subprocess.run([program("promtool"), *command], check=True, capture_output=True)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Messages were told, put off and refused, each once more after Prometheus had seen the first one."""
    folder = tmp_path_factory.mktemp("dashboards")
    with LlmStub(answers=[good()]) as model, redis() as redis_url:
        further = {
            "SENTINEL_LLM_MODEL": "stub",
            "SENTINEL_LLM_BASE_URL": f"{model.url}/v1",
            "SENTINEL_LLM_API_KEY": "k",
            "SENTINEL_REDIS_URL": redis_url,
        }
        stores = (f"sqlite:///{folder}/sentinel.sqlite", f"sqlite:///{folder}/payments.sqlite")
        with whole_stack(folder, *stores, further=further) as running:
            remember(running, folder)
            for account in MERCHANTS:
                running.pay(account, approved=211, blocked=137, declined=43)
            told_and_acknowledged(running, "VELOCITY_ATTACK")
            first = (
                "sentinel_alert_response_seconds_count",
                "sentinel_chart_seconds_count",
                "sentinel_summaries_total",
            )
            wait_for(lambda: all(series(running, name) for name in first), what="the first ones are seen", step=1)
            told_and_acknowledged(running, "ACCOUNT_TAKEOVER")
            yield running


def told_and_acknowledged(stack: Stack, alert_type: str) -> None:
    """One alert whose message is put off, then sent with a chart; one that is refused for good; one without a time."""
    files = len(stack.slack.files)
    stack.slack.fail_next(status=429, retry_after=1)
    labels = {"alertname": "Own", "account_id": "acc_001", "alert_type": alert_type, "severity": "P2"}
    deliver(stack, labels, {"transaction_rate": "120", "unusual_spend_rate": "0.4"}, fingerprint=alert_type)
    deliver(stack, {"alertname": "NoTime", "account_id": "acc_001"}, {})
    (alert,) = wait_for(lambda: alerts(stack, alert_type), what=alert_type)
    headers = {"Authorization": f"Bearer {TOKENS['ADMIN_TOKEN']}"}
    url = f"{stack.webhook}/api/v1/alerts/{alert['alert_id']}/acknowledge"
    requests.post(url, headers=headers, timeout=60).raise_for_status()
    wait_for(lambda: len(stack.slack.files) > files, timeout=120, what="a chart")
    stack.slack.fail_next(error="is_archived")
    labels = {"alertname": f"Broken{alert_type}", "alert_type": "OPERATIONS", "severity": "P2"}
    deliver(stack, labels, {}, fingerprint=f"o{alert_type}")


def alerts(stack: Stack, alert_type: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.get("/api/v1/alerts", merchant_id="acc_001", alert_type=alert_type)["data"]
    return found


def deliver(stack: Stack, labels: dict[str, str], annotations: dict[str, str], *, fingerprint: str = "") -> None:
    """A firing alert that began a minute ago; without a fingerprint one that the webhook cannot take."""
    alert: dict[str, Any] = {"status": "firing", "labels": labels, "annotations": annotations}
    if fingerprint:
        began = datetime.now(UTC) - timedelta(minutes=1)
        alert |= {"startsAt": began.isoformat(), "fingerprint": fingerprint}
    headers = {"Authorization": f"Bearer {TOKENS['INGEST_TOKEN']}"}
    url = f"{stack.webhook}/api/v1/alerts/prometheus/webhook"
    requests.post(url, json={"version": "4", "alerts": [alert]}, headers=headers, timeout=60).raise_for_status()


def series(stack: Stack, expression: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{stack.prometheus}/api/v1/query", params={"query": expression}, timeout=60).json()
    assert answer["status"] == "success", (expression, answer)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return [each for each in found if each["value"][1] != "NaN"]


def may_be_empty(query: Query) -> bool:
    return query.name in NOT_HERE or query.name.rpartition(":")[0] in NOT_HERE


def known(stack: Stack) -> set[str]:
    """Names of all metrics that are served or recorded, those without a sample too."""
    described = requests.get(f"{stack.prometheus}/api/v1/metadata", timeout=60).json()["data"]
    groups = requests.get(f"{stack.prometheus}/api/v1/rules?type=record", timeout=60).json()["data"]["groups"]
    return {*described, *(f"{name}_total" for name in described)} | {r["name"] for g in groups for r in g["rules"]}


@pytest.mark.parametrize("name", MODELS)
def test_every_panel_and_variable_is_answered(stack: Stack, name: str) -> None:
    queries = [*variable_queries(MODELS[name]), *panel_queries(MODELS[name])]

    waiting = {query.name: query for query in queries if not may_be_empty(query)}

    def answered() -> bool:
        for query in list(waiting.values()):
            if series(stack, query.expression):
                del waiting[query.name]
        return not waiting

    try:
        wait_for(answered, timeout=120, step=3)
    except AssertionError:
        pytest.fail(f"no data for {sorted(waiting)}")


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
