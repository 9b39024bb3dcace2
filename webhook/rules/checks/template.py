"""What templates read: labels that the expression has dropped, accounts in queries, results that may be empty."""

from __future__ import annotations

import re
from collections.abc import Iterator

import promql_parser as pq

from webhook.rules import templates
from webhook.rules.context import Context
from webhook.rules.document import Rule, Value
from webhook.rules.finding import Finding, Level


def template(rule: Rule, context: Context) -> Iterator[Finding]:
    for name, value in (*rule.labels.items(), *rule.annotations.items()):
        yield from _labels(rule, context, name, value)
        yield from _queries(rule, name, value)


def _labels(rule: Rule, context: Context, name: str, value: Value) -> Iterator[Finding]:
    if rule.parsed is None:
        return
    shape = context.shape(rule.parsed)
    for label in dict.fromkeys(templates.labels_read(value.text)):
        if not shape.may_have(label) and label != "alertname":
            kept = ", ".join(sorted(shape.possible or ())) or "none"
            place = value.find(rf"(?:\$labels|\.Labels)\.{label}\b")
            message = f"{name} reads the label {label}, which the expression drops"
            yield rule.finding("dropped-label", place, message, f"the labels left are: {kept}; add it to by (…)")


def _queries(rule: Rule, name: str, value: Value) -> Iterator[Finding]:
    for query in templates.queries(value.text):
        verbs = [verb for verb in query.verbs if verb != "q"]
        if verbs or "{{" in query.text or (re.search(r"\+|\bprint\b", value.text) and not query.verbs and query.labels):
            hint = 'write account_id=%q, without quotes: an id with a quote in it would break out of "%s"'
            place = value.find(r"%(?:\[\d+\])?[a-pr-z]")
            yield rule.finding("quoting", place, f"{name} puts a label into a query unquoted", hint)
            continue
        if re.search(r"[\"']\s*%(?:\[\d+\])?q", query.text):
            yield rule.finding("quoting", value.find("%q"), f"{name} quotes twice", "write %q without quotes around it")
            continue
        try:
            pq.parse(templates.filled(query))
        except ValueError as error:
            message = f"{name} has a query that cannot be read: {error}"
            yield rule.finding("template-query", value.place, message, "try it on Prometheus' own page")
    if templates.breaks_when_empty(value.text):
        hint = "write {{ with printf `…` $labels.account_id | query }}{{ . | first | value }}{{ end }}"
        message = f"{name} breaks when its query finds nothing"
        yield rule.finding("template-empty", value.find(r"\bquery\b"), message, hint, Level.WARNING)
