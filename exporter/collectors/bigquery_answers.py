"""What BigQuery answers, made ours: its errors, what a query cost, and its Arrow batches as frames. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
from pydantic import ByteSize

from exporter.collectors.base import Measure
from exporter.errors import (
    BadAnswer,
    BudgetExceeded,
    CollectError,
    Denied,
    QueryRefused,
    RateLimited,
    ServerFailed,
    TimedOut,
    Unauthorized,
)
from exporter.mapping.spec import MetricConfig

_BY_REASON: Mapping[str, type[CollectError]] = {
    "accessDenied": Denied,
    "billingNotEnabled": Denied,
    "blocked": Denied,
    "policyViolation": Denied,
    "authError": Unauthorized,
    "required": Unauthorized,
    "quotaExceeded": RateLimited,
    "rateLimitExceeded": RateLimited,
    "jobRateLimitExceeded": RateLimited,
    "bytesBilledLimitExceeded": BudgetExceeded,
    "invalid": QueryRefused,
    "invalidQuery": QueryRefused,
    "notFound": QueryRefused,
    "notImplemented": QueryRefused,
    "resourcesExceeded": QueryRefused,
    "responseTooLarge": QueryRefused,
    "backendError": ServerFailed,
    "internalError": ServerFailed,
    "jobBackendError": ServerFailed,
    "jobInternalError": ServerFailed,
    "resourceInUse": ServerFailed,
    "tableUnavailable": ServerFailed,
    "stopped": TimedOut,
    "timeout": TimedOut,
}
_BY_STATUS: Mapping[int, type[CollectError]] = {
    400: QueryRefused,
    401: Unauthorized,
    403: Denied,
    408: ServerFailed,
    429: RateLimited,
    499: TimedOut,  # cancelled
}
_HINTS: Mapping[type[CollectError], str] = {
    Unauthorized: "the credentials were refused",
    Denied: "the account needs roles/bigquery.jobUser on the project and roles/bigquery.dataViewer on what it reads",
}
_AT_LINE = re.compile(r"\[(\d+):\d+\]")
_LONGEST = 400
_TRAILING_ZEROS = r"^(-?\d+(?:\.\d*[1-9])?)\.?0*$"
_NESTED = {"RECORD": "STRUCT", "STRUCT": "STRUCT", "RANGE": "RANGE"}
_WITHOUT_ARROW = "INTERVAL"


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the result, as the answer's schema has it."""

    name: str
    type: str
    mode: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a dry run says: bytes that would be read, the statement's kind, where it would run, the result's columns."""

    bytes: int
    statement: str | None
    location: str | None
    fields: tuple[Field, ...]


def human(size: int) -> str:
    """A number of bytes as people write it, in powers of 1024 as BigQuery counts them."""
    return ByteSize(size).human_readable(separator=" ")


def within_budget(estimate: Estimate, max_bytes: int | None) -> None:
    """BudgetExceeded for a query that would read more than `max_bytes`, QueryRefused for one that is no SELECT."""
    if estimate.statement not in (None, "SELECT"):
        raise QueryRefused(f"the query is a {estimate.statement}, not one SELECT: a source may only read")
    if max_bytes is not None and estimate.bytes > max_bytes:
        texts = human(estimate.bytes), human(max_bytes)
        if texts[0] == texts[1]:
            texts = f"{estimate.bytes:,} bytes", f"{max_bytes:,} bytes"
        raise BudgetExceeded(
            f"the query would read {texts[0]}, more than max_bytes ({texts[1]}), and was not run: "
            "filter by the partition column, select fewer columns, or raise max_bytes"
        )


def failure(said: Mapping[str, Any], status: int | None, query: str) -> CollectError:
    """The error for what BigQuery said: its `reason` and `message`, or else the HTTP status."""
    kind = _BY_REASON.get(str(said.get("reason")))
    message = " ".join(str(said.get("message") or "no explanation").split())[:_LONGEST]
    if kind is None:
        kind = _BY_STATUS.get(status or 0, ServerFailed if (status or 0) >= 500 else BadAnswer)  # noqa: PLR2004 - all server errors
    text = f"BigQuery: {message}" if status is None else f"BigQuery answered {status}: {message}"
    if kind is BadAnswer:
        text += " (is the endpoint right?)"
    if kind is QueryRefused and said.get("reason") == "notFound":
        text += " (is the name right, and does location name the place where the data is?)"
    return kind(text + _line(message, query) + (f" ({_HINTS[kind]})" if kind in _HINTS else ""))


def _line(message: str, query: str) -> str:
    """Which line of the query a message such as `Syntax error … at [2:5]` is about."""
    at = _AT_LINE.search(message)
    lines = query.splitlines()
    if at is None or not 1 <= int(at[1]) <= len(lines):
        return ""
    return f" (line {at[1]} of the query: {lines[int(at[1]) - 1].strip()!r})"


def measures(
    *, processed: int | None, billed: int | None, slot_milliseconds: int | None, cached: bool | None
) -> list[Measure]:
    """What a finished query cost; what BigQuery did not say is left out."""
    found = [
        Measure("bigquery_processed_bytes", "Bytes that queries read.", processed or 0, "counter"),
        Measure("bigquery_billed_bytes", "Bytes that queries were billed for.", billed or 0, "counter"),
        Measure("bigquery_slot_seconds", "Slot time of queries.", (slot_milliseconds or 0) / 1000, "counter"),
        Measure(
            "bigquery_cache_hit", "Whether the last query's rows came from BigQuery's cache.", int(cached or False)
        ),
    ]
    given = (processed, billed, slot_milliseconds, cached)
    return [measure for measure, value in zip(found, given, strict=True) if value is not None]


def estimate_measure(estimate: Estimate) -> Measure:
    return Measure("bigquery_estimated_bytes", "Bytes that the query would read, from its dry run.", estimate.bytes)


def nested_fields(fields: Iterable[Field], metrics: Sequence[MetricConfig]) -> str | None:
    """What is wrong with columns that metrics read though they hold no plain values; None when nothing is.

    BadAnswer when every metric reads such a column, or when the result cannot be read as Arrow at all.
    """
    wrong: dict[str, str] = {}
    for field in fields:
        kind = "ARRAY" if field.mode == "REPEATED" else _NESTED.get(field.type)
        if field.type == _WITHOUT_ARROW:
            raise BadAnswer(
                f"field {field.name!r} is an INTERVAL, which cannot be read: leave it out of the query, "
                f"or take a number from it, such as EXTRACT(HOUR FROM {field.name})"
            )
        if kind is not None:
            how = f"UNNEST({field.name})" if kind == "ARRAY" else f"{field.name}.part AS {field.name}"
            wrong[field.name] = f"field {field.name!r} is a nested {kind}, not a plain value: select one, such as {how}"
    read = [{metric.source_field, *metric.labels.values()} & wrong.keys() for metric in metrics]
    told = "; ".join(wrong[name] for name in sorted(set().union(*read)))
    if read and all(read):
        raise BadAnswer(told)
    return told or None


def frame_of_batch(batch: pa.RecordBatch, wanted: Iterable[str]) -> pl.DataFrame:
    """The wanted columns that are there. NUMERIC and BIGNUMERIC become text with all their digits, and no more."""
    names = [name for name in dict.fromkeys(wanted) if name in batch.schema.names]
    columns = []
    for name in names:
        values = batch.column(name)
        if pa.types.is_decimal256(values.type):  # Polars has no decimals that wide, and Arrow's text has exponents
            values = pa.array([None if value is None else f"{value:f}" for value in values.to_pylist()], pa.string())
        column = pl.Series(name, pl.from_arrow(values))
        if column.dtype.is_decimal() or pa.types.is_decimal(batch.schema.field(name).type):
            column = column.cast(pl.String).str.replace(_TRAILING_ZEROS, "$1")
        columns.append(column)
    return pl.DataFrame(columns)


def empty_frame(fields: Iterable[str], wanted: Iterable[str]) -> pl.DataFrame:
    """No rows, but the wanted columns that the result has."""
    there = set(fields)
    return pl.DataFrame(schema={name: pl.Null() for name in wanted if name in there})
