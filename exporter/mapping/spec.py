"""How a source's columns become samples: the `metrics` part of a source, and the policies beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from exporter.model import StrictModel, Text

NullPolicy = Literal["skip", "nan", "zero"]
OverBudget = Literal["reject", "truncate"]
DuplicatePolicy = Literal["error", "first", "last", "sum", "max"]

_METRIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN_NAMES = re.compile(
    r"sentinel_(source|exporter)_.*|sentinel_last_update_timestamp|process_.*|python_.*|scrape_.*|up|ALERTS.*"
)


def _metric_name(name: str) -> str:
    if not _METRIC_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no metric name: use letters, digits and _, not starting with a digit")
    if _OWN_NAMES.fullmatch(name):
        raise ValueError(f"{name!r} is a name that the exporter or Prometheus uses itself: choose another")
    return name


def label_name(name: str) -> str:
    """`name` if Prometheus takes it as a label name, else ValueError."""
    if not _METRIC_NAME.fullmatch(name) or name.startswith("__"):
        raise ValueError(f"{name!r} is no label name: use letters, digits and _, not starting with a digit or __")
    return name


def _label_columns(value: object) -> object:
    """A list of columns, named as their labels, as a mapping from label to column."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(name, str) for name in value):
        raise ValueError("lists column names, or maps each label to its column")
    repeated = sorted({name for name in value if value.count(name) > 1})
    if repeated:
        raise ValueError(f"names {', '.join(repeated)} twice: name each label once")
    return {name: name for name in value}


LabelName = Annotated[str, AfterValidator(label_name)]
LabelColumns = Annotated[dict[LabelName, Text], BeforeValidator(_label_columns)]
StaticLabels = dict[LabelName, Text]


class MetricConfig(StrictModel):
    """One metric family fed from one column."""

    source_field: str = Field(min_length=1)
    prometheus_name: Annotated[str, AfterValidator(_metric_name)]
    type: Literal["gauge"] = "gauge"
    labels: LabelColumns = Field(default_factory=dict)
    help: str | None = None
    null: NullPolicy = "skip"


@dataclass(frozen=True, slots=True)
class SeriesSpec:
    """All that the mapping needs to know of a source. `labels` are static, `label_defaults` replace null and empty."""

    metrics: tuple[MetricConfig, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    label_defaults: Mapping[str, str] = field(default_factory=dict)
    duplicates: DuplicatePolicy = "error"
    max_series: int = 1_000_000


@dataclass(frozen=True, slots=True)
class DataWarning:
    """Something in the data that was left out or changed: how often, and one example.

    `metric` is the family that is left out as a whole, if one is.
    """

    reason: str
    count: int
    detail: str
    metric: str | None = None
