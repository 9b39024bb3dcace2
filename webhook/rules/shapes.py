"""Which labels the series of an expression can have, as far as the expression and the metrics say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import promql_parser as pq

from webhook.rules.promql import SETS, bare, is_scalar, matchers, metric_name, operator

_NAME = "__name__"
_WITH_ALL_LABELS = ("topk", "bottomk", "limitk", "limit_ratio")


@dataclass(frozen=True, slots=True)
class Shape:
    """`certain` labels are on every series, `pinned` ones have one value on all of them.

    `possible` are the only ones that there can be; None is any but the `absent` ones.
    """

    certain: frozenset[str] = frozenset()
    possible: frozenset[str] | None = None
    absent: frozenset[str] = frozenset()
    pinned: frozenset[str] = frozenset()

    def may_have(self, label: str) -> bool:
        return label in self.possible if self.possible is not None else label not in self.absent

    def keep(self, labels: frozenset[str]) -> Shape:
        possible = labels if self.possible is None else labels & self.possible
        return Shape(self.certain & labels, possible - self.absent, frozenset(), self.pinned & labels)

    def drop(self, labels: frozenset[str]) -> Shape:
        possible = None if self.possible is None else self.possible - labels
        return Shape(self.certain - labels, possible, self.absent | labels, self.pinned - labels)

    def add(self, label: str, *, certain: bool) -> Shape:
        possible = None if self.possible is None else self.possible | {label}
        always = self.certain | {label} if certain else self.certain
        return Shape(always, possible, self.absent - {label}, self.pinned - {label})

    def pin(self, label: str) -> Shape:
        return replace(self.add(label, certain=True), pinned=self.pinned | {label})

    def either(self, other: Shape) -> Shape:
        """Series of both."""
        possible = None if self.possible is None or other.possible is None else self.possible | other.possible
        absent = frozenset(
            label for label in self.absent | other.absent if not self.may_have(label) and not other.may_have(label)
        )
        return Shape(self.certain & other.certain, possible, absent)


EMPTY = Shape(possible=frozenset())
ShapeOfMetric = Callable[[str], Shape]


def shape_of(expr: pq.Expr, metric: ShapeOfMetric) -> Shape:
    """`metric` says what is known of a metric's series."""
    expr = bare(expr)
    shape = Shape()
    match expr:
        case _ if is_scalar(expr):
            shape = EMPTY
        case pq.VectorSelector():
            shape = _selected(expr, metric)
        case pq.MatrixSelector():
            shape = _selected(expr.vector_selector, metric)
        case pq.AggregateExpr():
            shape = _aggregated(expr, metric)
        case pq.BinaryExpr():
            shape = _joined(expr, metric)
        case pq.Call():
            shape = _called(expr, metric)
        case pq.SubqueryExpr() | pq.UnaryExpr():
            shape = shape_of(expr.expr, metric)
    return shape


def _selected(selector: pq.VectorSelector, metric: ShapeOfMetric) -> Shape:
    name = metric_name(selector)
    shape = metric(name) if name else Shape()
    for matcher in selector.matchers.matchers:
        if matcher.name == _NAME or matcher.op != pq.MatchOp.Equal:
            continue
        label = frozenset({matcher.name})
        shape = shape.pin(matcher.name) if matcher.value else shape.drop(label)
    return shape


def _aggregated(expr: pq.AggregateExpr, metric: ShapeOfMetric) -> Shape:
    inner, modifier = shape_of(expr.expr, metric), expr.modifier
    labels = frozenset(modifier.labels) if modifier else frozenset()
    if str(expr.op) in _WITH_ALL_LABELS:
        return inner
    kept = inner.drop(labels) if modifier and modifier.type == pq.AggModifierType.Without else inner.keep(labels)
    if str(expr.op) == "count_values" and isinstance(expr.param, pq.StringLiteral):
        return kept.add(expr.param.val, certain=True)
    return kept


def _joined(expr: pq.BinaryExpr, metric: ShapeOfMetric) -> Shape:
    left, right = shape_of(expr.lhs, metric), shape_of(expr.rhs, metric)
    if is_scalar(expr.lhs):
        return right
    if operator(expr) == "or":
        return left.either(right)
    if operator(expr) in SETS or is_scalar(expr.rhs) or expr.modifier is None:
        return left
    return _matched(expr.modifier, left, right)


def _matched(modifier: pq.BinModifier, left: Shape, right: Shape) -> Shape:
    if modifier.card == pq.VectorMatchCardinality.OneToOne:
        if modifier.matching is None:
            return left
        labels = frozenset(modifier.matching.labels)
        return left.keep(labels) if modifier.matching.type == pq.LabelModifierType.Include else left.drop(labels)
    many = left if modifier.card == pq.VectorMatchCardinality.ManyToOne else right
    for label in modifier.group_labels or ():
        many = many.add(label, certain=False)
    return many


def _called(call: pq.Call, metric: ShapeOfMetric) -> Shape:
    name = call.func.name
    texts = [each.val for each in call.args if isinstance(each, pq.StringLiteral)]
    vectors = [each for each in call.args if not isinstance(each, pq.StringLiteral) and not is_scalar(each)]
    if name in ("absent", "absent_over_time"):
        return _absent(vectors[0])
    if not vectors:
        return EMPTY
    shape = shape_of(vectors[0], metric)
    if name in ("label_replace", "label_join") and texts:
        return shape.add(texts[0], certain=False)
    return shape.drop(frozenset({"le"})) if name == "histogram_quantile" else shape


def _absent(expr: pq.Expr) -> Shape:
    """Only what the matchers say."""
    inner = bare(expr)
    inner = inner.vector_selector if isinstance(inner, pq.MatrixSelector) else inner
    if not isinstance(inner, pq.VectorSelector):
        return EMPTY
    shape = EMPTY
    for matcher in matchers(inner):
        if matcher.op == pq.MatchOp.Equal and matcher.value and matcher.name != _NAME:
            shape = shape.pin(matcher.name)
    return shape
