"""Metric types: how each is named in the two exposition formats, and which names it takes for itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

MetricType = Literal["gauge", "counter", "histogram", "info", "stateset"]

# What a name of the type ends in; OpenMetrics leaves it off the family's name.
_ENDINGS: Mapping[str, str] = {"counter": "_total", "info": "_info"}
_TAKEN: Mapping[str, tuple[str, ...]] = {
    "counter": ("", "_total", "_created"),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
    "info": ("", "_info"),
}
_TEXT_TYPES: Mapping[str, str] = {"info": "gauge", "stateset": "gauge"}
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN_NAMES = re.compile(
    r"sentinel_(source|exporter)_.*|sentinel_last_update_timestamp|process_.*|python_.*|scrape_.*|up|ALERTS.*"
)


def ending(kind: str) -> str:
    """What the name of a metric of this type must end in; empty for most types."""
    return _ENDINGS.get(kind, "")


def openmetrics_name(name: str, kind: str) -> str:
    """The family's name in OpenMetrics: without the ending that its samples have."""
    return name.removesuffix(ending(kind))


def text_type(kind: str) -> str:
    """The type as the text format, which knows fewer of them, tells it."""
    return _TEXT_TYPES.get(kind, kind)


def taken_names(name: str, kind: str) -> frozenset[str]:
    """Names that no other family may have, since OpenMetrics takes them for samples of this one."""
    stem = openmetrics_name(name, kind)
    return frozenset(stem + suffix for suffix in _TAKEN.get(kind, ("",)))


def metric_name(name: str) -> str:
    """`name` if Prometheus takes it as a metric name and it is free, else ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no metric name: use letters, digits and _, not starting with a digit")
    if reserved(name):
        raise ValueError(f"{name!r} is a name that the exporter or Prometheus uses itself: choose another")
    return name


def reserved(name: str) -> bool:
    """Whether the exporter or Prometheus itself serves metrics of this name."""
    return _OWN_NAMES.fullmatch(name) is not None


def label_name(name: str) -> str:
    """`name` if Prometheus takes it as a label name, else ValueError."""
    if not _NAME.fullmatch(name) or name.startswith("__"):
        raise ValueError(f"{name!r} is no label name: use letters, digits and _, not starting with a digit or __")
    return name
