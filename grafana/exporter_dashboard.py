"""The exporter's dashboard as code: `python -m grafana.exporter_dashboard` writes grafana/dashboards/exporter.json.

Each query aggregates replicas away, as the rules do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TARGET = Path(__file__).parent / "dashboards" / "exporter.json"
_SOURCE = DataSourceRef("prometheus", "${datasource}")
_JOB = '{job=~"$job"}'
_OF = '{job=~"$job", source=~"$source"}'
_GREEN, _YELLOW, _RED = "green", "yellow", "red"
_WHOLE = 24  # columns of Grafana's grid


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. It is yellow or red from the given values on, and green below."""

    title: str
    query: str
    unit: str = units.Short
    yellow: float | None = None
    red: float | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """Lines over time."""

    title: str
    description: str
    query: str
    legend: str
    unit: str = units.Short


FIGURES = (
    Figure("Exporters up", f"sum(up{_JOB})"),
    Figure("Sources", "count(max by (source) (sentinel_source_up" + _OF + "))"),
    Figure("Failing", "count(max by (source) (sentinel_source_up" + _OF + ") == 0) or vector(0)", red=1),
    Figure("Stopped", "sum(max by (source) (sentinel_source_stopped" + _OF + "))", red=1),
    Figure("Oldest data", "max(max by (source) (sentinel_source_age_seconds" + _OF + "))", units.Seconds),
    Figure("Series", "sum(max by (source) (sentinel_source_series" + _OF + "))"),
    Figure(
        "Shards missing",
        f"max(sentinel_exporter_shards{_JOB}) - count(count by (shard) (sentinel_exporter_shard_info{_JOB}))",
        red=1,
    ),
    Figure(
        "Reloads failed", f"count(sentinel_exporter_config_last_reload_successful{_JOB} == 0) or vector(0)", yellow=1
    ),
)

SOURCES = (
    Course(
        "Age of the data",
        "Seconds since a source was last collected well. Alerts when it is more than two intervals.",
        "max by (source) (sentinel_source_age_seconds" + _OF + ")",
        "{{source}}",
        units.Seconds,
    ),
    Course(
        "Duration of a collection",
        "How long the last collection took, on the slowest replica.",
        "max by (source) (sentinel_source_collect_duration_seconds" + _OF + ")",
        "{{source}}",
        units.Seconds,
    ),
    Course(
        "Failed collections",
        "By reason, in the interval of the graph, of all replicas.",
        "sum by (source, reason) (increase(sentinel_source_errors_total" + _OF + "[$__rate_interval])) > 0",
        "{{source}} {{reason}}",
    ),
    Course(
        "Warnings about data",
        "Values and metrics that were left out or changed, in the interval of the graph.",
        "sum by (source, reason) (increase(sentinel_source_warnings_total" + _OF + "[$__rate_interval])) > 0",
        "{{source}} {{reason}}",
    ),
    Course(
        "Series",
        "What is served of each source.",
        "max by (source) (sentinel_source_series" + _OF + ")",
        "{{source}}",
    ),
    Course(
        "Refused for the budget",
        "Collections with more rows, series or bytes than allowed, in the interval of the graph.",
        "sum by (source) (increase(sentinel_source_budget_refusals_total" + _OF + "[$__rate_interval]))",
        "{{source}}",
    ),
)

EXPORTERS = (
    Course(
        "Collections per second",
        "Of each exporter.",
        "sum by (instance) (rate(sentinel_source_collections_total" + _JOB + "[$__rate_interval]))",
        "{{instance}}",
        units.OpsPerSecond,
    ),
    Course(
        "Late collections",
        "By how much the latest of the last collections began after its time.",
        f"max by (instance) (sentinel_source_schedule_lag_seconds{_JOB})",
        "{{instance}}",
        units.Seconds,
    ),
    Course(
        "CPU",
        "Cores in use.",
        f"sum by (instance) (rate(process_cpu_seconds_total{_JOB}[$__rate_interval]))",
        "{{instance}}",
    ),
    Course(
        "Memory", "Resident memory.", f"max by (instance) (process_resident_memory_bytes{_JOB})", "{{instance}}",
        units.BytesIEC,
    ),
    Course(
        "Duration of a scrape",
        "As Prometheus saw it.",
        f"max by (instance) (scrape_duration_seconds{_JOB})",
        "{{instance}}",
        units.Seconds,
    ),
    Course(
        "Configuration",
        "A number for each configuration in use: several lines are several configurations.",
        f"max by (instance) (sentinel_exporter_config_hash{_JOB})",
        "{{instance}}",
    ),
)  # fmt: skip

COLUMNS = {
    "State": "min by (source, type) (sentinel_source_info" + _OF + " * on (job, instance, source) group_left ()"
    " sentinel_source_up" + _OF + ")",
    "Age": "max by (source) (sentinel_source_age_seconds" + _OF + ")",
    "Interval": "max by (source) (sentinel_source_interval_seconds" + _OF + ")",
    "Took": "max by (source) (sentinel_source_collect_duration_seconds" + _OF + ")",
    "Rows": "max by (source) (sentinel_source_rows" + _OF + ")",
    "Series": "max by (source) (sentinel_source_series" + _OF + ")",
    "Next run": "min by (source) (sentinel_source_next_run_timestamp_seconds" + _OF + ") * 1000",
}
_COLUMN_UNITS = {"Age": units.Seconds, "Interval": units.Seconds, "Took": units.Seconds, "Next run": "dateTimeFromNow"}


def dashboard() -> str:
    """The dashboard as JSON."""
    built = (
        Dashboard("Sentinel exporter")
        .uid("sentinel-exporter")
        .description("Is the data there, how old is it, and what is wrong with it?")
        .tags(["sentinel"])
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_variable("job", "Job", "label_values(sentinel_exporter_build_info, job)"))
        .with_variable(_variable("source", "Source", 'label_values(sentinel_source_info{job=~"$job"}, source)'))
    )
    for figure in FIGURES:
        built.with_panel(_figure(figure))
    built.with_row(Row("Sources")).with_panel(_table())
    for course in SOURCES:
        built.with_panel(_course(course))
    built.with_row(Row("Exporters"))
    for course in EXPORTERS:
        built.with_panel(_course(course))
    model = built.build()
    for number, panel in enumerate(model.panels or (), 1):
        panel.id_val = number
    return json.dumps(model, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _variable(name: str, label: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(label)
        .datasource(_SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _figure(figure: Figure) -> stat.Panel:
    steps = [Threshold(None, _GREEN)]
    steps += [Threshold(at, color) for at, color in ((figure.yellow, _YELLOW), (figure.red, _RED)) if at is not None]
    return (
        stat.Panel()
        .title(figure.title)
        .datasource(_SOURCE)
        .span(_WHOLE // len(FIGURES))
        .height(4)
        .unit(figure.unit)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(Dataquery().expr(figure.query).instant().ref_id("A").datasource(_SOURCE))
    )


def _course(course: Course) -> timeseries.Panel:
    legend = (
        options.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.RIGHT)
        .calcs(["lastNotNull", "max"])
        .show_legend(True)
    )
    return (
        timeseries.Panel()
        .title(course.title)
        .description(course.description)
        .datasource(_SOURCE)
        .span(_WHOLE // 2)
        .height(8)
        .unit(course.unit)
        .min(0)
        .legend(legend)
        .with_target(
            Dataquery().expr(course.query).range().legend_format(course.legend).ref_id("A").datasource(_SOURCE)
        )
    )


def _table() -> table.Panel:
    """A row for each source, the worst first."""
    panel = table.Panel().title("Sources").datasource(_SOURCE).span(_WHOLE).height(10).filterable(True)
    letter: Callable[[int], str] = lambda position: chr(ord("A") + position)  # noqa: E731 - Grafana's names of queries
    names = {f"Value #{letter(position)}": column for position, column in enumerate(COLUMNS)}
    for position, query in enumerate(COLUMNS.values()):
        panel.with_target(
            Dataquery().expr(query).instant().format(PromQueryFormat.TABLE).ref_id(letter(position)).datasource(_SOURCE)
        )
    for column, unit in _COLUMN_UNITS.items():
        panel.override_by_name(column, [DynamicConfigValue("unit", unit)])
    states = {"0": {"text": "down", "color": _RED, "index": 0}, "1": {"text": "up", "color": _GREEN, "index": 1}}
    panel.override_by_name(
        "State",
        [
            DynamicConfigValue("mappings", [{"type": "value", "options": states}]),
            DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
        ],
    )
    organised = {"excludeByName": {"Time": True}, "renameByName": {"source": "Source", "type": "Type"} | names}
    return (
        panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(DataTransformerConfig(id_val="organize", options=organised))
        .sort_by([options.TableSortByFieldState().display_name("State").desc(False)])
    )


def main() -> None:
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(dashboard(), "utf-8")


if __name__ == "__main__":
    main()
