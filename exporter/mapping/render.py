"""One collection's frame to one text per metric family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from exporter.errors import BadAnswer, BudgetExceeded, CollectError, DuplicateSeries, FieldMissing
from exporter.mapping.labels import LabelTexts
from exporter.mapping.numbers import to_numbers, to_text
from exporter.mapping.spec import DataWarning, DuplicatePolicy, MetricConfig, NullPolicy, SeriesSpec
from exporter.mapping.table import Table

_FILL: Mapping[NullPolicy, str] = {"nan": "NaN", "zero": "0"}
_FILL_NUMBER: Mapping[NullPolicy, float] = {"nan": float("nan"), "zero": 0}


@dataclass(frozen=True, slots=True)
class FamilyText:
    """Exposition lines of one family from one source, without header; UTF-8, each line ended."""

    name: str
    text: bytes
    series: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a frame became. `series` counts all families."""

    families: tuple[FamilyText, ...]
    rows: int
    series: int
    warnings: tuple[DataWarning, ...]


def render(frame: pl.DataFrame, spec: SeriesSpec, fields: Sequence[str] | None = None) -> Rendered:
    """Map a frame to exposition text. `fields` are all names in the answer, by default those of the frame.

    A metric that cannot be served (FieldMissing, BadAnswer, DuplicateSeries) is left out with a warning; where that
    would leave none, the first one's error is raised. BudgetExceeded is about all of them. A frame without columns of
    an answer whose fields are not known is an empty answer, and has no series.
    """
    if fields is None:
        if not frame.columns:
            return Rendered((), 0, 0, ())
        fields = frame.columns
    table = Table(frame, fields)
    labels = LabelTexts(table, spec.labels, spec.label_defaults)
    warnings: list[DataWarning] = []
    families: list[FamilyText] = []
    lost: list[tuple[MetricConfig, CollectError]] = []
    for metric in spec.metrics:
        try:
            family, found = _family(table, metric, labels, spec.duplicates)
        except (FieldMissing, BadAnswer, DuplicateSeries) as error:
            lost.append((metric, error))
            continue
        families.append(family)
        warnings += found
        _within_budget(families, spec.max_series)
    if not families:
        raise _none_left(lost)
    skipped = (_left_out(metric, error) for metric, error in lost)
    series = sum(family.series for family in families)
    return Rendered(tuple(families), len(frame), series, (*skipped, *labels.warnings, *warnings))


def _within_budget(families: Sequence[FamilyText], most: int) -> None:
    if sum(family.series for family in families) > most:
        raise BudgetExceeded(f"more than max_series ({most}) series, reached at {families[-1].name}")


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


def _family(
    table: Table, metric: MetricConfig, labels: LabelTexts, duplicates: DuplicatePolicy
) -> tuple[FamilyText, list[DataWarning]]:
    name = metric.prometheus_name
    numbers, refused, warnings = to_numbers(table.column(metric.source_field))
    label_text, distinct = labels.of(metric.labels)
    keep = _kept(numbers, refused, metric.null)
    if keep is not None:
        numbers, label_text = numbers.filter(keep), label_text.filter(keep)
    if not distinct and label_text.n_unique() < len(label_text):
        if duplicates == "error":
            raise _duplicates(name, label_text)
        before = len(label_text)
        label_text, numbers = _merged(label_text, numbers, metric.null, duplicates)
        detail = f"{name}: rows with the same labels, policy {duplicates}"
        warnings.append(DataWarning("duplicates_merged", before - len(label_text), detail))
    values = to_text(numbers)
    if metric.null != "skip" and values.null_count():
        values = values.fill_null(_FILL[metric.null])
    return FamilyText(name, _lines(name, label_text, values), len(label_text)), warnings


def _kept(numbers: pl.Series, refused: pl.Series | None, null: NullPolicy) -> pl.Series | None:
    """Mask of the rows that become samples; None for all."""
    if null == "skip":
        return numbers.is_not_null() if numbers.null_count() else None
    return None if refused is None else ~refused


def _duplicates(name: str, label_text: pl.Series) -> DuplicateSeries:
    repeated = label_text.filter(label_text.is_duplicated())
    return DuplicateSeries(
        f"{len(repeated)} rows give {repeated.n_unique()} series of {name} more than once, such as "
        f"{name}{str(repeated[0]).strip()}: make labels differ, aggregate in the query, or set `duplicates`"
    )


def _merged(
    label_text: pl.Series, numbers: pl.Series, null: NullPolicy, policy: DuplicatePolicy
) -> tuple[pl.Series, pl.Series]:
    if null != "skip" and numbers.null_count():
        numbers = numbers.cast(pl.Float64).fill_null(_FILL_NUMBER[null])
    frame = pl.DataFrame({"labels": label_text, "value": numbers})
    if policy in ("first", "last"):
        merged = frame.unique("labels", keep="first" if policy == "first" else "last", maintain_order=True)
    else:
        value = pl.col("value")
        if numbers.dtype.is_integer():
            value = value.cast(pl.Int128)  # 64 bits would overflow unnoticed
        total = value.sum() if policy == "sum" else value.max()
        merged = frame.group_by("labels", maintain_order=True).agg(total)
    return merged["labels"], merged["value"]


def _lines(name: str, label_text: pl.Series, values: pl.Series) -> bytes:
    if not len(values):
        return b""
    line = pl.concat_str(pl.lit(name), pl.lit(label_text), pl.lit(values), pl.lit("\n"))
    return str(pl.select(line.str.join("")).item()).encode()
