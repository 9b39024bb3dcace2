"""What every source type shares: its common configuration, one collection's context, and the Collector protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from exporter.cron import Cron, valid_expression, valid_zone
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

if TYPE_CHECKING:  # a start that serves warm data does without Polars
    import polars as pl

_DEFAULT_TIMEOUT = 30.0
_STALE_AFTER_INTERVALS = 5
_STALE_AFTER_CRON_GAPS = 2  # of the longest: one collection of a night or a weekend may be missed


def not_empty(value: object) -> object:
    """Beforehand, because a length check would call a list whose only entry is wrong an empty one."""
    if value == []:
        raise ValueError("is empty: add at least one")
    return value


class SourceConfig(StrictModel):
    """Keys that every source has. Durations are in seconds once loaded."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9_.:-]+$", max_length=200),
        Field(description="Its own name, which the health metrics and the status page use."),
    ]
    type: Annotated[str, Field(description="Where its rows come from.")]
    enabled: bool = Field(default=True, description="Whether it is collected; `test-source` runs it either way.")
    interval: Duration = Field(
        60.0, description="How often it is collected: a number with its unit, such as 30s, 5m or 1h."
    )
    cron: Annotated[str, AfterValidator(valid_expression)] | None = Field(
        None, description="When it is collected, instead of `interval`: minute, hour, day, month, weekday."
    )
    time_zone: Annotated[str, AfterValidator(valid_zone)] = Field("UTC", description="Of `cron`, such as Europe/Paris.")
    timeout: Duration | None = Field(None, description="When a collection is broken off; 30s by default.")
    max_staleness: Duration | None = Field(
        None, description="How long the last good data is served while collecting fails; 5 intervals by default."
    )
    labels: StaticLabels = Field(default_factory=dict, description="Labels that are the same on every sample.")
    label_defaults: StaticLabels = Field(
        default_factory=dict, description="What stands in for an empty or missing value of a label."
    )
    metrics: Annotated[
        tuple[MetricConfig, ...],
        BeforeValidator(not_empty, json_schema_input_type=tuple[MetricConfig, ...]),
        Field(description="The metric families that its columns become.", json_schema_extra={"minItems": 1}),
    ]
    filters: tuple[FilterConfig, ...] = Field((), description="Which rows are kept: those that meet all of these.")
    duplicates: DuplicatePolicy = Field("error", description="What becomes of rows with the same labels.")
    max_rows: Annotated[int, Field(ge=1)] = Field(1_000_000, description="How many rows a collection may have.")
    max_series: Annotated[int, Field(ge=1)] = Field(1_000_000, description="How many series a collection may have.")
    over_budget: OverBudget = Field(
        "reject", description="What becomes of more rows or series than that: refused as a whole, or cut."
    )

    @property
    def run_timeout(self) -> float:
        """Seconds that one collection may take."""
        return self.timeout or _DEFAULT_TIMEOUT

    @property
    def stale_after(self) -> float:
        """Seconds after which data that could not be renewed is no longer served."""
        if self.max_staleness is not None:
            return self.max_staleness
        if self.cron_schedule is None:
            return _STALE_AFTER_INTERVALS * self.interval
        gaps = self.cron_schedule.gaps
        return max(_STALE_AFTER_CRON_GAPS * gaps.longest, _STALE_AFTER_INTERVALS * gaps.shortest)

    @property
    def cron_schedule(self) -> Cron | None:
        """When it is collected, if that is not every `interval`."""
        return None if self.cron is None else Cron(self.cron, self.time_zone)

    @property
    def longest_gap(self) -> float:
        """Seconds between two regular collections, at most."""
        return self.interval if self.cron_schedule is None else self.cron_schedule.gaps.longest

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

    def for_trial(self) -> Self:
        """The same source, read in a way that a running exporter does not notice: what `test-source` runs."""
        return self

    @model_validator(mode="after")
    def _one_schedule(self) -> SourceConfig:
        if self.cron is not None and "interval" in self.model_fields_set:
            raise ValueError("interval and cron stand both: keep the one by which the source is to be collected")
        return self

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
    """Reads one source. `collect` and `published` run in one thread at a time, not always the same; the others in any.

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
