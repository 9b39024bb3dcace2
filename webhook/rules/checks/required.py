"""What the webhook and its people need of every rule: labels, annotations, a wait, a runbook."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from webhook.rules import templates
from webhook.rules.context import Context
from webhook.rules.document import Rule
from webhook.rules.finding import Finding, Level

ALERT_TYPES = (
    "CARD_TESTING", "VELOCITY_ATTACK", "ACCOUNT_TAKEOVER", "CHARGEBACK_FRAUD", "ANOMALY_DETECTION", "BLOCK_SURGE",
    "OPERATIONS",
)  # fmt: skip
SEVERITIES = ("P0", "P1", "P2", "P3")
OF_MERCHANTS = ("account_id", "merchant_name")
TEXTS = ("summary", "description")
LABELS = ("alert_type", "severity")
TEAMS = ("analysts", "data", "platform")
WATCHDOG = "Watchdog"
"""Fires always, to somebody who calls when it stops. Without alert_type, or it would be an alert that never ends."""

_ROUNDED = re.compile(r"%[-+#0]*\d*\.\d+[efg]|\bhumanize\w*")


def required(rule: Rule, _: Context) -> Iterator[Finding]:
    if rule.is_alert:
        if rule.name.text == WATCHDOG:
            yield from _watchdog(rule)
        else:
            yield from _labels(rule)
            yield from _values_of_labels(rule)
            yield from _wait(rule)
        yield from _annotations(rule)
        yield from _runbook(rule)
    elif ":" not in rule.name.text:
        hint = "name it level:metric:operation, as account:sentinel_block_rate:max"
        yield rule.finding(
            "record-name", rule.name.place, "a recorded metric looks like a scraped one", hint, Level.WARNING
        )


def _labels(rule: Rule) -> Iterator[Finding]:
    for label in LABELS:
        if label not in rule.labels:
            hint = f"add {label}: to labels:, one of {', '.join(SEVERITIES if label == 'severity' else ALERT_TYPES)}"
            yield rule.finding("required-label", rule.name.place, f"the label {label} is missing", hint)
    if rule.about_operations and "team" not in rule.labels:
        hint = f"add team: to labels:, who is to mend it: {', '.join(TEAMS)}; docs/rules.md says what each owns"
        yield rule.finding("required-label", rule.name.place, "the label team is missing", hint)
    for label, value in rule.labels.items():
        if templates.reads_value(value.text):
            hint = "values belong in annotations: as a label, each value makes another alert, which never fires"
            yield rule.finding("label-of-value", value.place, f"the label {label} holds a value", hint)
        elif label not in LABELS and rule.about_merchants:
            hint = "every label is part of what makes an alert the same alert: put it in annotations"
            yield rule.finding("extra-label", value.place, f"the label {label}", hint, Level.WARNING)


def _values_of_labels(rule: Rule) -> Iterator[Finding]:
    severity, alert_type, team = (rule.labels.get(each) for each in ("severity", "alert_type", "team"))
    if severity and severity.text not in SEVERITIES:
        hint = f"use one of {', '.join(SEVERITIES)}"
        yield rule.finding("severity", severity.place, f"the severity {severity.text} is unknown", hint)
    if alert_type and alert_type.text not in ALERT_TYPES:
        near = difflib.get_close_matches(alert_type.text, ALERT_TYPES, n=1)
        hint = f"did you mean {near[0]}?" if near else "merchants need a configuration of this type to set thresholds"
        message = f"the alert_type {alert_type.text} is new"
        yield rule.finding("alert-type", alert_type.place, message, hint, Level.WARNING)
    if rule.about_operations and team and team.text not in TEAMS:
        near = difflib.get_close_matches(team.text, TEAMS, n=1)
        hint = (
            f"did you mean {near[0]}?" if near else "give it a route in alertmanager.yml, or only on-call hears of it"
        )
        yield rule.finding("team", team.place, f"the team {team.text} is new", hint, Level.WARNING)


def _watchdog(rule: Rule) -> Iterator[Finding]:
    if "alert_type" in rule.labels:
        hint = "remove it: reconciliation would make it an alert, which grows graver for as long as all is well"
        place = rule.labels["alert_type"].place
        yield rule.finding("watchdog", place, f"{WATCHDOG} has an alert_type", hint)


def _annotations(rule: Rule) -> Iterator[Finding]:
    merchants = rule.about_merchants
    for name in (*OF_MERCHANTS, *TEXTS) if merchants else TEXTS:
        if name not in rule.annotations:
            hint = f"add {name}: to annotations:; docs/rules.md shows how"
            yield rule.finding("required-annotation", rule.name.place, f"the annotation {name} is missing", hint)
    account = rule.annotations.get("account_id")
    if merchants and account and not templates.is_label(account.text, "account_id"):
        hint = 'write account_id: "{{ $labels.account_id }}"'
        yield rule.finding("account-annotation", account.place, "account_id is not the alert's account", hint)
    for name in OF_MERCHANTS:
        if rule.about_operations and name in rule.annotations:
            hint = "an operations alert goes to those on call: leave it out, or give the rule another alert_type"
            yield rule.finding("operations", rule.annotations[name].place, f"{name} on an operations alert", hint)
    for name, value in rule.annotations.items():
        if merchants and any(_ROUNDED.search(action) for action in templates.actions(value.text)):
            hint = "the webhook compares in full precision: write {{ $value }} or {{ . | first | value }}"
            yield rule.finding("rounded", value.place, f"{name} is rounded", hint)


def _wait(rule: Rule) -> Iterator[Finding]:
    waits = rule.fields.get("for")
    if waits is None or waits.text in ("0", "0s"):
        level = Level.ERROR if rule.about_merchants else Level.WARNING
        place = waits.place if waits else rule.name.place
        yield rule.finding(
            "for", place, "it fires at the first evaluation", "add for: 5m, or as long as you like", level
        )


def _runbook(rule: Rule) -> Iterator[Finding]:
    if "runbook_url" not in rule.annotations:
        hint = "add runbook_url: to annotations:, a page that says what to do"
        yield rule.finding("runbook", rule.name.place, "no runbook", hint, Level.WARNING)
