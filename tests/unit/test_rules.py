"""What every rule must keep to (docs/rules.md), and the checks of Prometheus' and Alertmanager's own tools."""

from __future__ import annotations

import copy
import functools
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import program

from demo.promql import parse_duration
from webhook.domain.alert import AlertTypeSettings

ROOT = Path(__file__).resolve().parents[2]
Rule = dict[str, Any]

METRICS = {
    "sentinel_block_rate",
    "sentinel_failed_auth_rate",
    "sentinel_transaction_count",
    "sentinel_transaction_rate",
    "sentinel_unique_card_count",
    "sentinel_unusual_spend_rate",
    "sentinel_chargeback_rate",
    "sentinel_chargeback_count",
}
ALERT_TYPES = {
    "CARD_TESTING",
    "VELOCITY_ATTACK",
    "ACCOUNT_TAKEOVER",
    "CHARGEBACK_FRAUD",
    "ANOMALY_DETECTION",
    "BLOCK_SURGE",
}
SEVERITIES = {"P0", "P1", "P2", "P3"}
SET_OPERATOR = re.compile(r"\b(?:and|or|unless)\b(\s+on\s*\(account_id\))?", re.IGNORECASE)
COMPARISON = re.compile(r"(?P<operand>.+?)\s*(?:[<>]=?|[!=]=)\s*(?P<threshold>[\d.]+)", re.DOTALL)
QUERY = re.compile(r"\{\{ with printf `(?P<query>[^`]+)` \$labels\.account_id \| query \}\}")
ACCOUNT = re.compile(r"\{account_id=%(?:\[1\])?q\}")
AGGREGATED = re.compile(r"max by \(account_id\) \((sentinel_\w+)")
KINDS = {"fires", "does not fire", "vector matching", "resolves"}
RECORDS = "records"
RECORDED = re.compile(r"account:(sentinel_\w+):\w+|\b(sentinel_\w+)")
RUNBOOKS = ROOT / "docs" / "runbooks"


def rules() -> list[Rule]:
    files = sorted((ROOT / "prometheus" / "rules").glob("*.yml"))
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


RULES = rules()
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDINGS = [rule for rule in RULES if "record" in rule]
OPERATIONS = [rule for rule in ALERTS if rule["labels"]["alert_type"] == "OPERATIONS"]
FRAUD = [rule for rule in ALERTS if rule not in OPERATIONS]
BY_NAME = {rule["alert"]: rule for rule in ALERTS}


def name_of(rule: Rule) -> str:
    return str(rule.get("alert") or rule["record"])


def one_line(expression: str) -> str:
    return re.sub(r"\(\s+|\s+(?=\))", lambda match: match.group().strip(), " ".join(expression.split()))


def operands(rule: Rule) -> list[str]:
    """The comparisons of the expression, in its order."""
    return [one_line(part) for part in SET_OPERATOR.sub("\n;\n", rule["expr"]).split("\n;\n")]


def expression_of(rule: Rule, metric: str) -> str:
    """The expression, over all accounts, whose value the annotation holds."""
    text = rule["annotations"].get(metric, "")
    if text == "{{ $value }}":
        first = COMPARISON.fullmatch(operands(rule)[0])
        return first["operand"] if first else ""
    query = QUERY.match(text)
    return one_line(ACCOUNT.sub("", query["query"])) if query else ""


def faults_of_labels(rule: Rule) -> Iterator[str]:
    if set(rule["labels"]) != {"alert_type", "severity"}:
        yield "labels are alert_type and severity"
    if rule["labels"].get("alert_type") not in ALERT_TYPES:
        yield "unknown alert_type"
    if rule["labels"].get("severity") not in SEVERITIES:
        yield "unknown severity"
    if parse_duration(rule.get("for", 0)) == 0:
        yield "fires at once"


def faults_of_expression(rule: Rule) -> Iterator[str]:
    read = [match.groups() for match in RECORDED.finditer(rule["expr"])]
    if not {of_source or own for of_source, own in read} <= METRICS:
        yield "unknown metric"
    if not {match.group() for match in RECORDED.finditer(rule["expr"]) if match[1]} <= {
        r["record"] for r in RECORDINGS
    }:
        yield "a series that nothing records"
    if len(AGGREGATED.findall(rule["expr"])) != len([own for _, own in read if own]):
        yield "a metric without max by (account_id)"
    if not all(match.group(1) for match in SET_OPERATOR.finditer(rule["expr"])):
        yield "a set operator without on (account_id)"
    if re.search(r"\b(?:i?rate|increase|resets)\s*\(", rule["expr"]):
        yield "a counter's function on a gauge"
    if not all(COMPARISON.fullmatch(operand) for operand in operands(rule)):
        yield "an operand that is no comparison with a number"


def faults_of_annotations(rule: Rule) -> Iterator[str]:
    annotations = rule["annotations"]
    if not {"account_id", "merchant_name", "summary", "description", "runbook_url"} <= set(annotations):
        yield "a text is missing"
    if annotations.get("account_id") != "{{ $labels.account_id }}":
        yield "account_id is not the account"
    if any(re.search(r"printf \"%|humanize", text) for text in annotations.values()):
        yield "a rounded value"
    for metric in {own for _, own in RECORDED.findall(rule["expr"]) if own}:
        if expression_of(rule, metric.removeprefix("sentinel_")) != f"max by (account_id) ({metric})":
            yield f"no annotation holds {metric}"
    prefix = "threshold_"
    told = {
        (expression_of(rule, name.removeprefix(prefix)), text)
        for name, text in annotations.items()
        if name.startswith(prefix)
    }
    compared = [COMPARISON.fullmatch(operand) for operand in operands(rule)]
    if told != {(match["operand"], match["threshold"]) for match in compared if match}:
        yield "thresholds differ from the comparisons"


def faults(rule: Rule) -> list[str]:
    return [*faults_of_labels(rule), *faults_of_expression(rule), *faults_of_annotations(rule)]


@pytest.mark.parametrize("rule", FRAUD, ids=lambda rule: rule["alert"])
def test_a_fraud_rule_keeps_to_the_contract(rule: Rule) -> None:
    assert faults(rule) == []


def test_the_example_in_the_documentation_keeps_to_it_too() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "rules.md").read_text(), re.DOTALL)
    (rule,) = yaml.safe_load(example)
    assert faults(rule) == []
    assert f"docs/runbooks/{rule['alert']}.md" in (ROOT / "docs" / "rules.md").read_text()


def replaced(old: str, new: str) -> Callable[[Rule], None]:
    def change(rule: Rule) -> None:
        assert old in rule["expr"]
        rule["expr"] = rule["expr"].replace(old, new, 1)

    return change


def annotated(name: str, text: str | None) -> Callable[[Rule], None]:
    def change(rule: Rule) -> None:
        rule["annotations"].pop(name)
        if text is not None:
            rule["annotations"][name] = text

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda rule: rule["labels"].update(merchant_name="x"), "labels are alert_type and severity"),
        (lambda rule: rule["labels"].update(alert_type="CARDS"), "unknown alert_type"),
        (lambda rule: rule["labels"].update(severity="critical"), "unknown severity"),
        (lambda rule: rule.pop("for"), "fires at once"),
        (replaced("sentinel_block_rate", "sentinel_blok_rate"), "unknown metric"),
        (replaced("max by (account_id) (sentinel_block_rate)", "sentinel_block_rate"), "a metric without max by"),
        (replaced("max by (account_id)", "max by (account_id, region)"), "a metric without max by (account_id)"),
        (replaced("(sentinel_block_rate)", "(avg_over_time(sentinel_block_rate[1h]))"), "a metric without max by"),
        (replaced("and on (account_id)", "and"), "a set operator without on (account_id)"),
        (replaced("and on (account_id)", "AND on (region)"), "a set operator without on (account_id)"),
        (replaced("sentinel_transaction_count", "rate(sentinel_transaction_count[5m])"), "a counter's function"),
        (replaced("> 0.2", ""), "an operand that is no comparison"),
        (replaced("> 0.2", "> 0.25"), "thresholds differ"),
        (annotated("threshold_block_rate", None), "thresholds differ"),
        (annotated("threshold_failed_auth_rate", "0.31"), "thresholds differ"),
        (annotated("failed_auth_rate", None), "no annotation holds sentinel_failed_auth_rate"),
        (annotated("failed_auth_rate", "{{ $value }}"), "no annotation holds sentinel_failed_auth_rate"),
        (annotated("block_rate", '{{ printf "%.2f" $value }}'), "a rounded value"),
        (annotated("summary", None), "a text is missing"),
        (annotated("runbook_url", None), "a text is missing"),
        (replaced("max by (account_id) (sentinel_block_rate)", "account:sentinel_block_rate:least"), "a series that"),
        (annotated("account_id", "acc_001"), "account_id is not the account"),
    ],
)
def test_a_rule_that_does_not_is_found_out(change: Callable[[Rule], None], fault: str) -> None:
    rule = copy.deepcopy(BY_NAME["CardTestingDetected"])
    change(rule)
    assert any(found.startswith(fault) for found in faults(rule)), faults(rule)


def test_the_rules_of_one_attack_rise_with_their_severity() -> None:
    """A severity that could fire without the lesser ones would leave nothing to fall back on when it ends."""
    by_severity = {rule["labels"]["severity"]: rule for rule in FRAUD if rule["labels"]["alert_type"] == "CARD_TESTING"}
    for metric in ("block_rate", "failed_auth_rate", "transaction_count"):
        thresholds = [float(by_severity[each]["annotations"][f"threshold_{metric}"]) for each in ("P3", "P2", "P1")]
        assert thresholds == sorted(set(thresholds))


@pytest.mark.parametrize("rule", OPERATIONS, ids=name_of)
def test_an_operations_rule_names_no_merchant(rule: Rule) -> None:
    assert rule["labels"]["alert_type"] == "OPERATIONS"
    assert rule["labels"]["severity"] in SEVERITIES
    assert "account_id" not in rule["expr"]
    assert {"account_id", "merchant_name"}.isdisjoint(rule["annotations"])
    assert {"summary", "description", "runbook_url"} <= set(rule["annotations"])
    assert set(rule["labels"]) == {"alert_type", "severity"}
    assert parse_duration(rule.get("for", 0)) > 0


def test_no_two_rules_and_no_two_groups_share_a_name() -> None:
    names = [name_of(rule) for rule in RULES]
    assert len(names) == len(set(names))
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


@pytest.mark.parametrize("name", WANTED)
def test_what_the_owner_asks_for_is_there(name: str) -> None:
    wait, severity, numbers = WANTED[name]
    rule = BY_NAME[name]
    read = " ".join([rule["expr"], *(r["expr"] for r in RECORDINGS if r["record"] in rule["expr"])])
    assert (rule["for"], rule["labels"]["severity"]) == (wait, severity)
    assert [number for number in numbers if number not in read] == []


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.iterdir()} == set(BY_NAME)
    assert {name: rule["annotations"]["runbook_url"] for name, rule in BY_NAME.items()} == {
        name: f"/runbooks/{name}" for name in BY_NAME
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


COMMANDS = ("amtool", "curl", "promtool", "psql", "redis-cli", "sentinel-exporter", "sentinel-webhook", "systemctl")


def promql_of(runbook: Path) -> list[str]:
    lines = [line.strip() for line in runbook.read_text().splitlines() if line.startswith("    ")]
    return [line for line in lines if not line.startswith(COMMANDS)]


@pytest.mark.parametrize("rule", RECORDINGS, ids=name_of)
def test_a_recorded_series_says_its_level_its_metric_and_what_was_done(rule: Rule) -> None:
    assert re.fullmatch(r"(account|job|channel|source):sentinel_\w+:\w+", rule["record"])
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
        if re.search(rf"\b{rule}\b", test["expr"]) or any(rule in sample["labels"] for sample in test["exp_samples"])
    ]


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_every_rule_has_unit_tests_of_every_kind(rule: Rule) -> None:
    """Only a rule that neither aggregates nor joins has no vectors to match."""
    held = {kind for names, kinds, _ in groups_of_tests() if rule["alert"] in names for kind in kinds}
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
