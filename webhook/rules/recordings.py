"""Expressions whose recording rules Prometheus has not recorded: those rules' expressions stand in for their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import promql_parser as pq

from webhook.rules.document import Rule
from webhook.rules.promql import matchers, metric_name, replaced, selectors


class CannotComputeError(Exception):
    """What is read of a recording rule cannot be computed from its expression; the text says why."""


class Recordings:
    """`kept(rule)` says whether what Prometheus has recorded is what this rule would have."""

    def __init__(self, rules: Mapping[str, Rule], kept: Callable[[Rule], bool], interval: float) -> None:
        self._rules = rules
        self._kept = kept
        self._default = interval
        self.computed: dict[str, None] = {}

    def substituted(self, expr: pq.Expr, seen: tuple[str, ...] = ()) -> pq.Expr:
        """Raise CannotComputeError."""
        missing = {name for each in selectors(expr) if (name := metric_name(each)) and self._missing(name)}
        for name in sorted(missing):
            if name in seen:
                way = " → ".join((*seen[seen.index(name) :], name))
                raise CannotComputeError(
                    f"it reads itself ({way}), so its values depend on when it began: record it first"
                )

        def new(selector: pq.VectorSelector, reach: timedelta | None) -> pq.Expr | None:
            name = metric_name(selector)
            if name not in missing:
                return None
            if matchers(selector) or selector.at:
                raise CannotComputeError(
                    f"it reads {name} with label matchers or @, and {name} is not recorded yet: record it first"
                )
            self.computed[name] = None
            return self._instead(self._rules[name], selector, reach, (*seen, name))

        return replaced(expr, new) if missing else expr

    def _missing(self, name: str) -> bool:
        return name in self._rules and not self._kept(self._rules[name])

    def _instead(
        self, rule: Rule, selector: pq.VectorSelector, reach: timedelta | None, seen: tuple[str, ...]
    ) -> pq.Expr:
        if rule.parsed is None:
            raise CannotComputeError(f"the expression of {rule.name.text} cannot be read")
        text = f"({self.substituted(rule.parsed, seen).prettify()})"
        for label, value in rule.labels.items():
            text = f"label_replace({text}, {_quoted(label)}, {_quoted(value.text)}, {_quoted('')}, {_quoted('')})"
        every = _written(timedelta(seconds=rule.group.interval or self._default))
        offset = f" offset {_written(selector.offset)}" if selector.offset else ""
        if reach is not None:
            return pq.parse(f"({text})[{_written(reach)}:{every}]{offset}")
        return pq.parse(f"last_over_time(({text})[{every}:{every}]{offset})" if offset else text)


def _written(duration: timedelta) -> str:
    milliseconds = round(duration / timedelta(milliseconds=1))
    return f"-{-milliseconds}ms" if milliseconds < 0 else f"{milliseconds}ms"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
