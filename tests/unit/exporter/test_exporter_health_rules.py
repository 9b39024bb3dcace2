"""The exporter gives the health metrics that the operations rules read."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from exporter.reload import ReloadState
from exporter.scheduler import Failure, SourceState
from exporter.self_metrics import About, self_metrics

ROOT = Path(__file__).resolve().parents[3]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "prometheus/rules/exporter.yml").read_text())["groups"]
    for rule in group["rules"]
]


def test_every_metric_of_the_operations_rules_is_there() -> None:
    state = SourceState(
        "payments",
        30.0,
        attempts=1,
        failures=1,
        last_success_at=1_700_000_000.0,
        last_failure=Failure(0, "budget", "too many"),
        errors={"budget": 1},
        warnings={"not_a_number": 2},
    )
    about = About(ReloadState(successful=True, succeeded_at=1.0, config_hash=2))
    text = self_metrics("text", [state], about, monotonic=1.0, wall=2.0)
    samples = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    read = {name for rule in RULES for name in re.findall(r"sentinel_\w+", rule["expr"])}
    assert read
    assert read - samples == set()


def test_replicas_of_an_exporter_never_double_an_alert_about_a_source() -> None:
    """Whatever an expression selects is aggregated at once, so that no label of an instance is left."""
    by = r"(max|min|count) by \((job|job, source|job, source, reason|job, shard)\) \((increase\()?$"
    for rule in RULES:
        for match in re.finditer(r"sentinel_\w+", rule["expr"]):
            before = rule["expr"][: match.start()]
            assert re.search(by + '|count_values by \\(job\\) \\("\\w+", $', before), (rule["alert"], match.group())
