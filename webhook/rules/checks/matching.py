"""Two sides of an operator that can never have the same labels, or have too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import promql_parser as pq

from webhook.rules.checks.expression import expressions
from webhook.rules.context import Context
from webhook.rules.document import Rule
from webhook.rules.finding import Finding, Level, Place
from webhook.rules.promql import SETS, is_scalar, operator, operators
from webhook.rules.shapes import Shape


def matching(rule: Rule, context: Context) -> Iterator[Finding]:
    for value, expr in expressions(rule):
        counted: Counter[str] = Counter()
        for each in operators(expr):
            sign = operator(each)
            pattern = rf"\b{sign}\b" if sign.isalpha() else rf"(?<![<>=!]){_escaped(sign)}(?![=~])"
            place = value.find(rf"(?i){pattern}", counted[sign], code=True)
            counted[sign] += 1
            if not is_scalar(each.lhs) and not is_scalar(each.rhs):
                yield from _judged(rule, each, place, context)


def _escaped(sign: str) -> str:
    return "".join(f"\\{character}" for character in sign)


def _judged(rule: Rule, expr: pq.BinaryExpr, place: Place, context: Context) -> Iterator[Finding]:
    left, right = context.shape(expr.lhs), context.shape(expr.rhs)
    if operator(expr) == "or":
        return
    modifier = expr.modifier
    matched = modifier.matching if modifier else None
    labels = frozenset(matched.labels) if matched else frozenset()
    on = matched is not None and matched.type == pq.LabelModifierType.Include
    never = sorted(_never(left, right, labels if on else None, frozenset() if on else labels))
    if never:
        label = never[0]
        side, other = ("left", "right") if label in left.certain else ("right", "left")
        message = f"never matches: the {side} side has the label {label}, the {other} side cannot"
        yield rule.finding(
            "never-matches", place, message, "give both sides the same labels, or say which: on (account_id)"
        )
        return
    if on and labels and not any(left.may_have(label) or right.may_have(label) for label in labels):
        message = f"neither side has {', '.join(sorted(labels))}: all series are one group"
        yield rule.finding("never-matches", place, message, "match on labels that both sides have")
    elif operator(expr) not in SETS:
        yield from _many(rule, expr, place, left, right, labels if on else None, labels)


def _never(left: Shape, right: Shape, on: frozenset[str] | None, ignored: frozenset[str]) -> Iterator[str]:
    """Labels by which no two series can be equal."""
    for label in left.certain | right.certain:
        if (on is not None and label not in on) or label in ignored:
            continue
        if not left.may_have(label) or not right.may_have(label):
            yield label


def _many(
    rule: Rule,
    expr: pq.BinaryExpr,
    place: Place,
    left: Shape,
    right: Shape,
    on: frozenset[str] | None,
    labels: frozenset[str],
) -> Iterator[Finding]:
    """Sides of which one series is wanted for each match, but there are several."""
    card = expr.modifier.card if expr.modifier else pq.VectorMatchCardinality.OneToOne
    sides = [("left", left), ("right", right)]
    if card == pq.VectorMatchCardinality.ManyToOne:
        sides = sides[1:]
    elif card == pq.VectorMatchCardinality.OneToMany:
        sides = sides[:1]
    for side, shape in sides:
        free = shape.certain - shape.pinned
        extra = sorted(free - on if on is not None else free & labels)
        if extra:
            group = ", ".join(sorted(on)) if on else "the others"
            message = f"many-to-many: the {side} side has a series for each {', '.join(extra)}"
            hint = f"make them one first, as in max by ({group}) (…)" if on else "aggregate that side first"
            yield rule.finding("many-to-many", place, message, hint, Level.ERROR)
