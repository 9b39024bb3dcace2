"""Exporter sources: is the data there, how old is it, and what is wrong with it?"""

from __future__ import annotations

from grafana_foundation_sdk.models import units

from grafana.board import Section, board, choice
from grafana.panels import GREEN, RED, YELLOW, Column, Course, Figure, Table

UID = "sentinel-exporter"
_JOB = '{job=~"$job"}'
_OF = '{job=~"$job", source=~"$source"}'
_STEP = "1m"  # the exporter's scrape interval


def _of_source(title: str, description: str, query: str, unit: str = units.Short, legend: str = "{{source}}") -> Course:
    return Course(title, description, [(query, legend)], unit, step=_STEP)


def _of_exporter(title: str, description: str, query: str, unit: str = units.Short) -> Course:
    return Course(title, description, [(query, "{{instance}}")], unit, step=_STEP)


FIGURES = (
    Figure("Exporters up", "How many Prometheus can scrape.", f"sum(up{_JOB})", limits=[(1, GREEN)], base=RED),
    Figure("Sources", "Configured and enabled.", f"count(max by (source) (sentinel_source_up{_OF}))"),
    Figure(
        "Failing",
        "Sources whose last collection failed on every replica.",
        f"count(max by (source) (sentinel_source_up{_OF}) == 0) or vector(0)",
        limits=[(1, RED)],
    ),
    Figure(
        "Stopped",
        "Sources that are no longer tried: credentials were refused, or a library is missing.",
        f"sum(max by (source) (sentinel_source_stopped{_OF}))",
        limits=[(1, RED)],
    ),
    Figure(
        "Oldest data",
        "Age of the source that was collected longest ago.",
        f"max(max by (source) (sentinel_source_age_seconds{_OF}))",
        units.Seconds,
        limits=[(300, YELLOW)],
    ),
    Figure("Series", "Served of all sources.", f"sum(max by (source) (sentinel_source_series{_OF}))"),
    Figure(
        "Shards missing",
        "Of those that the exporter was started with.",
        f"max(sentinel_exporter_shards{_JOB}) - count(count by (shard) (sentinel_exporter_shard_info{_JOB}))",
        limits=[(1, RED)],
    ),
    Figure(
        "Reloads failed",
        "Exporters that go on with an older configuration, because the new one has errors.",
        f"count(sentinel_exporter_config_last_reload_successful{_JOB} == 0) or vector(0)",
        limits=[(1, YELLOW)],
    ),
)

SOURCES = (
    _of_source(
        "Age of the data",
        "Seconds since a source was last collected well. Alerts when it is more than two intervals.",
        f"max by (source) (sentinel_source_age_seconds{_OF})",
        units.Seconds,
    ),
    _of_source(
        "Duration of a collection",
        "How long the last collection took, on the slowest replica.",
        f"max by (source) (sentinel_source_collect_duration_seconds{_OF})",
        units.Seconds,
    ),
    _of_source(
        "Failed collections",
        "By reason, in the interval of the graph, of all replicas.",
        f"sum by (source, reason) (increase(sentinel_source_errors_total{_OF}[$__rate_interval])) > 0",
        legend="{{source}} {{reason}}",
    ),
    _of_source(
        "Warnings about data",
        "Values and metrics that were left out or changed, in the interval of the graph.",
        f"sum by (source, reason) (increase(sentinel_source_warnings_total{_OF}[$__rate_interval])) > 0",
        legend="{{source}} {{reason}}",
    ),
    _of_source("Series", "What is served of each source.", f"max by (source) (sentinel_source_series{_OF})"),
    _of_source(
        "Refused for the budget",
        "Collections with more rows, series or bytes than allowed, in the interval of the graph.",
        f"sum by (source) (increase(sentinel_source_budget_refusals_total{_OF}[$__rate_interval]))",
    ),
)

EXPORTERS = (
    _of_exporter(
        "Collections per second",
        "Of each exporter.",
        f"sum by (instance) (rate(sentinel_source_collections_total{_JOB}[$__rate_interval]))",
        units.OpsPerSecond,
    ),
    _of_exporter(
        "Late collections",
        "By how much the latest of the last collections began after its time.",
        f"max by (instance) (sentinel_source_schedule_lag_seconds{_JOB})",
        units.Seconds,
    ),
    _of_exporter(
        "CPU", "Cores in use.", f"sum by (instance) (rate(process_cpu_seconds_total{_JOB}[$__rate_interval]))"
    ),
    _of_exporter(
        "Memory", "Resident memory.", f"max by (instance) (process_resident_memory_bytes{_JOB})", units.BytesIEC
    ),
    _of_exporter(
        "Duration of a scrape",
        "As Prometheus saw it.",
        f"max by (instance) (scrape_duration_seconds{_JOB})",
        units.Seconds,
    ),
    _of_exporter(
        "Configuration",
        "A number for each configuration in use: several lines are several configurations.",
        f"max by (instance) (sentinel_exporter_config_hash{_JOB})",
    ),
)

TABLE = Table(
    "Sources",
    "A row for each source, the worst first.",
    columns={
        "State": Column(
            f"min by (source, type) (sentinel_source_info{_OF}"
            f" * on (job, instance, source) group_left () sentinel_source_up{_OF})",
            words={0: ("down", RED), 1: ("up", GREEN)},
        ),
        "Age": Column(f"max by (source) (sentinel_source_age_seconds{_OF})", units.Seconds),
        "Interval": Column(f"max by (source) (sentinel_source_interval_seconds{_OF})", units.Seconds),
        "Took": Column(f"max by (source) (sentinel_source_collect_duration_seconds{_OF})", units.Seconds),
        "Rows": Column(f"max by (source) (sentinel_source_rows{_OF})"),
        "Series": Column(f"max by (source) (sentinel_source_series{_OF})"),
        "Next run": Column(
            f"min by (source) (sentinel_source_next_run_timestamp_seconds{_OF}) * 1000", "dateTimeFromNow"
        ),
    },
    labels={"source": "Source", "type": "Type"},
    sort=("State", False),
)


def dashboard() -> str:
    return board(
        UID,
        "Sentinel exporter",
        "Is the data there, how old is it, and what is wrong with it?",
        [Section("", FIGURES), Section("Sources", [TABLE, *SOURCES]), Section("Exporters", EXPORTERS)],
        variables=[
            choice("job", "Job", "label_values(sentinel_exporter_build_info, job)"),
            choice("source", "Source", 'label_values(sentinel_source_info{job=~"$job"}, source)'),
        ],
    )
