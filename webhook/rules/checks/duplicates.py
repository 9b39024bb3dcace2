"""Rules that stand twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from webhook.rules.context import Context
from webhook.rules.document import Rule
from webhook.rules.finding import Finding, Level
from webhook.rules.promql import text_of


def duplicates(rule: Rule, context: Context) -> Iterator[Finding]:
    """Told at the later one, with the first that is alike."""
    earlier = [other for other in takewhile(lambda other: other is not rule, context.rules) if other.kind == rule.kind]
    for other in (other for other in earlier if other.name.text == rule.name.text):
        if _labels(other) == _labels(rule):
            hint = "their series are the same: rename or remove one"
            yield rule.finding("duplicate", rule.name.place, f"stands a second time, first in {_where(other)}", hint)
        elif rule.is_alert:
            hint = "silences and tests go by the name: give each severity one of its own"
            message = f"the name is taken by another rule, in {_where(other)}"
            yield rule.finding("duplicate", rule.name.place, message, hint, Level.WARNING)
        return
    for other in (other for other in earlier if rule.is_alert and _same(rule, other)):
        message = f"asks the same as {other.name.text}, in {_where(other)}"
        hint = "one is enough; severities differ by their thresholds"
        yield rule.finding("duplicate", rule.expr.place, message, hint, Level.WARNING)
        return


def _where(rule: Rule) -> str:
    place = rule.name.place
    return f"{place.file}:{place.line}"


def _labels(rule: Rule) -> dict[str, str]:
    return {name: value.text for name, value in rule.labels.items()}


def _same(rule: Rule, other: Rule) -> bool:
    if rule.parsed is None or other.parsed is None:
        return False
    return text_of(rule.parsed) == text_of(other.parsed)
