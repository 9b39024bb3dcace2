"""Each check finds its mistake, where it is, and nothing in a rule without one."""

from __future__ import annotations

import pytest

from webhook.rules.check import check_files
from webhook.rules.document import parse
from webhook.rules.finding import Finding, Level
from webhook.rules.known import Metrics, family, own_metrics

GOOD = """
groups:
  - name: fraud
    interval: 1m
    rules:
      - record: account:sentinel_block_rate:max
        expr: max by (account_id) (sentinel_block_rate)
      - alert: Wave
        expr: |
          max by (account_id) (sentinel_block_rate) > 0.2 # a comment with > and on
          and on (account_id) max by (account_id) (sentinel_transaction_count) >= 100
        for: 5m
        labels:
          alert_type: CARD_TESTING
          severity: P2
        annotations: &shared
          account_id: "{{ $labels.account_id }}"
          merchant_name: >-
            {{ with printf `max by (merchant_name) (sentinel_block_rate{account_id=%q,merchant_name!=""})`
            $labels.account_id | query }}{{ . | first | label "merchant_name" }}{{ end }}
          summary: A wave
          description: What it is.
          block_rate: "{{ $value }}"
          transaction_count: >-
            {{ with printf `max by (account_id) (sentinel_transaction_count{account_id=%q})`
            $labels.account_id | query }}{{ . | first | value }}{{ end }}
          threshold_block_rate: "0.2"
          threshold_transaction_count: "100"
          runbook_url: https://example.com/wave
      - alert: SourceDown
        expr: sentinel_source_up == 0
        for: 5m
        labels: {alert_type: OPERATIONS, team: data, severity: P3}
        annotations: {summary: "{{ $labels.source }} is down", description: Look, runbook_url: https://example.com/down}
"""
LABELS = frozenset({"account_id", "merchant_name", "job", "instance"})
SOURCES = [
    *family("sentinel_block_rate", "gauge", LABELS | {"region"}),
    *family("sentinel_transaction_count", "gauge", LABELS),
    *family("sentinel_payments_total", "counter", LABELS),
]
FIRST = "max by (account_id) (sentinel_block_rate) > 0.2"
SECOND = "max by (account_id) (sentinel_transaction_count) >= 100"
QUERY = "(sentinel_transaction_count{account_id=%q})"
RATIO = "max by (account_id, region) (sentinel_block_rate) / on (account_id) max by (account_id) (up) > 0.2"
DOWN = "expr: sentinel_source_up == 0"


def findings(text: str) -> list[Finding]:
    return check_files([parse(text, "rules.yml")], Metrics([*own_metrics(), *SOURCES]))


def located(text: str, finding: Finding) -> str:
    """What stands at the place, to the end of its line."""
    return text.splitlines()[finding.place.line - 1][finding.place.column - 1 :]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert findings(GOOD) == []


@pytest.mark.parametrize(
    "expression",
    ["sentinel_source_warm and sentinel_source_up == 0", "sentinel_source_up == 0 and on () sentinel_source_warm"],
)
def test_one_side_that_compares_decides_for_both(expression: str) -> None:
    assert "comparison" not in {each.check for each in findings(GOOD.replace(DOWN, f"expr: {expression}"))}


def test_a_watchdog_always_fires_and_is_no_alert() -> None:
    text = """\
groups:
  - name: a
    rules:
      - alert: Watchdog
        expr: vector(1)
        labels: {severity: none}
        annotations: {summary: It fires, description: As it has to, runbook_url: https://example.com/watchdog}
"""
    assert findings(text) == []
    assert "comparison" in {each.check for each in findings(text.replace("alert: Watchdog", "alert: Other"))}


@pytest.mark.parametrize(
    ("old", "new", "check", "at"),
    [
        # structure
        ("    interval: 1m", "    intervall: 1m", "unknown-key", "intervall"),
        ("        for: 5m\n        labels:\n", "        fro: 5m\n        labels:\n", "unknown-key", "fro: 5m"),
        ("for: 5m\n        labels:\n", "for: 5 minutes\n        labels:\n", "duration", "5 minutes"),
        (DOWN, "exp: 1", "structure", "alert: SourceDown"),
        ("name: fraud", "name: {", "yaml", ""),
        (DOWN, "expr: sentinel_source_up ==", "syntax", "sentinel_source_up =="),
        # labels, annotations, waits
        ("          severity: P2\n", "", "required-label", "Wave"),
        ("team: data, ", "", "required-label", "SourceDown"),
        ("team: data", "team: dat", "team", "dat,"),
        ("alert: SourceDown", "alert: Watchdog", "watchdog", "OPERATIONS"),
        ("severity: P2", "severity: critical", "severity", "critical"),
        ("alert_type: CARD_TESTING", "alert_type: CARD_TESTIN", "alert-type", "CARD_TESTIN"),
        ("severity: P2", "severity: P2\n          region: EU", "extra-label", "EU"),
        ("severity: P3", "severity: P3, value: '{{ $value }}'", "label-of-value", "'{{ $value }}'"),
        ("          summary: A wave\n", "", "required-annotation", "Wave"),
        ('"{{ $labels.account_id }}"', "acc_1", "account-annotation", "acc_1"),
        ("description: Look", "description: Look, account_id: a", "operations", "a, runbook_url"),
        ('block_rate: "{{ $value }}"', "block_rate: '{{ printf \"%.2f\" $value }}'", "rounded", "'{{ printf"),
        ("        for: 5m\n        labels:\n", "        labels:\n", "for", "Wave"),
        ("          runbook_url: https://example.com/wave\n", "", "runbook", "Wave"),
        ("record: account:sentinel_block_rate:max", "record: sentinel_block_rate_max", "record-name", "sentinel_block"),
        # the expression
        (DOWN, "expr: sentinel_source_up", "comparison", "sentinel_source_up"),
        (DOWN, "expr: sentinel_source_up == bool 0", "comparison", "sentinel_source_up"),
        (DOWN, "expr: sentinel_source_up == 0 or sentinel_source_warm", "comparison", "sentinel_source_up"),
        (DOWN, "expr: sentinel_source_up and sentinel_source_warm", "comparison", "sentinel_source_up"),
        (FIRST, "max by (account_id) (sentinel_block_rate)", "comparison", "|"),
        (
            FIRST,
            "max by (account_id) (sentinel_block_rate) > max by (account_id) (sentinel_transaction_count)",
            "comparison",
            "|",
        ),
        (FIRST, "max by (account_id) (rate(sentinel_block_rate[5m])) > 0.2", "gauge", "rate("),
        (DOWN, "expr: resets(account:sentinel_block_rate:max[1h]) > 0", "gauge", "resets("),
        (DOWN, "expr: delta(sentinel_payments_total[1h]) > 0", "counter", "delta("),
        (
            SECOND,
            "max by (account_id) (sentinel_transactions_count) >= 100",
            "unknown-metric",
            "sentinel_transactions_count",
        ),
        (QUERY, "(sentinel_nothing{account_id=%q})", "unknown-metric", "sentinel_nothing"),
        (
            SECOND,
            'max by (account_id) (sentinel_transaction_count{region="EU"}) >= 100',
            "unknown-label",
            "sentinel_transaction_count",
        ),
        # matching
        (
            f"{FIRST} # a comment with > and on\n          and on (account_id)",
            "sentinel_block_rate > 0.2 and",
            "never-matches",
            "and max",
        ),
        (FIRST, "sentinel_block_rate > 0.2", "account", "|"),
        (FIRST, "max by (region) (sentinel_block_rate) > 0.2", "account", "|"),
        (DOWN, "expr: max by (account_id) (sentinel_block_rate) == 0", "account", "max by"),
        ("and on (account_id)", "and on (region)", "never-matches", "and on (region)"),
        (FIRST, RATIO, "many-to-many", "/ on"),
        (
            DOWN,
            "expr: sentinel_block_rate / ignoring (region) sentinel_transaction_count > 1",
            "many-to-many",
            "/ ignoring",
        ),
        # templates
        ("{{ $labels.source }} is down", "{{ $labels.account_id }}{{ $labels.region }} is down", "dropped-label", None),
        ("summary: A wave", 'summary: "{{ $labels.region }}"', "dropped-label", "$labels.region"),
        (QUERY, '(sentinel_transaction_count{account_id="%s"})', "quoting", "%s"),
        (QUERY, '(sentinel_transaction_count{account_id="%q"})', "quoting", "%q"),
        (QUERY, "(sentinel_transaction_count{account_id=%q)", "template-query", ">-"),
        (
            "| query }}{{ . | first | value }}{{ end }}",
            "| query | first | value }}{{ end }}",
            "template-empty",
            "query |",
        ),
        # values and thresholds
        ('threshold_block_rate: "0.2"', 'threshold_block_rate: "0.3"', "threshold", '"0.3"'),
        ('          threshold_block_rate: "0.2"\n', "", "threshold", "|"),
        ("> 0.2", "> 0.25", "threshold", '"0.2"'),
        ('threshold_block_rate: "0.2"', 'threshold_block_rate: "a fifth"', "threshold", '"a fifth"'),
        (
            'threshold_block_rate: "0.2"',
            'threshold_block_rate: "0.2"\n          threshold_other: "1"',
            "threshold",
            '"1"',
        ),
        ('block_rate: "{{ $value }}"', 'rate: "{{ $value }}"', "value", "Wave"),
        # duplicates
        ("alert: SourceDown", "alert: Wave", "duplicate", "Wave"),
        (
            "- alert: SourceDown",
            "- {record: 'account:sentinel_block_rate:max', expr: up}\n      - alert: SourceDown",
            "duplicate",
            "'account",
        ),
        (DOWN, f"expr: ({FIRST}\n         and on (account_id)   {SECOND})", "duplicate", "(max by"),
    ],
)
def test_a_mistake_is_found_where_it_is(old: str, new: str, check: str, at: str | None) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    found = [finding for finding in findings(text) if finding.check == check]
    if at is None:
        assert found == [], "what the expression keeps may be read"
        return
    assert found, findings(text)
    assert located(text, found[0]).startswith(at), located(text, found[0])
    assert found[0].hint


def test_what_cannot_be_meant_is_an_error_and_the_rest_a_warning() -> None:
    text = GOOD.replace("sentinel_source_up == 0", "sentinel_source_up").replace("CARD_TESTING", "CARD_FRAUD")
    levels = {finding.check: finding.level for finding in findings(text)}
    assert levels == {"comparison": Level.ERROR, "alert-type": Level.WARNING}


def test_a_recording_rule_stands_for_its_expression() -> None:
    """Values, thresholds and labels are seen through it, also where rules read each other in a circle."""
    recorded = GOOD.replace("max by (account_id) (sentinel_block_rate) > 0.2", "account:sentinel_block_rate:max > 0.2")
    assert findings(recorded) == []
    bridged = recorded.replace("(sentinel_block_rate)\n", "(last_over_time(sentinel_block_rate[2m30s]))\n", 1)
    assert bridged != recorded
    assert findings(bridged) == []
    hourly = recorded.replace("(sentinel_block_rate)\n", "(avg_over_time(sentinel_block_rate[1h]))\n", 1)
    assert [finding.check for finding in findings(hourly)] == ["value"]
    circle = (
        "      - {record: 'a:x:a', expr: 'a:x:b + a:x:b offset 1h'}\n      - {record: 'a:x:b', expr: 'a:x:a > 1'}\n"
    )
    assert findings(GOOD + circle) == []


def test_the_same_word_further_on_is_the_one_that_is_told() -> None:
    text = GOOD.replace(
        DOWN, 'expr: max by (c) (up) > 0 and max by (c) (up{a="and"}) > 0 and on (x) max by (b) (up) > 1'
    )
    (found,) = (finding for finding in findings(text) if finding.check == "never-matches")
    assert located(text, found).startswith("and on (x)")


def test_a_key_that_stands_twice() -> None:
    text = GOOD.replace("          severity: P2\n", "          severity: P2\n          severity: P1\n")
    assert [finding.message for finding in findings(text)] == ["severity stands twice"]


def test_without_the_exporters_configuration_a_name_may_be_a_sources() -> None:
    file = parse(GOOD.replace("sentinel_source_up", "shop_health"), "rules.yml")
    assert check_files([file], Metrics([*own_metrics(), *SOURCES], complete=False)) == []
    assert [each.check for each in check_files([file], Metrics([*own_metrics(), *SOURCES]))] == ["unknown-metric"]


@pytest.mark.parametrize("text", ["", "[]", "groups: {}", "groups: [1]", "groups: [{name: a, rules: 3}]", "a: b", "\t"])
def test_what_is_no_rule_file_is_said_so(text: str) -> None:
    assert findings(text)
