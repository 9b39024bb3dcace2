"""Rows with a column for each bucket to histograms, and rows that are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import and_, or_

import polars as pl
from prometheus_client.utils import floatToGoString

from exporter.mapping.convert import Numbers, convert
from exporter.mapping.samples import Line
from exporter.mapping.spec import DataWarning, MetricConfig
from exporter.mapping.table import Table


@dataclass(frozen=True, slots=True)
class Histograms:
    """The lines of each row and their numbers; `keep` masks rows that become samples, None for all.

    `bad` masks rows that are no histogram, None when there are none; `why` is about the first of them.
    """

    lines: tuple[Line, ...]
    values: tuple[pl.Series, ...]
    keep: pl.Series | None
    bad: pl.Series | None
    why: str
    warnings: tuple[DataWarning, ...]


def read_histogram(table: Table, metric: MetricConfig) -> Histograms:
    """Cumulative buckets up to +Inf, then sum and count where there is a sum: OpenMetrics wants both or neither."""
    parts = [convert(table.column(column)) for _, column in metric.bounds]
    if metric.count is not None:
        parts.append(convert(table.column(metric.count)))
    if metric.sum is not None:
        parts.append(convert(table.column(metric.sum), metric.conversion))
    values = [part.values.fill_null(0) for part in parts]
    sums = values.pop() if metric.sum is not None else None
    counts = values.pop() if metric.count is not None else None
    buckets = values if metric.cumulative else _cumulated(values)
    bounds = [bound for bound, _ in metric.bounds]
    names = [column for _, column in metric.bounds]
    if bounds[-1] != math.inf:
        assert counts is not None, "the configuration model sees to it"
        bounds, names, buckets = [*bounds, math.inf], [*names, str(metric.count)], [*buckets, counts]
    checks = _checks(names, buckets, counts, sums, metric)
    lines = [Line("_bucket", f'le="{_bound(bound)}"') for bound in bounds]
    if sums is not None:
        lines += [Line("_sum"), Line("_count")]
        buckets = [*buckets, sums, buckets[-1]]
    return _judged(tuple(lines), tuple(buckets), checks, parts, skip_nulls=metric.null == "skip")


@dataclass(frozen=True, slots=True)
class _Check:
    """Rows that break a rule of histograms, and the rule."""

    broken: pl.Series
    rule: str


def _checks(
    names: Sequence[str],
    buckets: Sequence[pl.Series],
    counts: pl.Series | None,
    sums: pl.Series | None,
    metric: MetricConfig,
) -> list[_Check]:
    checks = [
        _Check((bucket < 0) | ~_is_whole(bucket), f"{name} is no count")
        for name, bucket in zip(names, buckets, strict=True)
    ]
    checks += [
        _Check(upper < lower, f"{names[position + 1]} is less than {names[position]}")
        for position, (lower, upper) in enumerate(pairwise(buckets))
    ]
    if counts is not None:
        checks.append(_Check(buckets[-1] != counts, f"{metric.count} is not the count of all buckets"))
    if sums is not None:
        bad = sums < 0
        if sums.dtype.is_float():
            bad |= sums.is_nan()
        checks.append(_Check(bad, f"{metric.sum} is less than 0 or no number"))
    return checks


def _judged(
    lines: tuple[Line, ...],
    values: tuple[pl.Series, ...],
    checks: Sequence[_Check],
    parts: Sequence[Numbers],
    *,
    skip_nulls: bool,
) -> Histograms:
    """Rows sorted out: those with a value that is no number, those without values, and those that break a rule."""
    refused = [part.refused for part in parts if part.refused is not None]
    warnings = tuple(warning for part in parts for warning in part.warnings)
    unread = reduce(or_, refused) if refused else None
    skipped = None
    if skip_nulls:
        missing = [part.values.is_null() for part in parts]
        skipped = reduce(and_, missing)
        checks = [_Check(reduce(or_, missing) & ~skipped, "some of its columns are null"), *checks]
    bad = reduce(or_, (check.broken for check in checks))
    others = [mask for mask in (unread, skipped) if mask is not None]
    for other in others:
        bad &= ~other
    out = reduce(or_, others, bad)
    keep = ~out if out.any() else None
    if not bad.any():
        return Histograms(lines, values, keep, None, "", warnings)
    why = next(check.rule for check in checks if check.broken.filter(bad)[0])
    return Histograms(lines, values, keep, bad, why, warnings)


def _cumulated(counts: Sequence[pl.Series]) -> list[pl.Series]:
    """Running sums; of whole numbers in 128 bits, since 64 would overflow unnoticed."""
    whole = all(count.dtype.is_integer() for count in counts)
    kind = pl.Int128 if whole else pl.Float64
    sums = [counts[0].cast(kind)]
    for count in counts[1:]:
        sums.append(sums[-1] + count.cast(kind))
    return sums


def _is_whole(count: pl.Series) -> pl.Series:
    if count.dtype.is_float():
        return count.is_finite() & (count == count.floor())
    return pl.repeat(value=True, n=len(count), dtype=pl.Boolean, eager=True)


def _bound(bound: float) -> str:
    """A bound as OpenMetrics and Prometheus write it: `0.5`, `1.0`, `1e+06`, `+Inf`."""
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]  # the library has it untyped
