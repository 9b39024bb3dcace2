"""Two sides of an operator that can never have the same labels, or have too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser as pq

from webhook.rules.checks.expression import expressions
from webhook.rules.context import Context
from webhook.rules.document import Rule
from webhook.rules.finding import Finding
from webhook.rules.promql import SETS, is_scalar, operator, operators
from webhook.rules.shapes import Shape

_Found = tuple[str, str, str]
"""Check, message, hint."""


def matching(rule: Rule, context: Context) -> Iterator[Finding]:
    for value, expr in expressions(rule):
        counted: Counter[str] = Counter()
        for each in operators(expr):
            sign = operator(each)
            pattern = rf"\b{sign}\b" if sign.isalpha() else rf"(?<![<>=!]){_escaped(sign)}(?![=~])"
            place = value.find(rf"(?i){pattern}", counted[sign], code=True)
            counted[sign] += 1
            if sign != "or" and not is_scalar(each.lhs) and not is_scalar(each.rhs):
                yield from (rule.finding(check, place, what, hint) for check, what, hint in _judged(each, context))


def account(rule: Rule, context: Context) -> Iterator[Finding]:
    """An alert about a merchant is one for each account, and its labels do not change; no other has an account."""
    if rule.parsed is None or not (rule.about_merchants or rule.about_operations):
        return
    shape = context.shape(rule.parsed)
    if rule.about_operations:
        if "account_id" in shape.certain or "account_id" in (shape.possible or ()):
            hint = "give it the alert_type of an attack, or leave account_id out of by (…)"
            yield rule.finding("account", rule.expr.place, "an operations alert of a merchant", hint)
        return
    extra = sorted(shape.certain - shape.pinned - {"account_id"})
    if extra:
        message = f"one merchant has an alert for each {', '.join(extra)}"
        yield rule.finding("account", rule.expr.place, message, "make it one: max by (account_id) (…)")
    elif not shape.may_have("account_id"):
        hint = "aggregate by (account_id), or give it the alert_type OPERATIONS"
        yield rule.finding("account", rule.expr.place, "no account_id is left: it is no merchant's alert", hint)


def _escaped(sign: str) -> str:
    return "".join(f"\\{character}" for character in sign)


@dataclass(frozen=True, slots=True)
class _Match:
    """The labels by which two sides are matched: those of `on`, or all but those of `ignoring`."""

    labels: frozenset[str]
    on: bool

    def asks(self, label: str) -> bool:
        return (label in self.labels) == self.on


def _judged(expr: pq.BinaryExpr, context: Context) -> Iterator[_Found]:
    left, right = context.shape(expr.lhs), context.shape(expr.rhs)
    matched = expr.modifier.matching if expr.modifier else None
    include = matched is not None and matched.type == pq.LabelModifierType.Include
    match = _Match(frozenset(matched.labels if matched else ()), include)
    never = sorted(_never(left, right, match))
    if never:
        side, other = ("left", "right") if left.may_have(never[0]) else ("right", "left")
        message = f"never matches: the {side} side has the label {never[0]}, the {other} side cannot"
        yield "never-matches", message, "give both sides the same labels, or say which: on (account_id)"
    elif match.on and match.labels and not any(left.may_have(each) or right.may_have(each) for each in match.labels):
        message = f"neither side has {', '.join(sorted(match.labels))}: all series are one group"
        yield "never-matches", message, "match on labels that both sides have"
    elif operator(expr) not in SETS:
        yield from _many(expr, left, right, match)


def _never(left: Shape, right: Shape, match: _Match) -> Iterator[str]:
    """Labels by which no two series can be equal."""
    named = {label for label in match.labels if match.on and left.may_have(label) != right.may_have(label)}
    for label in left.certain | right.certain | named:
        if match.asks(label) and not (left.may_have(label) and right.may_have(label)):
            yield label


def _many(expr: pq.BinaryExpr, left: Shape, right: Shape, match: _Match) -> Iterator[_Found]:
    """Sides of which one series is wanted for each match, but there are several."""
    card = expr.modifier.card if expr.modifier else pq.VectorMatchCardinality.OneToOne
    sides = [("left", left), ("right", right)]
    if card == pq.VectorMatchCardinality.ManyToOne:
        sides = sides[1:]
    elif card == pq.VectorMatchCardinality.OneToMany:
        sides = sides[:1]
    for side, shape in sides:
        extra = sorted(label for label in shape.certain - shape.pinned if not match.asks(label))
        if extra:
            message = f"many-to-many: the {side} side has a series for each {', '.join(extra)}"
            group = ", ".join(sorted(match.labels))
            hint = f"make them one first, as in max by ({group}) (…)" if match.on else "aggregate that side first"
            yield "many-to-many", message, hint
