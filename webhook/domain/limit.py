"""On which side of its threshold a metric is alarming, and how that is told."""

from __future__ import annotations

from collections.abc import Mapping

from webhook.domain.evaluation import COMPARISONS, MerchantConfig
from webhook.domain.metric import format_threshold

RISING = ">"
_FALLING = ("<", "<=")


def falls(operator: str) -> bool:
    """Whether low values are the alarming ones."""
    return operator in _FALLING


def is_reached(operator: str, value: float, threshold: float) -> bool:
    return bool(COMPARISONS.get(operator, COMPARISONS[RISING])(value, threshold))


def threshold_words(metric: str, operator: str, threshold: float) -> str:
    """`threshold 20 %`, `alert below 9,900`."""
    words = {"<": "alert below {}", "<=": "alert at {} or less", "==": "alert at {}", "!=": "alert if not {}"}
    return words.get(operator, "threshold {}").format(format_threshold(metric, threshold))


def operators(
    metrics: Mapping[str, float], thresholds: Mapping[str, float], config: MerchantConfig | None
) -> dict[str, str]:
    """By metric: the merchant's own; of a rule that fired the side on which its value stands to the threshold."""
    rule = {name: "<" if metrics[name] < limit else RISING for name, limit in thresholds.items() if name in metrics}
    return rule | (config.operators() if config is not None else {})
