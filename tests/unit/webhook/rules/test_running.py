"""What of a file does not run as it is written. With a real Prometheus: tests/integration/test_rules_deploy.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from webhook.adapters.prometheus_api import RunningGroup, RunningRule
from webhook.rules.document import parse
from webhook.rules.running import differences, failing, of_file, unhealthy, unseen

FILE = """
groups:
  - name: fraud
    labels: {team: payments}
    rules:
      - record: account:rate:max
        expr: max by (account_id) (rate)
      - alert: Wave
        expr: account:rate:max   >   0.2
        for: 5m
        keep_firing_for: 10m
        labels: {severity: P2, empty: ""}
        annotations: {summary: Much}
"""
AT = datetime(2026, 1, 1, tzinfo=UTC)
RULES = (
    RunningRule("account:rate:max", "record", "max by (account_id) (rate)", 0, 0, {"team": "payments"}, {}, "ok", ""),
    RunningRule(
        "Wave", "alert", "account:rate:max > 0.2", 300, 600,
        {"team": "payments", "severity": "P2"}, {"summary": "Much"}, "ok", "",
    ),
)  # fmt: skip
GROUP = RunningGroup("fraud", "/etc/prometheus/rules/a.yml", 60, 0, AT, RULES)


def test_what_runs_as_it_is_written_differs_in_nothing() -> None:
    file = parse(FILE, "a.yml")
    assert differences(file, [GROUP], usual=60) == []
    assert unhealthy([GROUP], AT) == []
    assert of_file([GROUP], "a.yml") == [GROUP]
    assert of_file([GROUP], "b.yml") == []


@pytest.mark.parametrize(
    ("running", "told"),
    [
        (replace(GROUP, interval=30), "every 30 s, not every 60 s"),
        (replace(GROUP, limit=3), "a limit of 3, not of 0"),
        (replace(GROUP, name="other"), "fraud does not run"),
        (replace(GROUP, rules=RULES[:1]), "runs other rules"),
        *(
            (replace(GROUP, rules=(RULES[0], replace(RULES[1], **change))), f"Wave runs with another {field}")
            for change, field in (
                ({"query": "account:rate:max > 0.3"}, "expr"),
                ({"duration": 301.0}, "for"),
                ({"keep": 0.0}, "keep_firing_for"),
                ({"labels": {"severity": "P2"}}, "labels"),
                ({"annotations": {"summary": "Less"}}, "annotations"),
            )
        ),
    ],
)
def test_each_difference_is_told(running: RunningGroup, told: str) -> None:
    assert told in " / ".join(differences(parse(FILE, "a.yml"), [running], usual=60))


def test_what_has_not_been_evaluated_since_is_not_healthy_yet() -> None:
    assert unhealthy([GROUP], AT + timedelta(milliseconds=1)) == ["the group fraud has not been evaluated since"]
    assert unhealthy([replace(GROUP, evaluated=None)], AT) == ["the group fraud has not been evaluated since"]
    assert unhealthy([replace(GROUP, rules=(replace(RULES[0], health="err"),))]) == ["account:rate:max is err"]


def test_what_the_api_does_not_show_may_or_may_not_run() -> None:
    assert not unseen(parse(FILE, "a.yml"))
    assert unseen(parse(FILE.replace("labels: {team: payments}", "query_offset: 1m"), "a.yml"))


def test_an_error_counts_once_it_was_seen_again() -> None:
    failed = replace(GROUP, rules=(replace(RULES[0], health="err", error="many-to-many"), RULES[1]))
    assert failing([GROUP, failed], AT) == "account:rate:max fails: many-to-many"
    assert failing([GROUP, failed], AT + timedelta(seconds=1)) == ""
    assert unhealthy([failed], AT + timedelta(seconds=1)), "and it is waited for"
