"""What an alert or a trigger was judged by, and how its numbers stand to their thresholds, ready to be shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from webhook.domain.evaluation import COMPARISONS
from webhook.domain.metric import format_threshold, format_value, metric_words
from webhook.web.wording import OPERATORS, compared


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a verdict. `value` is None when the metric was missing, `met` when nobody decided."""

    metric: str
    operator: str
    threshold: Any
    value: Any
    met: bool | None
    owner: str

    @property
    def label(self) -> str:
        return metric_words(self.metric).label

    @property
    def sign(self) -> str:
        return OPERATORS.get(self.operator, self.operator)

    @property
    def numeric(self) -> bool:
        return as_number(self.threshold) is not None

    @property
    def texts(self) -> tuple[str, str]:
        """Value and threshold for people."""
        value, threshold = as_number(self.value), as_number(self.threshold)
        if value is not None and threshold is not None:
            return compared(self.metric, value, threshold)
        return _plain(self.metric, self.value), _plain(self.metric, self.threshold)


def as_number(value: object) -> float | None:
    """A finite number from JSON; not a bool, not text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _plain(metric: str, value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, list):
        return ", ".join(_plain(metric, entry) for entry in value)
    found = as_number(value)
    return str(value) if found is None else format_threshold(metric, found)


def conditions(
    verdict: Mapping[str, Any], metrics: Mapping[str, Any], thresholds: Mapping[str, Any]
) -> list[Condition]:
    """What one trigger was judged by: the merchant's conditions, else the general rule's thresholds."""
    found = verdict.get("conditions")
    entries = [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []
    if not entries:
        return _rule_conditions(metrics, thresholds)
    return [
        Condition(
            metric=str(entry.get("metric", "")),
            operator=str(entry.get("operator", "")),
            threshold=entry.get("threshold"),
            value=entry.get("value"),
            met=entry.get("met") if isinstance(entry.get("met"), bool) else None,
            owner="merchant",
        )
        for entry in entries
    ]


def _rule_conditions(metrics: Mapping[str, Any], thresholds: Mapping[str, Any]) -> list[Condition]:
    """The conditions of a rule that fired, so each is met; how the value stands to its threshold says which way."""
    rule = []
    for metric, threshold in thresholds.items():
        value, limit = as_number(metrics.get(metric)), as_number(threshold)
        if value is not None and limit is not None:
            sign = ">" if value > limit else "<" if value < limit else ">="
            rule.append(Condition(metric, sign, limit, value, met=True, owner="rule"))
    return rule


def annotated_thresholds(annotations: Mapping[str, str]) -> dict[str, float]:
    """The general rule's thresholds, as its annotations `threshold_<metric>` carry them."""
    found = {}
    for name, text in annotations.items():
        if name.startswith("threshold_"):
            with suppress(ValueError):
                found[name.removeprefix("threshold_")] = float(text)
    return found


OWNERS = {"merchant": "merchant's own threshold", "rule": "general rule"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric of an alert against its threshold, where it has one. `fill` and `mark` are 0..100 of a bar."""

    metric: str
    value: float
    threshold: float | None
    operator: str
    owner: str
    met: bool

    @property
    def label(self) -> str:
        return metric_words(self.metric).label

    @property
    def recorded(self) -> bool:
        """Whether there is a history of it to draw."""
        return not metric_words(self.metric).calculated

    @property
    def sign(self) -> str:
        """How the value stands to the threshold: what a reader sees has to be true."""
        if self.threshold is None:
            return ""
        return OPERATORS[self.operator] if self.met else _relation(self.value, self.threshold)

    @property
    def value_text(self) -> str:
        return self._texts[0]

    @property
    def threshold_text(self) -> str:
        return self._texts[1]

    @property
    def _texts(self) -> tuple[str, str]:
        if self.threshold is None:
            return format_value(self.metric, self.value, digits=1), ""
        return compared(self.metric, self.value, self.threshold)

    @property
    def fill(self) -> float:
        return self._part(self.value)

    @property
    def mark(self) -> float:
        return self._part(self.threshold or 0.0)

    def _part(self, value: float) -> float:
        top = max(abs(self.value), abs(self.threshold or 0.0)) * 1.15
        return round(min(100.0, max(0.0, value / top * 100)), 1) if top else 0.0


def _relation(value: float, threshold: float) -> str:
    if value == threshold:
        return "="
    return ">" if value > threshold else "<"


def readings(metrics: Mapping[str, Any], thresholds: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[Reading]:
    """Every metric of an alert, those with a threshold first, the merchant's thresholds before the rule's."""
    limits: dict[str, tuple[float, str, str]] = {}
    for condition in conditions(verdict, {}, {}) + _rule_conditions(metrics, thresholds):
        limit = as_number(condition.threshold)
        if limit is not None and condition.operator in COMPARISONS:
            limits.setdefault(condition.metric, (limit, condition.operator, condition.owner))
    found = []
    for metric, raw in metrics.items():
        value = as_number(raw)
        if value is not None:
            bound, sign, owner = limits.get(metric, (None, "", ""))
            met = bound is not None and COMPARISONS[sign](value, bound)
            found.append(Reading(metric, value, bound, sign, owner, met))
    return sorted(found, key=lambda reading: (reading.threshold is None, reading.owner != "merchant", not reading.met))


def featured(shown: Sequence[Reading]) -> tuple[list[Reading], list[Reading]]:
    """What is told large and what only listed: readings with a threshold, and what a calculated one is made of."""
    large = [reading for reading in shown if reading.threshold is not None] or list(shown[:1])
    if any(not reading.recorded for reading in large):
        large += [reading for reading in shown if reading.recorded and reading not in large]
    return large, [reading for reading in shown if reading not in large]
