"""Any frame under any configuration is an exposition that both formats' parsers take, or an error of ours."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from pydantic import ValidationError

from exporter.errors import CollectError
from exporter.exposition import EOF, Block, Exposition, Family
from exporter.mapping.render import Rendered, render
from exporter.mapping.spec import FilterConfig, MetricConfig, SeriesSpec

COLUMNS = ("a", "b", "c", "d")
LINT = 3  # promtool's exit code for what it parsed and finds wanting

words = st.sampled_from(
    ["up", "down", "12 ms", "1h30m", "1:02:03", "3.5 GiB", "12.5%", "2026-01-02T03:04:05+02:00", "7", "1e400", "-0.0",
     "NaN", "inf", "", " ", 'q"', "b\\", "n\n", "z\0", "💳", "}", "{", "# EOF", ",", "x" * 1500, "\u2028", "\r"]
)  # fmt: skip
texts = words | st.text(max_size=8)
numbers = st.floats() | st.integers(0, 9).map(float)
moments = st.datetimes(*(datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (1700, 2200)))
CELLS: dict[Any, st.SearchStrategy[Any]] = {
    pl.String: texts,
    pl.Int64: st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3),
    pl.UInt64: st.integers(0, 2**64 - 1),
    pl.Int8: st.integers(-128, 127),
    pl.Float64: numbers,
    pl.Float32: st.floats(width=32),
    pl.Boolean: st.booleans(),
    pl.Date: st.dates(date(1700, 1, 1), date(2200, 1, 1)),
    pl.Datetime("us"): moments,
    pl.Datetime("ms", "Europe/Berlin"): moments.map(lambda at: at.replace(tzinfo=UTC)),
    pl.Decimal(38, 4): st.decimals(-(10**9), 10**9, places=4),
    pl.Duration("ns"): st.timedeltas(timedelta(-99), timedelta(99)),
    pl.Time: st.times(),
    pl.Binary: st.binary(max_size=6),
    pl.Categorical: st.sampled_from(["up", "down", 'q"']),
    pl.Null: st.none(),
    pl.List(pl.Int64): st.lists(st.integers(0, 3), max_size=2),
    pl.Struct({"x": pl.Int64}): st.fixed_dictionaries({"x": st.integers(0, 3)}),
}


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    """Mostly with all columns, and often with columns that a histogram can be made of: each a little above the last."""
    rows = draw(st.integers(1, 6) | st.integers(0, 1))
    names = draw(st.just(COLUMNS) | st.lists(st.sampled_from(COLUMNS), unique=True, min_size=1))
    tidy = draw(st.booleans())
    series = []
    for position, name in enumerate(names):
        if tidy and draw(st.integers(0, 4)):
            cells = [position * 2 + draw(st.integers(0, 2)) for _ in range(rows)]
            series.append(pl.Series(name, cells, dtype=draw(st.sampled_from([pl.Int64, pl.Float64]))))
        else:
            kind = draw(st.sampled_from(list(CELLS)))
            series.append(pl.Series(name, [draw(st.none() | CELLS[kind]) for _ in range(rows)], dtype=kind))
    return pl.DataFrame(series)


columns = st.sampled_from(COLUMNS)
CONVERSIONS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"parse": "bool"},
    {"parse": "percent"},
    {"parse": "duration", "unit": "ms"},
    {"parse": "bytes", "unit": "KiB"},
    {"parse": "quantity"},
    {"parse": "timestamp", "time_zone": "America/St_Johns"},
    {"parse": "timestamp", "format": "%d.%m.%Y"},
    {"parse": "timestamp", "format": "%Y-%m-%dT%H:%M:%S%z", "unit": "us"},
    {"map": {"up": 1, "down": 0.5, "7": 0, "": 9}},
)
needed: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "gauge": {"source_field": columns},
    "counter": {"source_field": columns},
    "histogram": {
        "buckets": st.just({"a": 0.1, "b": 5e6})
        | st.dictionaries(columns, st.sampled_from([-1, 0.1, 1, 5e6, "+Inf"]), min_size=1),
        "count": st.just("c") | st.none() | columns,
        "sum": st.just("d") | st.none() | columns,
    },
    "info": {},
    "stateset": {"source_field": columns, "states": st.lists(texts.filter(bool), unique=True, min_size=1, max_size=3)},
}
ENDINGS = {"counter": "_total", "info": "_info"}


@st.composite
def metrics(draw: st.DrawFn, position: int) -> MetricConfig:
    kind = draw(st.sampled_from(list(needed)))
    options = {key: draw(how) for key, how in needed[kind].items()}
    options["labels"] = draw(st.lists(columns, unique=True, min_size=kind == "info", max_size=3))
    options["help"] = draw(st.none() | texts)
    if kind in ("gauge", "counter"):
        options |= draw(st.sampled_from(CONVERSIONS))
    if kind == "histogram":
        options["cumulative"] = draw(st.booleans())
    if kind != "info":
        options["null"] = draw(st.sampled_from(["skip", "zero", *(["nan"] if kind == "gauge" else [])]))
    name = f"shop_{position}{ENDINGS.get(kind, '')}"
    given_ones = {key: what for key, what in options.items() if what is not None}
    try:
        return MetricConfig(prometheus_name=name, type=kind, **given_ones)
    except ValidationError:
        assume(False)  # a histogram of buckets that do not go together
        raise


def _filter(field: str, operator: str, value: object) -> FilterConfig | None:
    options: dict[str, Any] = {"values": [value]} if operator in ("in", "not_in") else {"value": value}
    try:
        return FilterConfig(field=field, operator=operator, **({} if "null" in operator else options))
    except ValidationError:
        return None


filters = st.builds(
    _filter,
    columns,
    st.sampled_from(["==", "!=", ">", "<=", "in", "not_in", "contains", "regex", "is_null", "not_null"]),
    st.one_of(texts, st.integers(), st.floats(), st.booleans(), st.dates(), st.datetimes()),
)


@st.composite
def specs(draw: st.DrawFn, case: int = 0) -> SeriesSpec:
    chosen = tuple(draw(metrics(10 * case + position)) for position in range(draw(st.integers(1, 3))))
    own = {metric.extra_label for metric in chosen} | {name for metric in chosen for name in metric.labels}
    static = draw(st.dictionaries(st.sampled_from(["env", "le", "x"]), texts.filter(bool), max_size=1))
    return SeriesSpec(
        chosen,
        labels={name: text for name, text in static.items() if name not in own},
        label_defaults=draw(st.dictionaries(columns, texts, max_size=1)),
        duplicates=draw(st.sampled_from(["error", "first", "last", "sum", "max"])),
        max_series=draw(st.sampled_from([3, 10, 1000, 1000])),
        over_budget=draw(st.sampled_from(["reject", "truncate"])),
        filters=tuple(filter(None, draw(st.just([]) | st.lists(filters, max_size=2)))),
    )


def pages(spec: SeriesSpec, rendered: Rendered) -> tuple[str, str]:
    families = [Family(metric.prometheus_name, metric.type, metric.help_text("shop")) for metric in spec.metrics]
    exposition = Exposition(families, ["shop"])
    exposition.publish("shop", {family.name: Block.of(family.text) for family in rendered.families})
    parts = exposition.page().parts(gzip=False), exposition.page("openmetrics").then(EOF).parts(gzip=False)
    text, openmetrics = (b"".join(part).decode() for part in parts)
    return text, openmetrics


def counted(families: Any) -> int:
    return sum(len(family.samples) for family in families)


@settings(suppress_health_check=list(HealthCheck), max_examples=100)
@given(frames(), specs())
@example(pl.DataFrame({"a": [1.0], "b": ["x\0"]}), SeriesSpec((MetricConfig(source_field="a", prometheus_name="m", labels=["b"], help=' "\n'),)))  # fmt: skip # noqa: E501 - one case
def test_any_frame_under_any_configuration_is_an_exposition_or_an_error(frame: pl.DataFrame, spec: SeriesSpec) -> None:
    try:
        rendered = render(frame, spec)
    except CollectError:
        return
    text, openmetrics = pages(spec, rendered)
    assert counted(parse_text(text)) == counted(parse_openmetrics(openmetrics)) == rendered.series <= spec.max_series
    assert all(warning.count > 0 and warning.detail for warning in rendered.warnings)


@settings(suppress_health_check=list(HealthCheck), max_examples=3)
@given(st.tuples(*(st.tuples(frames(), specs(case)) for case in range(8))))
def test_promtool_reads_whatever_is_served(cases: Sequence[tuple[pl.DataFrame, SeriesSpec]]) -> None:
    served = ""
    for frame, spec in cases:
        with contextlib.suppress(CollectError):
            served += pages(spec, render(frame, spec))[0]
    done = subprocess.run(["promtool", "check", "metrics"], input=served.encode(), capture_output=True, check=False)
    assert done.returncode in (0, LINT), done.stderr
    assert b"error while linting" not in done.stderr, (done.stderr, served)
