"""The exporter's own metrics: the health of each source, the process, the build."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter.exposition import Block
from exporter.scheduler import Clock, Scheduler, SourceState

_SOURCE = ["source"]


def package_version() -> str:
    try:
        return version("sentinel")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


class SelfMetrics:
    """Renders the self metrics, in a registry of their own."""

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(SourceHealth(lambda: scheduler.states, clock))
        ProcessCollector(registry=self._registry)
        build = Gauge(
            "sentinel_exporter_build_info", "Version that runs.", ["version", "python"], registry=self._registry
        )
        build.labels(package_version(), platform.python_version()).set(1)

    def block(self) -> Block:
        return Block.of(generate_latest(self._registry))


class SourceHealth(Collector):
    """One sample per source and family, from the sources' states at the time of the scrape.

    A family has no sample for a source while there is nothing to say: no result before the first attempt has ended, no
    time of a success before the first success.
    """

    def __init__(self, states: Callable[[], Iterable[SourceState]], clock: Clock) -> None:
        self._states = states
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        states = [state for state in self._states() if state.attempts]
        yield _gauge(
            "up", "Whether the last collection of the source went well.", [(s.name, not s.failures) for s in states]
        )
        successful = [(s.name, s.last_success_at) for s in states if s.last_success_at is not None]
        help_text = "When the source was last collected well, Unix seconds."
        yield _gauge("last_success_timestamp_seconds", help_text, successful)
        updated = GaugeMetricFamily("sentinel_last_update_timestamp", "When data was last updated.", labels=_SOURCE)
        for name, at in successful:
            updated.add_metric([name], at)
        yield updated
        durations = [(s.name, s.duration) for s in states if s.duration is not None]
        yield _gauge(
            "interval_seconds", "How often the source is to be collected.", [(s.name, s.interval) for s in states]
        )
        yield _gauge("collect_duration_seconds", "How long the last collection took.", durations)
        yield _gauge("rows", "Rows behind what is served of the source.", [(s.name, s.rows) for s in states])
        yield _gauge("series", "Series that are served of the source.", [(s.name, s.series) for s in states])
        now = self._clock.monotonic()
        ages = [(s.name, now - s.fresh_since) for s in states if s.fresh_since is not None]
        yield _gauge("age_seconds", "Seconds since the source was last collected well.", ages)
        errors = CounterMetricFamily(
            "sentinel_source_errors", "Collections that failed, by reason.", labels=["source", "reason"]
        )
        warnings = CounterMetricFamily(
            "sentinel_source_warnings",
            "Values and metrics left out or changed, by reason.",
            labels=["source", "reason"],
        )
        for state in states:
            for reason, count in state.errors.items():
                errors.add_metric([state.name, reason], count)
            for reason, count in state.warnings.items():
                warnings.add_metric([state.name, reason], count)
        yield errors
        yield warnings


def _gauge(name: str, help_text: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(f"sentinel_source_{name}", help_text, labels=_SOURCE)
    for source, value in values:
        family.add_metric([source], value)
    return family
