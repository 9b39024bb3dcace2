"""One collection's frame to one text per metric family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from exporter.errors import BadAnswer, BudgetExceeded, CollectError, DuplicateSeries, FieldMissing
from exporter.mapping.filters import filtered
from exporter.mapping.labels import LabelTexts
from exporter.mapping.metric_types import samples_of
from exporter.mapping.samples import Samples, cut
from exporter.mapping.spec import DataWarning, MetricConfig, SeriesSpec
from exporter.mapping.table import Table


@dataclass(frozen=True, slots=True)
class FamilyText:
    """Exposition lines of one family from one source, without header; UTF-8, each line ended.

    They are made while they are read: together with what they are made of they would take twice the memory.
    """

    samples: Samples

    @property
    def name(self) -> str:
        return self.samples.name

    @property
    def series(self) -> int:
        return self.samples.series

    def pieces(self) -> Iterator[bytes]:
        """The text, some lines at a time."""
        return self.samples.pieces()

    @property
    def text(self) -> bytes:
        return b"".join(self.pieces())


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a frame became. `rows` are those that the filters keep; `series` counts all families."""

    families: list[FamilyText]
    rows: int
    series: int
    warnings: tuple[DataWarning, ...]

    def texts(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Name and text of each family, read in this order and once: what it is made of is let go meanwhile."""
        while self.families:
            family = self.families.pop(0)
            name, pieces = family.name, family.pieces()
            del family
            yield name, pieces


def render(frame: pl.DataFrame, spec: SeriesSpec, fields: Sequence[str] | None = None) -> Rendered:
    """Map a frame to exposition text. `fields` are all names in the answer, by default those of the frame.

    A metric that cannot be served (FieldMissing, BadAnswer, DuplicateSeries) is left out with a warning; where that
    would leave none, the first one's error is raised. BudgetExceeded and a filter's error are about all of them. A
    frame without columns of an answer whose fields are not known is an empty answer, and has no series.
    """
    if fields is None:
        if not frame.columns:
            return Rendered([], 0, 0, ())
        fields = frame.columns
    table, warnings = filtered(Table(frame, fields), spec.filters)
    labels = LabelTexts(table, spec.labels, spec.label_defaults)
    served: list[Samples] = []
    lost: list[tuple[MetricConfig, CollectError]] = []
    for metric in spec.metrics:
        try:
            samples, found = samples_of(table, metric, labels, spec.duplicates)
        except (FieldMissing, BadAnswer, DuplicateSeries) as error:
            lost.append((metric, error))
            continue
        served.append(samples)
        warnings += found
    if not served:
        raise _none_left(lost)
    served, over = _within_budget(served, spec)
    skipped = (_left_out(metric, error) for metric, error in lost)
    told = (*skipped, *labels.warnings, *warnings, *over)
    families = list(map(FamilyText, served))
    return Rendered(families, len(table.frame), sum(family.series for family in families), told)


def _within_budget(served: list[Samples], spec: SeriesSpec) -> tuple[list[Samples], list[DataWarning]]:
    """All samples; or, of more than `max_series`, those of the first rows, with a warning. BudgetExceeded otherwise."""
    most, count = spec.max_series, sum(samples.series for samples in served)
    if count <= most:
        return served, []
    if spec.over_budget == "reject":
        raise BudgetExceeded(f"{count} series are more than max_series ({most}): raise it, or ask for fewer")
    served = cut(served, most)
    left = count - sum(samples.series for samples in served)
    detail = f"{left} of {count} series are left out (max_series {most}): only the first rows are served"
    return served, [DataWarning("series_truncated", left, detail)]


def _left_out(metric: MetricConfig, error: CollectError) -> DataWarning:
    name = metric.prometheus_name
    return DataWarning(error.reason, 1, f"{name} is left out: {error}", metric=name)


def _none_left(lost: Sequence[tuple[MetricConfig, CollectError]]) -> CollectError:
    """The first metric's error, which names the others too."""
    (_, error), *others = lost
    if others:
        names = ", ".join(f"{metric.prometheus_name} ({why.reason})" for metric, why in others)
        error.args = (f"{error} Nothing is left, for these cannot be served either: {names}.",)
    return error
