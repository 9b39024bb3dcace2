"""What a check knows besides its rule: the metrics there are, and the other rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import promql_parser as pq

from webhook.rules.document import Rule
from webhook.rules.finding import Finding
from webhook.rules.known import Metrics
from webhook.rules.promql import matchers, metric_name, replaced, selectors, text_of
from webhook.rules.shapes import Shape, shape_of


@dataclass(frozen=True)
class Context:
    """`rules` are all rules that Prometheus would have, of every file."""

    metrics: Metrics
    rules: Sequence[Rule]

    @cached_property
    def recorded(self) -> Mapping[str, Rule]:
        """The first recording rule of each name."""
        found: dict[str, Rule] = {}
        for rule in self.rules:
            if not rule.is_alert:
                found.setdefault(rule.name.text, rule)
        return found

    def shape(self, expr: pq.Expr, seen: frozenset[str] = frozenset()) -> Shape:
        def of_metric(name: str) -> Shape:
            rule = self.recorded.get(name)
            if rule is None or rule.parsed is None or name in seen:
                metric = self.metrics.get(name)
                return Shape(metric.labels) if metric and metric.labels else Shape()
            shape = self.shape(rule.parsed, seen | {name})
            for label in rule.labels:
                shape = shape.pin(label)
            return shape

        return shape_of(expr, of_metric)

    def expanded(self, expr: pq.Expr, seen: frozenset[str] = frozenset()) -> pq.Expr:
        """With the expressions of recording rules instead of their names, where they are read without matchers.

        A rule that reads itself, over others too, stays a name at the second time.
        """

        def new(selector: pq.VectorSelector, reach: timedelta | None) -> pq.Expr | None:
            name = selector.name or ""
            rule = self.recorded.get(name) if name not in seen and not matchers(selector) else None
            if rule is None or rule.parsed is None or rule.labels or selector.at or (selector.offset and reach is None):
                return None
            inner = self.expanded(rule.parsed, seen | {name}).prettify()
            if reach is None:
                return pq.parse(f"({inner})")
            offset = f" offset {pq.display_duration(selector.offset)}" if selector.offset else ""
            return pq.parse(f"({inner})[{pq.display_duration(reach)}:]{offset}")

        return replaced(expr, new)

    def text(self, expr: pq.Expr) -> str:
        """The same for expressions that mean the same."""
        return text_of(self.expanded(expr))

    def metrics_of(self, expr: pq.Expr) -> set[str]:
        """Names at the bottom of recording rules."""
        return {name for each in selectors(self.expanded(expr)) if (name := metric_name(each))} - set(self.recorded)

    def type_of(self, name: str) -> str | None:
        """None where it is not known."""
        rule, metric = self.recorded.get(name), self.metrics.get(name)
        if rule is None:
            return metric.type if metric else None
        kinds = {self.type_of(each) for each in self.metrics_of(rule.parsed)} if rule.parsed is not None else {None}
        return "gauge" if kinds == {"gauge"} else None


Check = Callable[[Rule, Context], Iterator[Finding]]
