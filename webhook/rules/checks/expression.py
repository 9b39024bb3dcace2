"""Whether an expression can decide anything: comparisons, functions that fit the metrics, metrics that exist."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import promql_parser as pq

from webhook.rules import templates
from webhook.rules.checks.required import WATCHDOG
from webhook.rules.context import Context
from webhook.rules.document import Rule, Value
from webhook.rules.finding import Finding, Level
from webhook.rules.known import Metric
from webhook.rules.promql import (
    bare,
    children,
    comparisons,
    is_bool,
    is_comparison,
    matchers,
    metric_name,
    number,
    operator,
    selectors,
    walk,
)

_OF_COUNTERS = ("rate", "irate", "increase", "resets")
_OF_GAUGES = ("delta", "idelta", "deriv", "predict_linear")


def comparison(rule: Rule, context: Context) -> Iterator[Finding]:
    """Each part of an alert's expression must be able to be false."""
    if not rule.is_alert or rule.parsed is None or rule.name.text == WATCHDOG:
        return
    if not _decides(rule.parsed, context):
        message = "nothing is compared: it fires as long as the metric exists"
        yield rule.finding("comparison", rule.expr.place, message, "compare it with a number, as in > 0.2")
    if not rule.about_merchants:
        return
    for part in walk(rule.parsed):
        joined = isinstance(part, pq.BinaryExpr) and operator(part) == "and"
        if joined and _decides(part, context) and not all(_decides(each, context) for each in children(part)):
            message = "one side of `and` is not compared: it holds as long as the metric exists"
            yield rule.finding("comparison", rule.expr.place, message, "compare it, too", Level.WARNING)
    for each in comparisons(rule.parsed):
        if number(each.rhs) is None:
            hint = "compare with a number, as in a / b > 2: then value and threshold can be annotations"
            yield rule.finding("comparison", rule.expr.place, f"{operator(each)} compares with no number", hint)


def _decides(expr: pq.Expr, context: Context, seen: frozenset[str] = frozenset()) -> bool:
    expr = bare(expr)
    match expr:
        case pq.BinaryExpr():
            return _joined(expr, context, seen)
        case pq.Call() if expr.func.name.startswith("absent"):
            return True
        case pq.Call() | pq.AggregateExpr() | pq.SubqueryExpr():
            return any(_decides(each, context, seen) for each in children(expr))
        case pq.VectorSelector():
            name = metric_name(expr) or ""
            recorded = context.recorded[name].parsed if name in context.recorded and name not in seen else None
            return recorded is not None and _decides(recorded, context, seen | {name})
    return False


def _joined(expr: pq.BinaryExpr, context: Context, seen: frozenset[str]) -> bool:
    sides = (_decides(each, context, seen) for each in (expr.lhs, expr.rhs))
    if operator(expr) == "or":
        return all(sides)
    if operator(expr) == "and":
        return any(sides)
    return operator(expr) == "unless" or is_comparison(expr) or (not is_bool(expr) and any(sides))


def functions(rule: Rule, context: Context) -> Iterator[Finding]:
    """Counters' functions on gauges, and the other way round."""
    for value, expr in expressions(rule):
        counted: Counter[str] = Counter()
        for part in walk(expr):
            if not isinstance(part, pq.Call) or part.func.name not in (*_OF_COUNTERS, *_OF_GAUGES):
                continue
            name = part.func.name
            place = value.find(rf"\b{name}\s*\(", counted[name])
            counted[name] += 1
            for metric in {metric_name(each) or "" for each in selectors(part)}:
                kind = context.type_of(metric)
                if name in _OF_COUNTERS and kind in ("gauge", "info", "stateset"):
                    hint = "a gauge also falls, which is taken for a restart: compare averages, or use delta()"
                    yield rule.finding("gauge", place, f"{name}() is for counters, and {metric} is a {kind}", hint)
                elif name in _OF_GAUGES and kind == "counter":
                    hint = "after a restart it is far below zero: use increase() or rate()"
                    message = f"{name}() is for gauges, and {metric} is a counter"
                    yield rule.finding("counter", place, message, hint, Level.WARNING)


def metrics(rule: Rule, context: Context) -> Iterator[Finding]:
    """Metrics that nothing exports or records, and labels that their series do not have."""
    for value, expr in expressions(rule):
        counted: Counter[str] = Counter()
        for selector in selectors(expr):
            name = metric_name(selector)
            if name is None:
                continue
            place = value.find(rf"(?<![\w:]){re.escape(name)}(?![\w:])", counted[name])
            counted[name] += 1
            metric = context.metrics.get(name)
            if metric is None and name not in context.recorded and context.metrics.complete:
                near = context.metrics.near(name, context.recorded)
                hint = f"did you mean {near}?" if near else "add it to a source, or record it"
                yield rule.finding("unknown-metric", place, f"nothing exports {name}", hint)
            for label in _unknown_labels(selector, metric):
                hint = f"its labels are {', '.join(sorted(metric.labels or ()))}" if metric else ""
                message = f"no source gives {name} the label {label}"
                yield rule.finding("unknown-label", place, message, hint, Level.WARNING)


def _unknown_labels(selector: pq.VectorSelector, metric: Metric | None) -> list[str]:
    if metric is None or metric.labels is None:
        return []
    return [each.name for each in matchers(selector) if each.value and each.name not in metric.labels | {"__name__"}]


def expressions(rule: Rule) -> Iterator[tuple[Value, pq.Expr]]:
    """The rule's own, and those of its templates that can be read."""
    if rule.parsed is not None:
        yield rule.expr, rule.parsed
    for value in rule.annotations.values():
        for query in templates.queries(value.text):
            try:
                yield value, pq.parse(templates.filled(query))
            except ValueError:
                continue
