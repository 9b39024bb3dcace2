"""What every source type shares: its common configuration, one collection's context, and the Collector protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Annotated, Any, Literal, Protocol

import polars as pl
from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from exporter.environment import Secrets
from exporter.errors import BudgetExceeded, TimedOut
from exporter.mapping.spec import (
    DataWarning,
    DuplicatePolicy,
    FilterConfig,
    MetricConfig,
    OverBudget,
    SeriesSpec,
    StaticLabels,
)
from exporter.model import Duration, StrictModel

_DEFAULT_TIMEOUT = 30.0
_STALE_AFTER_INTERVALS = 5


def _not_empty(value: object) -> object:
    """Beforehand, because a length check would call a list whose only entry is wrong an empty one."""
    if value == []:
        raise ValueError("is empty: add at least one")
    return value


class SourceConfig(StrictModel):
    """Keys that every source has. Durations are in seconds once loaded."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]+$", max_length=200)]
    type: str
    enabled: bool = True
    interval: Duration = 60.0
    timeout: Duration | None = None
    max_staleness: Duration | None = None
    labels: StaticLabels = Field(default_factory=dict)
    label_defaults: StaticLabels = Field(default_factory=dict)
    metrics: Annotated[tuple[MetricConfig, ...], BeforeValidator(_not_empty)]
    filters: tuple[FilterConfig, ...] = ()
    duplicates: DuplicatePolicy = "error"
    max_rows: Annotated[int, Field(ge=1)] = 1_000_000
    max_series: Annotated[int, Field(ge=1)] = 1_000_000
    over_budget: OverBudget = "reject"

    @property
    def run_timeout(self) -> float:
        """Seconds that one collection may take."""
        return self.timeout or _DEFAULT_TIMEOUT

    @property
    def stale_after(self) -> float:
        """Seconds after which data that could not be renewed is no longer served."""
        return self.max_staleness or _STALE_AFTER_INTERVALS * self.interval

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a metric reads, as value or as label, or that a filter reads, each once."""
        labels = (column for metric in self.metrics for column in metric.labels.values())
        return tuple(dict.fromkeys([*self.values, *labels, *(condition.field for condition in self.filters)]))

    @property
    def values(self) -> tuple[str, ...]:
        """Every column that a metric reads as a value."""
        return tuple(dict.fromkeys(column for metric in self.metrics for column in metric.value_columns))

    @property
    def series(self) -> SeriesSpec:
        return SeriesSpec(
            self.metrics,
            self.labels,
            self.label_defaults,
            self.duplicates,
            self.max_series,
            self.over_budget,
            self.filters,
        )

    def needs(self) -> tuple[str, ...]:
        """Names of the environment variables that a collection reads; told by `check` when they are not set."""
        return ()

    @model_validator(mode="after")
    def _names_agree(self) -> SourceConfig:
        names = [metric.prometheus_name for metric in self.metrics]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"metric {', '.join(repeated)} stands twice in this source: name each once")
        for metric in self.metrics:
            both = sorted(self.labels.keys() & metric.labels.keys())
            if both:
                raise ValueError(f"label {', '.join(both)} is both static and in {metric.prometheus_name}: remove one")
            if metric.extra_label in self.labels:
                own = f"which {metric.prometheus_name} of type {metric.type} has itself"
                raise ValueError(f"label {metric.extra_label} is static, {own}: give it another name")
        unknown = sorted(self.label_defaults.keys() - {name for metric in self.metrics for name in metric.labels})
        if unknown:
            raise ValueError(f"label_defaults names {', '.join(unknown)}, which is no label of this source's metrics")
        return self


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure about a collection itself, such as bytes billed or lag; served as `sentinel_source_<name>`.

    `name` ends in its unit, without `_total`. A counter's value is what this collection adds, a gauge's is its state.
    The label `source` is added to `labels`.
    """

    name: str
    help: str
    value: float
    kind: Literal["gauge", "counter"] = "gauge"
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Collection:
    """One run of one source. `now` is aware; `deadline` is on the clock that `clock` reads, in seconds.

    A collector says in `fields` the names of all fields of the answer; None if it has no row that would tell.

    A collector that can tell whether its data changed says in `version` which one it returns (an ETag, a file's
    generation). `served` is the version of what is served now, None when nothing is or when it had none: only of that
    version may `collect` say that it is unchanged. `last_success` is when the run that is served began, None at first.
    """

    now: datetime
    deadline: float
    secrets: Secrets = field(default_factory=Secrets)
    warnings: list[DataWarning] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    fields: Sequence[str] | None = None
    served: object | None = None
    version: object | None = None
    last_success: datetime | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = monotonic

    def remaining(self) -> float:
        """Seconds left, more than 0; TimedOut when there are none or the run was cancelled."""
        left = self.deadline - self.clock()
        if left <= 0 or self.cancelled.is_set():
            raise TimedOut("the source's timeout passed before its answer was complete")
        return left

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until the run is cancelled."""
        self.cancelled.wait(seconds)

    def warn(self, reason: str, count: int, detail: str) -> None:
        if count:
            self.warnings.append(DataWarning(reason, count, detail))


def within_max_rows(config: SourceConfig, count: int, collection: Collection) -> int:
    """How many of `count` rows to take: BudgetExceeded, or a warning about those left out, beyond `max_rows`.

    A collector that stops reading early may give any count above `max_rows`.
    """
    if count <= config.max_rows:
        return count
    if config.over_budget == "reject":
        raise BudgetExceeded(f"more than max_rows ({config.max_rows}) rows: raise it, or ask for fewer")
    collection.warn("rows_truncated", 1, f"only the first {config.max_rows} rows are taken (max_rows)")
    return config.max_rows


class Collector(Protocol):
    """Reads one source. `collect` and `published` run in the source's own thread, the others in any.

    Collectors derive from this class, so that they need not write what does nothing for them.
    """

    def __init__(self, config: Any) -> None: ...  # noqa: ANN401 - each type has its own configuration model

    def collect(self, collection: Collection) -> pl.DataFrame | None:
        """The source's rows, those columns its metrics read that the answer has. Raises CollectError.

        None when the source still has the version `collection.served`, so that what is served is as good as new.
        """

    def cancel(self) -> None:
        """Make a running `collect` end soon, whatever it waits for; harmless when none runs."""

    def published(self) -> None:
        """What `collect` returned last is being served now."""

    def close(self) -> None:
        """Let go of connections and threads: the source is not collected any more. Called once, after `cancel`."""
