"""From a table to one metric's samples: a builder for each metric type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from exporter.mapping.convert import Numbers, convert
from exporter.mapping.histogram import read_histogram
from exporter.mapping.labels import LabelTexts, escape
from exporter.mapping.plain_text import plain_text
from exporter.mapping.samples import Line, Samples
from exporter.mapping.spec import DataWarning, DuplicatePolicy, MetricConfig, NullPolicy
from exporter.mapping.table import Table

_VALUE = (Line(),)


@dataclass(frozen=True, slots=True)
class Rows:
    """What each row of a table becomes: a number for each line. `keep` masks rows that become samples; None for all."""

    lines: tuple[Line, ...]
    values: tuple[pl.Series, ...]
    keep: pl.Series | None = None
    warnings: tuple[DataWarning, ...] = ()


def samples_of(
    table: Table, metric: MetricConfig, labels: LabelTexts, duplicates: DuplicatePolicy
) -> tuple[Samples, list[DataWarning]]:
    """One metric's samples. FieldMissing, BadAnswer or DuplicateSeries where it cannot be served."""
    rows = _BUILDERS[metric.type](table, metric, labels)
    text, distinct = labels.of(metric.labels)
    samples = Samples(metric.prometheus_name, text, rows.lines, rows.values)
    if rows.keep is not None and not rows.keep.all():
        samples = samples.kept(rows.keep)
    warnings = list(rows.warnings)
    repeated = 0 if distinct else samples.duplicates()
    if repeated:
        samples = samples.merged(_policy(metric, duplicates))
        if metric.type != "info":
            detail = f"{metric.prometheus_name}: rows with the same labels, policy {duplicates}"
            warnings.append(DataWarning("duplicates_merged", repeated, detail))
    return samples, warnings


def _policy(metric: MetricConfig, policy: DuplicatePolicy) -> DuplicatePolicy:
    """An info says the same each time; of a state set, each state that any of the rows has holds."""
    if metric.type == "info":
        return "first"
    return "max" if metric.type == "stateset" and policy == "sum" else policy


def _gauge(table: Table, metric: MetricConfig, _: LabelTexts) -> Rows:
    numbers = convert(table.column(_source(metric)), metric.conversion)
    return Rows(_VALUE, (_filled(numbers.values, metric.null),), _kept(numbers, metric.null), numbers.warnings)


def _counter(table: Table, metric: MetricConfig, _: LabelTexts) -> Rows:
    numbers = convert(table.column(_source(metric)), metric.conversion)
    values = _filled(numbers.values, metric.null)
    keep, warnings = _kept(numbers, metric.null), list(numbers.warnings)
    bad = (values < 0).fill_null(value=False)
    if values.dtype.is_float():
        bad |= values.is_nan().fill_null(value=False)
    if bad.any():
        detail = f"field {metric.source_field}: {values.filter(bad)[0]} is no running total; a counter is 0 or more"
        warnings.append(DataWarning("bad_counter", int(bad.sum()), detail))
        keep = ~bad if keep is None else keep & ~bad
    return Rows(_VALUE, (values,), keep, tuple(warnings))


def _info(table: Table, *_: object) -> Rows:
    return Rows(_VALUE, (pl.repeat(1, len(table.frame), dtype=pl.Int8, eager=True),))


def _stateset(table: Table, metric: MetricConfig, _: LabelTexts) -> Rows:
    """Each state is a sample, 1 for the one that the row has. A row of another state has none of them."""
    text = plain_text(table.column(_source(metric))).str.strip_chars()
    values = tuple((text == state).fill_null(value=False).cast(pl.Int8) for state in metric.states)
    lines = tuple(Line(label=f'{metric.prometheus_name}="{escape(state)}"') for state in metric.states)
    unknown = text.is_not_null() & ~text.is_in(list(metric.states))
    warnings = []
    if unknown.any():
        detail = f"field {metric.source_field}: {text.filter(unknown)[0][:40]!r} is none of `states`"
        warnings.append(DataWarning("unknown_state", int(unknown.sum()), detail))
    keep = text.is_not_null() if metric.null == "skip" and text.null_count() else None
    return Rows(lines, values, keep, tuple(warnings))


def _histogram(table: Table, metric: MetricConfig, labels: LabelTexts) -> Rows:
    found = read_histogram(table, metric)
    warnings = list(found.warnings)
    if found.bad is not None:
        example = labels.of(metric.labels)[0].filter(found.bad)[0]
        detail = f"{metric.prometheus_name}: no histogram, such as {{{example}}}: {found.why}"
        warnings.append(DataWarning("bad_histogram", int(found.bad.sum()), detail))
    return Rows(found.lines, found.values, found.keep, tuple(warnings))


def _source(metric: MetricConfig) -> str:
    assert metric.source_field is not None, "the configuration model sees to it"
    return metric.source_field


def _filled(numbers: pl.Series, null: NullPolicy) -> pl.Series:
    return numbers.fill_null(0) if null == "zero" and numbers.null_count() else numbers


def _kept(numbers: Numbers, null: NullPolicy) -> pl.Series | None:
    """Mask of the rows that become samples; None for all."""
    if null == "skip":
        return numbers.values.is_not_null() if numbers.values.null_count() else None
    return None if numbers.refused is None else ~numbers.refused


_BUILDERS: Mapping[str, Callable[[Table, MetricConfig, LabelTexts], Rows]] = {
    "gauge": _gauge,
    "counter": _counter,
    "histogram": _histogram,
    "info": _info,
    "stateset": _stateset,
}
