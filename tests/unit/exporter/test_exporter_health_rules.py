"""The exporter gives the health metrics that the operations rules read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from exporter.reload import ReloadState
from exporter.scheduler import Failure, SourceState
from exporter.self_metrics import About, self_metrics

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs/running-the-exporter.md"
RULES = [
    rule
    for name in ("exporter", "sources")
    for group in yaml.safe_load((ROOT / f"prometheus/rules/{name}.yml").read_text())["groups"]
    for rule in group["rules"]
]
OF_MERCHANTS = {"FraudMetricAbsent"}
"""What they read is in a configuration, not in the exporter."""


def test_every_metric_of_the_operations_rules_is_there() -> None:
    state = SourceState(
        "payments",
        30.0,
        attempts=1,
        failures=1,
        last_success_at=1_700_000_000.0,
        last_run_at=1_700_000_000.0,
        last_failure=Failure(0, "budget", "too many"),
        errors={"budget": 1},
        warnings={"not_a_number": 2},
    )
    about = About(ReloadState(successful=True, succeeded_at=1.0, config_hash=2))
    text = self_metrics("text", [state], about, monotonic=1.0, wall=2.0)
    samples = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    of_exporter = [rule["expr"] for rule in RULES if rule["alert"] not in OF_MERCHANTS]
    read = {name for expr in of_exporter for name in re.findall(r"sentinel_\w+", expr)}
    assert read
    assert read - samples == set()


@pytest.mark.parametrize(
    ("failures", "reason", "said"), [(1, "budget", 1), (1, "timeout", 0), (0, "budget", 0)], ids=str
)
def test_a_source_is_over_its_budget_until_a_collection_is_not_refused_for_it(
    failures: int, reason: str, said: float
) -> None:
    state = SourceState("payments", 30.0, attempts=2, failures=failures, last_failure=Failure(0, reason, "why"))
    about = About(ReloadState(successful=True, succeeded_at=1.0, config_hash=2))
    text = self_metrics("text", [state], about, monotonic=1.0, wall=2.0)
    assert f'sentinel_source_over_budget{{source="payments"}} {said}' in text.splitlines()


def test_replicas_of_an_exporter_never_double_an_alert_about_a_source() -> None:
    """Whatever an expression selects is aggregated at once, so that no label of an instance is left.

    Only ExporterDown is about each exporter, as the page for those who run it says.
    """
    by = r"(max|min|count) by \((job|job, source|job, source, reason|job, shard)\) \(((increase|max_over_time)\()?$"
    aggregated = by + r'|count_values by \(job\) \("\w+", $|\babsent\($'
    doubled = {
        rule["alert"]
        for rule in RULES
        for match in re.finditer(r"(?<![\w:])(sentinel_\w+|up\b)", rule["expr"])
        if not re.search(aggregated, rule["expr"][: match.start()])
    }
    assert doubled == {"ExporterDown", "MetricPullFailureRateHigh"}  # a ratio of each replica, then the worst of them
    assert "except ExporterDown" in DOCS.read_text()


def test_the_page_for_those_who_run_the_exporter_lists_every_rule() -> None:
    table = re.findall(r"^\| ([A-Z]\w+) \|.*\| (\w+) \| (P\d) \|$", DOCS.read_text(), re.MULTILINE)
    assert table == [(rule["alert"], rule["for"], rule["labels"]["severity"]) for rule in RULES]
