"""What every rule must keep to (docs/rules.md), and the checks of Prometheus' and Alertmanager's own tools."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import program

from demo.promql import parse_duration
from webhook.domain.alert import AlertTypeSettings
from webhook.rules.check import check_files, errors
from webhook.rules.document import RuleFile, parse, read
from webhook.rules.finding import Finding
from webhook.rules.known import Metrics, own_metrics, source_metrics

ROOT = Path(__file__).resolve().parents[2]
Rule = dict[str, Any]

KINDS = {"fires", "does not fire", "vector matching", "resolves"}


def rules(name: str) -> list[Rule]:
    document = yaml.safe_load((ROOT / "prometheus" / "rules" / name).read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


FRAUD, EXPORTER = rules("fraud.yml"), rules("exporter.yml")


def checked(*files: RuleFile, beside: Sequence[RuleFile] = ()) -> list[Finding]:
    metrics = Metrics([*own_metrics(), *source_metrics(ROOT / "demo" / "exporter-config.yaml")])
    return check_files(files, metrics, beside)


def test_our_rules_have_nothing_that_our_own_checks_find() -> None:
    """Unit tests and promtool: below. What each check finds: tests/unit/webhook/rules/test_checks.py."""
    files = [read(path) for path in sorted((ROOT / "prometheus" / "rules").glob("*.yml"))]
    assert [str(finding) for finding in errors(checked(*files))] == []


def test_the_example_in_the_documentation_keeps_to_it_too() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "rules.md").read_text(), re.DOTALL)
    assert errors(checked(parse(f"groups:\n  - name: example\n    rules:\n{example}", "docs/rules.md"))) == []


def test_the_rules_of_one_attack_rise_with_their_severity() -> None:
    """A severity that could fire without the lesser ones would leave nothing to fall back on when it ends."""
    by_severity = {rule["labels"]["severity"]: rule for rule in FRAUD if rule["labels"]["alert_type"] == "CARD_TESTING"}
    for metric in ("block_rate", "failed_auth_rate", "transaction_count"):
        thresholds = [float(by_severity[each]["annotations"][f"threshold_{metric}"]) for each in ("P3", "P2", "P1")]
        assert thresholds == sorted(set(thresholds))


def test_a_repeat_is_due_before_the_next_flush_and_counts_as_an_occurrence() -> None:
    """Docs/rules.md tells what Alertmanager makes of a repeat that is due just when the group is flushed."""
    route = yaml.safe_load((ROOT / "alertmanager" / "alertmanager.yml").read_text())["route"]
    occurrence_ms = AlertTypeSettings().occurrence_interval.total_seconds() * 1000
    assert occurrence_ms < parse_duration(route["repeat_interval"]) < parse_duration(route["group_interval"])


@pytest.mark.parametrize(
    "command",
    [
        "promtool check rules prometheus/rules/*.yml",
        "promtool check config prometheus/prometheus.yml",
        "promtool test rules prometheus/tests/*.yml",
        "amtool check-config alertmanager/alertmanager.yml",
    ],
)
def test_the_tools_accept_the_files(command: str) -> None:
    tool, *arguments = command.split()
    expanded = [str(path) for part in arguments for path in (sorted(ROOT.glob(part)) if "/" in part else [part])]
    done = subprocess.run([program(tool), *expanded], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@functools.cache
def groups_of_tests() -> list[tuple[set[str], set[str], dict[str, Any]]]:
    """Rules, kinds and content of each group in prometheus/tests; its name is `rules | kinds | what is the case`."""
    groups = []
    for path in sorted((ROOT / "prometheus" / "tests").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["tests"]:
            names, kinds, _case = group["name"].split(" | ", 2)
            groups.append((set(names.split(", ")), set(kinds.split(", ")), group))
    return groups


def expectations(group: dict[str, Any], rule: str) -> list[tuple[int, bool]]:
    """When (milliseconds) the group looks at the rule, and whether it expects anything then."""
    looks = [
        (parse_duration(test["eval_time"]), bool(test["exp_alerts"]))
        for test in group.get("alert_rule_test", ())
        if test["alertname"] == rule
    ]
    return looks + [
        (parse_duration(test["eval_time"]), bool(test["exp_samples"]))
        for test in group.get("promql_expr_test", ())
        if re.search(rf"\b{rule}\b", test["expr"])
    ]


@pytest.mark.parametrize("rule", FRAUD + EXPORTER, ids=lambda rule: rule["alert"])
def test_every_rule_has_unit_tests_of_every_kind(rule: Rule) -> None:
    """Only a rule that neither aggregates nor joins has no vectors to match."""
    held = {kind for names, kinds, _ in groups_of_tests() if rule["alert"] in names for kind in kinds}
    assert held >= (KINDS if " by (" in rule["expr"] else KINDS - {"vector matching"})


@pytest.mark.parametrize("test", [pytest.param(test, id=test[2]["name"]) for test in groups_of_tests()])
def test_a_group_of_unit_tests_holds_what_its_name_says(test: tuple[set[str], set[str], dict[str, Any]]) -> None:
    names, kinds, group = test
    assert kinds <= KINDS
    assert names <= {rule["alert"] for rule in FRAUD + EXPORTER}
    for rule in names:
        looks = expectations(group, rule)
        assert looks, f"{rule} is not looked at"
        fired = [when for when, found in looks if found]
        assert fired or "fires" not in kinds, f"{rule} never fires"
        ended = [when for when, found in looks if not found]
        assert "resolves" not in kinds or (fired and max(ended, default=0) > min(fired)), f"{rule} does not end"
