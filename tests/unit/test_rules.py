"""What every rule must keep to (docs/rules.md); `make check-rules` asks Prometheus' and Alertmanager's own tools."""

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
from webhook.rules.check import check_files
from webhook.rules.document import RuleFile, parse, read
from webhook.rules.finding import Finding
from webhook.rules.known import Metrics, own_metrics, source_metrics

ROOT = Path(__file__).resolve().parents[2]
Rule = dict[str, Any]

KINDS = {"fires", "does not fire", "vector matching", "resolves"}
RECORDS = "records"
RUNBOOKS = ROOT / "docs" / "runbooks"


def rules() -> list[Rule]:
    files = sorted((ROOT / "prometheus" / "rules").glob("*.yml"))
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


RULES = rules()
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDINGS = [rule for rule in RULES if "record" in rule]
OPERATIONS = [rule for rule in ALERTS if rule["labels"].get("alert_type") == "OPERATIONS"]
FRAUD = [rule for rule in ALERTS if rule["labels"].get("alert_type") not in (None, "OPERATIONS")]
BY_NAME = {rule["alert"]: rule for rule in ALERTS}


def name_of(rule: Rule) -> str:
    return str(rule.get("alert") or rule["record"])


def checked(*files: RuleFile, beside: Sequence[RuleFile] = ()) -> list[Finding]:
    metrics = Metrics([*own_metrics(), *source_metrics(ROOT / "demo" / "exporter-config.yaml")])
    return check_files(files, metrics, beside)


def test_our_rules_have_nothing_that_our_own_checks_find() -> None:
    """What each check finds: tests/unit/webhook/rules/test_checks.py."""
    files = [read(path) for path in sorted((ROOT / "prometheus" / "rules").glob("*.yml"))]
    assert checked(*files) == []


def test_the_example_in_the_documentation_keeps_to_it_too() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "rules.md").read_text(), re.DOTALL)
    (example,) = (text for text in examples if "- alert:" in text)
    rules = parse(f"groups:\n  - name: example\n    rules:\n{example}", "docs/rules.md")
    assert checked(rules, beside=[read(ROOT / "prometheus" / "rules" / "merchants.yml")]) == []
    assert f"docs/runbooks/{rules.rules[0].name.text}.md" in (ROOT / "docs" / "rules.md").read_text()


def test_the_rules_of_one_attack_rise_with_their_severity() -> None:
    """A severity that could fire without the lesser ones would leave nothing to fall back on when it ends."""
    by_severity = {rule["labels"]["severity"]: rule for rule in FRAUD if rule["labels"]["alert_type"] == "CARD_TESTING"}
    for metric in ("block_rate", "failed_auth_rate", "transaction_count"):
        thresholds = [float(by_severity[each]["annotations"][f"threshold_{metric}"]) for each in ("P3", "P2", "P1")]
        assert thresholds == sorted(set(thresholds))


def test_no_two_groups_share_a_name() -> None:
    files = (ROOT / "prometheus" / "rules").glob("*.yml")
    groups = [group["name"] for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    assert len(groups) == len(set(groups))


WANTED = {
    # prometheus-integration.md, 4.1
    "CardTestingDetected": ("5m", "P3", ["> 0.2", "> 0.3", "> 100"]),
    "CardTestingSevere": ("5m", "P2", ["> 0.3", "> 0.5", "> 200"]),
    "CardTestingCritical": ("3m", "P1", ["> 0.5", "> 0.7", "> 500"]),
    "VelocityAttackDetected": ("3m", "P2", ["> 100", "< 0.1"]),
    "BlockRateAnomaly": ("10m", "P3", ["[7d", "> 3"]),
    "BlockRateSurge": ("15m", "P3", ["offset 1h", "+ 0.01", "> 2", "> 100"]),
    # the same, 8.2
    "ExporterDown": ("2m", "P1", ["== 0"]),
    "ExporterDataStale": ("5m", "P3", ["300"]),
    # alert-system-design.md, 3.8.5
    "MetricPullFailureRateHigh": ("10m", "P2", ["> 0.1"]),
    "MetricPullLagTooLong": ("5m", "P1", ["600"]),
    # the same, 9.2
    "AlertGenerationFailure": ("5m", "P1", ["> 0.05"]),
    "NotificationDeliveryFailure": ("5m", "P2", ["> 0.1"]),
    "LlmApiSlow": ("3m", "P3", ["> 5"]),
    "FrequencyControlHighRejection": ("10m", "P3", ["> 0.3"]),
}
"""What the owner asks for: how long, how grave (critical is P1, high P2, warning P3), and the numbers."""


def all_read(expr: str) -> str:
    """The expression, and those of what it reads, and of what these read."""
    texts, found = [expr], {""}
    for text in texts:
        more = [rule for rule in RECORDINGS if rule["record"] in text and rule["expr"] not in found]
        found |= {rule["expr"] for rule in more}
        texts += [rule["expr"] for rule in more]
    return " ".join(texts)


@pytest.mark.parametrize("name", WANTED)
def test_what_the_owner_asks_for_is_there(name: str) -> None:
    wait, severity, numbers = WANTED[name]
    rule = BY_NAME[name]
    read = all_read(rule["expr"])
    assert (rule["for"], rule["labels"]["severity"]) == (wait, severity)
    assert [number for number in numbers if number not in read] == []


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.iterdir()} == set(BY_NAME)
    assert {name: rule["annotations"]["runbook_url"] for name, rule in BY_NAME.items()} == {
        name: f"{{{{ $externalLabels.sentinel }}}}/runbooks/{name}" for name in BY_NAME
    }


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_a_runbook_says_what_to_look_at_what_to_do_and_whom_to_call(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == f"# {path.stem}"
    assert [line for line in lines if line.startswith("## ")] == ["## Look at", "## Do", "## Escalate"]


def test_every_query_of_a_runbook_can_be_asked(tmp_path: Path) -> None:
    """As rules, which promtool reads: indented lines of a runbook that are no command are PromQL."""
    queries = [query for path in RUNBOOKS.glob("*.md") for query in promql_of(path)]
    assert len(queries) > len(ALERTS) / 2
    recorded = [{"record": f"q:{number}:q", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    done = subprocess.run(
        [program("promtool"), "check", "rules", str(file)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


COMMANDS = (
    "amtool", "curl", "docker", "promtool", "psql", "redis-cli", "sentinel-exporter", "sentinel-webhook", "systemctl",
)  # fmt: skip


def promql_of(runbook: Path) -> list[str]:
    lines = [line.strip() for line in runbook.read_text().splitlines() if line.startswith("    ")]
    return [line for line in lines if not line.startswith(COMMANDS)]


@pytest.mark.parametrize("rule", RECORDINGS, ids=name_of)
def test_a_recorded_series_says_its_level_its_metric_and_what_was_done(rule: Rule) -> None:
    assert re.fullmatch(r"(account|job|channel|source|metric|promise):sentinel_\w+:\w+", rule["record"])
    held = {kind for names, kinds, _ in groups_of_tests() if rule["record"] in names for kind in kinds}
    read = any(rule["record"] in other["expr"] for other in ALERTS)
    assert RECORDS in held or read, "no unit test looks at it"


def test_no_alert_is_one_of_a_replica_but_that_it_is_down() -> None:
    """As the unit tests see them; each of them that matches vectors has two replicas."""
    labels = [
        (test["alertname"], each)
        for _, _, group in groups_of_tests()
        for test in group.get("alert_rule_test", ())
        for alert in test["exp_alerts"]
        for each in alert["exp_labels"]
    ]
    assert {name for name, each in labels if each in {"instance", "pod", "shard"}} == {
        name for name, rule in BY_NAME.items() if re.fullmatch(r"up\{job=.*\} == 0", rule["expr"])
    }


def test_what_bridges_a_missed_scrape_is_longer_than_two_of_them() -> None:
    recorded = [rule["expr"] for rule in RECORDINGS if rule["record"].startswith("account:")]
    (bridge,) = {each for expr in recorded for each in re.findall(r"last_over_time\(sentinel_\w+\[(\w+)\]", expr)}
    ours = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    monitors = (ROOT / "k8s" / "overlays" / "prometheus-operator" / "monitors.yaml").read_text("utf-8")
    theirs = [each for each in yaml.safe_load_all(monitors) if each["metadata"]["name"] == "universal-exporter"]
    intervals = [job["scrape_interval"] for job in ours if job["job_name"] == "sentinel-exporter"]
    intervals += [point["interval"] for each in theirs for point in each["spec"]["endpoints"]]
    assert len(intervals) == 2
    for interval in intervals:
        assert parse_duration(bridge) >= 2.5 * parse_duration(interval)


def test_a_repeat_is_due_before_the_next_flush_and_counts_as_an_occurrence() -> None:
    """Docs/rules.md tells what Alertmanager makes of a repeat that is due just when the group is flushed."""
    route = yaml.safe_load((ROOT / "alertmanager" / "alertmanager.yml").read_text())["route"]
    occurrence_ms = AlertTypeSettings().occurrence_interval.total_seconds() * 1000
    assert occurrence_ms < parse_duration(route["repeat_interval"]) < parse_duration(route["group_interval"])


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
        if re.search(rf"\b{rule}\b", test["expr"]) or any(rule in sample["labels"] for sample in test["exp_samples"])
    ]


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_every_rule_has_unit_tests_of_every_kind(rule: Rule) -> None:
    """Only a rule that neither aggregates nor joins has no vectors to match."""
    held = {kind for names, kinds, _ in groups_of_tests() if rule["alert"] in names for kind in kinds}
    if rule["alert"] == "Watchdog":  # it does nothing else
        assert held == {"fires"}
        return
    assert held >= (KINDS if " by (" in rule["expr"] else KINDS - {"vector matching"})


@pytest.mark.parametrize("test", [pytest.param(test, id=test[2]["name"]) for test in groups_of_tests()])
def test_a_group_of_unit_tests_holds_what_its_name_says(test: tuple[set[str], set[str], dict[str, Any]]) -> None:
    names, kinds, group = test
    assert kinds <= KINDS or kinds == {RECORDS}
    assert names <= {name_of(rule) for rule in (RECORDINGS if kinds == {RECORDS} else ALERTS)}
    for rule in names:
        looks = expectations(group, rule)
        assert looks, f"{rule} is not looked at"
        assert RECORDS not in kinds or all(found for _, found in looks), f"{rule} is not recorded"
        fired = [when for when, found in looks if found]
        assert fired or "fires" not in kinds, f"{rule} never fires"
        ended = [when for when, found in looks if not found]
        assert "resolves" not in kinds or (fired and max(ended, default=0) > min(fired)), f"{rule} does not end"
