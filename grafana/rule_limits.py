"""The thresholds of the rules in prometheus/rules, so that dashboards draw what rules really compare with."""

from __future__ import annotations

from pathlib import Path

import yaml

from grafana.panels import ORANGE, RED, YELLOW, Limits

RULES = Path(__file__).parents[1] / "prometheus" / "rules"
COLORS = {"P3": YELLOW, "P2": ORANGE, "P1": RED, "P0": "dark-red"}


def rule_limits(alert_type: str, metric: str) -> Limits:
    """Of all rules of this type that tell what they compare the metric with; rising. LookupError where none does."""
    rules = (
        rule
        for file in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(file.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    )
    found = {
        (float(rule["annotations"][f"threshold_{metric}"]), COLORS[rule["labels"]["severity"]])
        for rule in rules
        if rule.get("labels", {}).get("alert_type") == alert_type
        and f"threshold_{metric}" in rule.get("annotations", {})
    }
    if not found:
        raise LookupError(f"no rule of {alert_type} has an annotation threshold_{metric}")
    return sorted(found)
