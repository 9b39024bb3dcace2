"""Looking at PromQL through the tree of promql_parser, which knows no positions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import promql_parser as pq

COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")
SETS = ("and", "or", "unless")

_HIDDEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`|\#[^\n]*|\{[^{}]*\}|\[[^\[\]]*\]', re.DOTALL)


def masked(text: str) -> str:
    """Of the same length, with blanks instead of strings, comments, matchers and ranges."""
    return _HIDDEN.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def children(expr: pq.Expr) -> list[pq.Expr]:
    """In the order of the text."""
    match expr:
        case pq.BinaryExpr():
            return [expr.lhs, expr.rhs]
        case pq.Call():
            return list(expr.args)
        case pq.MatrixSelector():
            return [expr.vector_selector]
        case pq.AggregateExpr():
            return [*([expr.param] if isinstance(expr.param, pq.Expr) else []), expr.expr]
        case pq.ParenExpr() | pq.UnaryExpr() | pq.SubqueryExpr():
            return [expr.expr]
    return []


def walk(expr: pq.Expr) -> Iterator[pq.Expr]:
    """Each part, itself first; operands from left to right."""
    yield expr
    for child in children(expr):
        yield from walk(child)


def operators(expr: pq.Expr) -> Iterator[pq.BinaryExpr]:
    """In the order of the text."""
    if isinstance(expr, pq.BinaryExpr):
        yield from operators(expr.lhs)
        yield expr
        yield from operators(expr.rhs)
        return
    for child in children(expr):
        yield from operators(child)


def selectors(expr: pq.Expr) -> Iterator[pq.VectorSelector]:
    return (part for part in walk(expr) if isinstance(part, pq.VectorSelector))


def operator(expr: pq.BinaryExpr) -> str:
    return str(expr.op)


def bare(expr: pq.Expr) -> pq.Expr:
    """Without parentheses around it."""
    while isinstance(expr, pq.ParenExpr):
        expr = expr.expr
    return expr


def is_scalar(expr: pq.Expr) -> bool:
    match bare(expr):
        case pq.NumberLiteral():
            return True
        case pq.UnaryExpr(expr=inner):
            return is_scalar(inner)
        case pq.Call() as call:
            return bool(call.func.return_type == pq.ValueType.Scalar)
        case pq.BinaryExpr() as both:
            return is_scalar(both.lhs) and is_scalar(both.rhs)
    return False


def is_comparison(expr: pq.Expr) -> bool:
    """One that filters: with `bool` it does not."""
    return isinstance(expr, pq.BinaryExpr) and operator(expr) in COMPARISONS and not is_bool(expr)


def is_bool(expr: pq.BinaryExpr) -> bool:
    return expr.modifier.return_bool if expr.modifier else False


def matchers(selector: pq.VectorSelector) -> Sequence[pq.Matcher]:
    return [*selector.matchers.matchers, *(each for group in selector.matchers.or_matchers for each in group)]


def metric_name(selector: pq.VectorSelector) -> str | None:
    """None where it is chosen by a pattern, or not at all."""
    if selector.name:
        return selector.name
    named = [m.value for m in matchers(selector) if m.name == "__name__" and m.op == pq.MatchOp.Equal]
    return named[0] if named else None


def number(expr: pq.Expr) -> float | None:
    inner = bare(expr)
    return inner.val if isinstance(inner, pq.NumberLiteral) else None


def comparisons(expr: pq.Expr) -> Iterator[pq.BinaryExpr]:
    """Those joined by set operators; neither inside functions nor inside operands."""
    expr = bare(expr)
    if isinstance(expr, pq.BinaryExpr) and operator(expr) in SETS:
        yield from comparisons(expr.lhs)
        yield from comparisons(expr.rhs)
    elif is_comparison(expr):
        assert isinstance(expr, pq.BinaryExpr)
        yield expr


def text_of(expr: pq.Expr) -> str:
    """The same for expressions that differ in blanks and needless parentheses around them only."""
    return " ".join(bare(expr).prettify().split())


def replaced(expr: pq.Expr, new: Callable[[pq.VectorSelector, timedelta | None], pq.Expr | None]) -> pq.Expr:
    """With `new(selector, range)` instead of each selector; range is None for one without, None as answer keeps it."""
    ranged = False

    def before(part: pq.Expr) -> None:
        nonlocal ranged
        ranged = ranged or isinstance(part, pq.MatrixSelector)

    def after(part: pq.Expr) -> pq.Expr | None:
        nonlocal ranged
        if isinstance(part, pq.MatrixSelector):
            ranged = False
            return new(part.vector_selector, part.range)
        return new(part, None) if isinstance(part, pq.VectorSelector) and not ranged else None

    return pq.transform(expr, before, after)
