"""A day of history in a real Prometheus, equal to the store's definition."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from demo.backfill import RECORDED, backfill
from demo.errors import DemoError
from demo.history import write_history
from demo.metrics import FAMILIES, window_metrics
from demo.payments import PaymentsStore
from demo.progress import ProgressLine
from demo.simulator import SimulatorConfig

CONFIG = SimulatorConfig(merchants=3, rate=0.5, seed=5)


def query(base: str, expression: str, at: float) -> list[dict[str, Any]]:
    parameters: dict[str, str | float] = {"query": expression, "time": at}
    answer = requests.get(f"{base}/api/v1/query", params=parameters, timeout=60).json()
    assert answer["status"] == "success", answer
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def test_prometheus_knows_the_last_day_as_the_store_does(tmp_path: Path, run_prometheus: Callable[..., str]) -> None:
    url = f"sqlite:///{tmp_path}/payments.sqlite"
    store = PaymentsStore(url)
    store.create(window=120.0)
    until = time.time()
    write_history(store, CONFIG, until, ProgressLine("history"))
    data = tmp_path / "tsdb"
    labels = {"job": "sentinel-exporter", "instance": "127.0.0.1:8000"}
    samples = backfill(url, data, **labels, promtool="promtool", until=until)
    assert samples == pytest.approx(3 * 1440 * (len(FAMILIES) + len(RECORDED)), rel=0.05)
    with pytest.raises(DemoError, match="has metrics already"):
        backfill(url, data, **labels, promtool="promtool", until=until)

    config = tmp_path / "prometheus.yml"
    config.write_text("scrape_configs: []\n")
    base = run_prometheus(config, data=data)
    counts = query(base, "count_over_time(sentinel_block_rate[24h])", until)
    assert len(counts) == 3
    for series in counts:
        # A minute in which a small merchant sold nothing has no sample, as in the live metrics.
        assert 1300 <= float(series["value"][1]) <= 1440
        assert labels.items() <= series["metric"].items()
        assert {"account_id", "merchant_name", "region"} <= set(series["metric"])
    for at in (float(int(until)), float(int(until)) - 60 * 700):
        with store.read() as connection:
            expected = window_metrics(connection, at - 120.0, at)
        assert expected
        for name, family in FAMILIES.items():
            values = {s["metric"]["account_id"]: float(s["value"][1]) for s in query(base, family.name, at)}
            recorded = query(base, f'{{__name__="account:{family.name}:max"}}', at)
            assert {s["metric"]["account_id"]: float(s["value"][1]) for s in recorded} == values
            assert {frozenset(s["metric"]) for s in recorded} == {frozenset({"__name__", "account_id"})}
            for row in expected:
                assert values[row["account_id"]] == pytest.approx(row[name], rel=1e-12), (name, at)
    store.close()


def test_the_history_has_what_the_rules_record_and_cannot_make_of_it_themselves() -> None:
    rules = (Path(__file__).resolve().parents[2] / "prometheus/rules/merchants.yml").read_text()
    recorded = {rule["record"] for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]}
    made = {f"account:sentinel_block_rate:{what}" for what in ("avg7d", "stddev7d", "deviation7d", "unusual")}
    made.add("metric:sentinel_accounts:count")
    assert recorded == {*RECORDED, *made}


def test_what_is_missing_is_one_plain_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/payments.sqlite"
    options = {"job": "j", "instance": "i", "until": time.time()}
    with pytest.raises(DemoError, match="no payments store at sqlite"):
        backfill(url, tmp_path / "tsdb", promtool="promtool", **options)
    store = PaymentsStore(url)
    store.create()
    with pytest.raises(DemoError, match="no history"):
        backfill(url, tmp_path / "tsdb", promtool="promtool", **options)
    write_history(store, SimulatorConfig(merchants=1, rate=0.1, history=900.0), time.time(), ProgressLine("history"))
    with pytest.raises(DemoError, match="no no-promtool: install"):
        backfill(url, tmp_path / "tsdb", promtool="no-promtool", **options)
    store.close()
