"""Whether an alert about a merchant hands on what it compared: each value, and each threshold, as an annotation."""

from __future__ import annotations

import re
from collections.abc import Iterator

import promql_parser as pq

from webhook.rules import templates
from webhook.rules.context import Context
from webhook.rules.document import Rule, Value
from webhook.rules.finding import Finding
from webhook.rules.promql import comparisons, number

_PREFIX = "threshold_"
_ACCOUNT = re.compile(r"account_id\s*=\s*%(?:\[1\])?q\s*,?\s*")
_OWN = "sentinel_"
_Compared = list[tuple[str, float]]


def values(rule: Rule, context: Context) -> Iterator[Finding]:
    """Operations alerts have no merchant to set thresholds: what they tell must be true, but may be less."""
    if not rule.is_alert or rule.parsed is None:
        return
    compared = _compared(rule.parsed, context)
    told = {name: value for name, value in rule.annotations.items() if name.startswith(_PREFIX)}
    for name, value in told.items():
        yield from _threshold(rule, context, name, value, compared)
    if not rule.about_merchants:
        return
    known = {holds(rule, name.removeprefix(_PREFIX), context) for name in told}
    for text, limit in compared:
        if text not in known:
            hint = f'add a name of your own with this value, and {_PREFIX}<name>: "{_plain(limit)}"'
            message = f"no annotations hold the value and threshold of: {text}"
            yield rule.finding("threshold", rule.expr.place, message, hint)
    yield from _metrics(rule, context)


def _threshold(rule: Rule, context: Context, name: str, value: Value, compared: _Compared) -> Iterator[Finding]:
    wanted = {limit for text, limit in compared if text == holds(rule, name.removeprefix(_PREFIX), context)}
    told = _number(value.text)
    if told is None:
        if rule.about_merchants:
            yield rule.finding("threshold", value.place, f"{name} is no number", "write the number of the expression")
    elif wanted and told not in wanted:
        right = " or ".join(map(_plain, sorted(wanted)))
        message = f"{name} is {value.text}, and the expression compares with {right}"
        yield rule.finding("threshold", value.place, message, f'write {name}: "{right}"')
    elif not wanted and rule.about_merchants:
        of = name.removeprefix(_PREFIX)
        message = f"{name} belongs to no comparison of the expression"
        yield rule.finding("threshold", value.place, message, f"let {of} hold what is compared, or remove {name}")


def _metrics(rule: Rule, context: Context) -> Iterator[Finding]:
    assert rule.parsed is not None
    for metric in sorted(context.metrics_of(rule.parsed)):
        name = metric.removeprefix(_OWN)
        unknown = context.metrics.complete and context.metrics.get(metric) is None
        if metric.startswith(_OWN) and not unknown and not _worst(metric, holds(rule, name, context)):
            message = f"no annotation {name} holds {metric}"
            wanted = f"account:{metric}:max"
            if wanted not in context.recorded:
                wanted = f"max by (account_id) ({metric})"
            hint = f"add {name}: with the value of {wanted}, so that merchants can set conditions on it"
            place = rule.annotations[name].place if name in rule.annotations else rule.name.place
            yield rule.finding("value", place, message, hint)


def _worst(metric: str, text: str) -> bool:
    """Whether it is the account's worst at this moment, or since a scrape that may have failed."""
    now = re.escape(f"max by (account_id) ({metric})")
    bridged = re.escape(f"max by (account_id) (last_over_time({metric}[") + r"\w+" + re.escape("]))")
    return re.fullmatch(f"{now}|{bridged}", text) is not None


def holds(rule: Rule, name: str, context: Context) -> str:
    """The expression, over all accounts, whose value the annotation holds; empty where it is none."""
    value = rule.annotations.get(name)
    if value is None or rule.parsed is None:
        return ""
    if templates.is_value(value.text):
        first = next(_compared_parts(rule.parsed), None)
        return context.text(first[0] if first else rule.parsed)
    found = list(templates.queries(value.text))
    if len(found) != 1:
        return ""
    try:
        return context.text(pq.parse(_ACCOUNT.sub("", found[0].text)))
    except ValueError:
        return ""


def _compared(expr: pq.Expr, context: Context) -> _Compared:
    return [(context.text(part), limit) for part, limit in _compared_parts(expr)]


def _compared_parts(expr: pq.Expr) -> Iterator[tuple[pq.Expr, float]]:
    for each in comparisons(expr):
        limit = number(each.rhs)
        if limit is not None:
            yield each.lhs, limit


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _plain(limit: float) -> str:
    return f"{limit:.15g}"
