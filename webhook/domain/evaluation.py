"""The merchant's own thresholds, applied to one trigger.

A condition whose metric is missing or whose text cannot be judged is undetermined, and `all`/`any` are three-valued:
what stays undetermined passes and says which metric is missing, because a gap in the data must not hide an attack.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeGuard

from webhook.domain.patterns import matches

NO_CONFIGURATION = "no merchant configuration: the rule decides"
DISABLED = "disabled"

_LONGEST_NUMBER = 64
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
OPERATORS = (*COMPARISONS, "in", "not_in", "contains", "regex")

_MOST_JUDGED = 1000


@dataclass(frozen=True, slots=True)
class Condition:
    """`metric_name operator threshold`; lower `priority` is judged, and shown, first.

    `threshold` is a number, a list for `in` and `not_in`, text for `contains` and `regex`. A name that is no
    metric is looked up among the labels, so `region in [AP, EU]` works too. A text that is a number compares as that
    number: labels are always texts. `time_window` is for people: the window is the rule's. `judged` remembers what
    texts came to: labels have few values, and a long list takes a while.
    """

    metric_name: str
    operator: str
    threshold: Any
    priority: int = 0
    time_window: str = ""
    compare: Callable[[float, Any], bool] | None = field(init=False, repr=False, compare=False)
    judged: dict[str, bool | None] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Look the comparison up once: nearly all conditions compare a number with a number."""
        compare = COMPARISONS.get(self.operator) if _is_number(self.threshold) else None
        object.__setattr__(self, "compare", compare)


@dataclass(frozen=True, slots=True)
class MerchantConfig:
    """What one merchant wants to hear about one alert type."""

    account_id: str
    alert_type: str
    enabled: bool = True
    logic: Literal["all", "any"] = "all"
    conditions: tuple[Condition, ...] = ()
    version: int = 1
    channel_preferences: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notification_settings: Mapping[str, Any] = field(default_factory=dict)
    inactive: tuple[Condition, ...] = ()  # kept for their merchant, never judged

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.conditions, key=lambda condition: condition.priority))
        object.__setattr__(self, "conditions", ordered)
        kept = tuple(sorted(self.inactive, key=lambda condition: condition.priority))
        object.__setattr__(self, "inactive", kept)

    def thresholds(self) -> dict[str, float]:
        """The merchant's own numeric thresholds by metric name."""
        return {c.metric_name: float(c.threshold) for c in reversed(self.conditions) if _is_number(c.threshold)}

    def operators(self) -> dict[str, str]:
        """How each metric with such a threshold is compared."""
        return {c.metric_name: c.operator for c in reversed(self.conditions) if _is_number(c.threshold)}


class ConditionResult(NamedTuple):
    """One condition judged; `met` is None where it could not be."""

    metric: str
    value: float | str | None
    operator: str
    threshold: Any
    met: bool | None


Judged = tuple[Condition, float | str | None, bool | None]
"""A condition with the value it was judged by and whether it is met, cheap to make for every trigger."""


class Verdict(NamedTuple):
    """Whether a trigger passes, why, and on which version of the merchant's configuration (None: there is none)."""

    passed: bool
    reason: str
    judged: tuple[Judged, ...] = ()
    config_version: int | None = None

    @property
    def conditions(self) -> tuple[ConditionResult, ...]:
        return tuple(
            ConditionResult(condition.metric_name, value, condition.operator, condition.threshold, met)
            for condition, value, met in self.judged
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "reason": self.reason,
            "conditions": [result._asdict() for result in self.conditions],
            "config_version": self.config_version,
        }


_NO_LABELS: Mapping[str, str] = {}
NOT_JUDGED = Verdict(passed=True, reason="the end of a firing is not judged")
_COARSE = Verdict(passed=True, reason=NO_CONFIGURATION)


def evaluate(
    config: MerchantConfig | None, metrics: Mapping[str, float], labels: Mapping[str, str] = _NO_LABELS
) -> Verdict:
    """Judge full-precision `metrics` (and `labels`, for conditions on text) by the merchant's configuration."""
    if config is None:
        return _COARSE
    if not config.enabled:
        return Verdict(False, DISABLED, (), config.version)
    if not config.conditions:
        return Verdict(True, "no conditions configured: the rule decides", (), config.version)
    judged = tuple(
        [
            (condition, value, condition.compare(value, condition.threshold))
            if condition.compare is not None and (value := metrics.get(condition.metric_name)) is not None
            else _judge(condition, metrics, labels)
            for condition in config.conditions
        ]
    )
    return conclude(config.logic, judged, config.version)


def met_by(config: MerchantConfig, metrics: Mapping[str, float], labels: Mapping[str, str] = _NO_LABELS) -> bool | None:
    """What `evaluate` judges by, without its words: None where it is undetermined, and then passes."""
    if not config.enabled or not config.conditions:
        return config.enabled
    decisive, undetermined = config.logic == "any", False
    for condition in config.conditions:
        value, compare = metrics.get(condition.metric_name), condition.compare
        if value is not None and compare is not None:
            met: bool | None = compare(value, condition.threshold)
        else:
            met = _judge(condition, metrics, labels)[2]
        if met is decisive:
            return decisive
        undetermined = undetermined or met is None
    return None if undetermined else not decisive


def conclude(logic: str, judged: tuple[Judged, ...], version: int | None = None) -> Verdict:
    """The verdict that judged conditions come to."""
    met = _combine(logic, judged)
    return Verdict(met is not False, _reason(met, judged), judged, version)


def _judge(condition: Condition, metrics: Mapping[str, float], labels: Mapping[str, str]) -> Judged:
    """What is no metric compared with a number."""
    value = metrics.get(condition.metric_name)
    text = labels.get(condition.metric_name) if value is None else value
    return condition, text, None if text is None else _known_met(condition, text)


def _known_met(condition: Condition, value: float | str) -> bool | None:
    known = condition.judged
    if isinstance(value, str) and value in known:
        return known.get(value)
    met = _other_met(condition.operator, value, condition.threshold)
    if isinstance(value, str) and len(known) < _MOST_JUDGED:
        known[value] = met
    return met


def _other_met(symbol: str, value: float | str, threshold: Any) -> bool | None:  # noqa: ANN401 - number, text or list
    """None where they cannot be compared."""
    if symbol in COMPARISONS:
        return _compared(COMPARISONS[symbol], value, threshold)
    if symbol in ("in", "not_in"):
        found = _is_among(value, threshold) if isinstance(threshold, list) else None
        return None if found is None else found == (symbol == "in")
    if symbol == "contains":
        return _shown(threshold) in _shown(value)
    return matches(_shown(threshold), _shown(value)) if symbol == "regex" else None


def _compared(compare: Callable[[Any, Any], bool], value: float | str, threshold: Any) -> bool | None:  # noqa: ANN401
    """As numbers where both are, else as texts where both are; None for a text and a number."""
    left, right = number_of(value), number_of(threshold)
    if left is not None and right is not None:
        return compare(left, right)
    return compare(value, threshold) if isinstance(value, str) and isinstance(threshold, str) else None


def _is_among(value: float | str, items: list[Any]) -> bool | None:
    """None where it equals none, but could not be compared with each."""
    if value in items:
        return True
    equal = {_compared(operator.eq, value, item) for item in items}
    return True if True in equal else None if None in equal else False


def number_of(value: object) -> float | None:
    """A number, or a text that is one as people write it: `5411`, `0.30`, `1e3`; no code such as `007`."""
    if isinstance(value, str):
        if len(value) > _LONGEST_NUMBER or not _NUMBER.fullmatch(value):
            return None
        number = int(value) if value.lstrip("+-").isdigit() else float(value)
        return number if math.isfinite(number) else None
    return value if _is_number(value) else None


def _shown(value: object) -> str:
    """A number as people write it: 5, not 5.0."""
    return repr(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _combine(logic: str, judged: tuple[Judged, ...]) -> bool | None:
    decisive = logic == "any"  # one met condition decides `any`, one that is not met decides `all`
    undetermined = False
    for _, _, met in judged:
        if met is decisive:
            return decisive
        undetermined = undetermined or met is None
    return None if undetermined else not decisive


def _reason(met: bool | None, judged: tuple[Judged, ...]) -> str:
    if met:
        return "conditions met"
    if met is None:
        names = ", ".join(dict.fromkeys(condition.metric_name for condition, _, known in judged if known is None))
        return f"undetermined, so it passes: no usable value for {names}"
    failed = [f"{c.metric_name} {value} is not {c.operator} {c.threshold}" for c, value, ok in judged if ok is False]
    return "conditions not met: " + ", ".join(failed)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
