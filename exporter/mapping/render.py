"""One collection's frame to one text per metric family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from exporter.errors import BudgetExceeded, DuplicateSeries, FieldMissing
from exporter.mapping.labels import LabelTexts
from exporter.mapping.numbers import to_numbers, to_text
from exporter.mapping.spec import DataWarning, DuplicatePolicy, MetricConfig, NullPolicy, SeriesSpec

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


def render(frame: pl.DataFrame, spec: SeriesSpec) -> Rendered:
    """Map a frame to exposition text.

    Raises FieldMissing, BadAnswer, DuplicateSeries or BudgetExceeded; then nothing of the frame is used. A frame
    without columns is an empty answer of a source whose fields are not known beforehand, and has no series.
    """
    if not frame.columns:
        return Rendered((), 0, 0, ())
    labels = LabelTexts(frame, spec.labels, spec.label_defaults)
    warnings: list[DataWarning] = []
    families: list[FamilyText] = []
    series = 0
    for metric in spec.metrics:
        text, count = _family(frame, metric, labels, spec.duplicates, warnings)
        series += count
        if series > spec.max_series:
            raise BudgetExceeded(
                f"more than max_series ({spec.max_series}) series, reached at {metric.prometheus_name}"
            )
        families.append(FamilyText(metric.prometheus_name, text, count))
    return Rendered(tuple(families), len(frame), series, (*labels.warnings, *warnings))


def _family(
    frame: pl.DataFrame,
    metric: MetricConfig,
    labels: LabelTexts,
    duplicates: DuplicatePolicy,
    warnings: list[DataWarning],
) -> tuple[bytes, int]:
    if metric.source_field not in frame.columns:
        raise FieldMissing(metric.source_field, frame.columns)
    numbers, refused, found = to_numbers(frame[metric.source_field])
    warnings += found
    label_text, distinct = labels.of(metric.labels)
    keep = _kept(numbers, refused, metric.null)
    if keep is not None:
        numbers, label_text = numbers.filter(keep), label_text.filter(keep)
    if not distinct and label_text.n_unique() < len(label_text):
        if duplicates == "error":
            raise _duplicates(metric.prometheus_name, label_text)
        before = len(label_text)
        label_text, numbers = _merged(label_text, numbers, metric.null, duplicates)
        detail = f"{metric.prometheus_name}: rows with the same labels, policy {duplicates}"
        warnings.append(DataWarning("duplicates_merged", before - len(label_text), detail))
    values = to_text(numbers)
    if metric.null != "skip" and values.null_count():
        values = values.fill_null(_FILL[metric.null])
    return _lines(metric.prometheus_name, label_text, values), len(label_text)


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
