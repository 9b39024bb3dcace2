"""The exporter's own metrics: the health of each source, the configuration, the process, the build."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from exporter.exposition import Form
from exporter.measured import Labels, Measurement
from exporter.reload import ReloadState
from exporter.sample_lines import Kind, family, label
from exporter.scheduler import Clock, Scheduler, SourceState
from exporter.shard import Shard

_EOF = b"# EOF\n"
_BUDGET = "budget"
Sample = tuple[str, float]


def package_version() -> str:
    try:
        return version("sentinel")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


@dataclass(frozen=True, slots=True)
class About:
    """What is told besides the sources' states. `snapshot_failures` is None where no snapshots are written."""

    loaded: ReloadState
    shard: Shard = field(default_factory=Shard)
    snapshot_failures: int | None = None
    types: Mapping[str, str] = field(default_factory=dict)


class SelfMetrics:
    """Renders the self metrics; those of the process and the build are prometheus_client's."""

    def __init__(self, scheduler: Scheduler, clock: Clock, about: Callable[[], About]) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._about = about
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        build = Gauge(
            "sentinel_exporter_build_info", "Version that runs.", ["version", "python"], registry=self._registry
        )
        build.labels(package_version(), platform.python_version()).set(1)

    def text(self, form: Form = "text") -> bytes:
        """All of them at this moment, without the end mark of OpenMetrics."""
        generate = openmetrics.generate_latest if form == "openmetrics" else generate_latest
        own = self_metrics(form, self._scheduler.states, self._about(), self._clock.monotonic(), self._clock.wall())
        return own.encode() + generate(self._registry).removesuffix(_EOF)


def self_metrics(form: Form, states: Sequence[SourceState], about: About, monotonic: float, wall: float) -> str:
    """Text of all families, from the sources' states at one moment, which both clocks name.

    A family has no sample for a source while there is nothing to say: no result before the first attempt has ended, no
    time of a success before the first success.
    """
    parts = [family(form, *each) for each in _sources(states, about, monotonic, wall)]
    taken = {f"sentinel_source_{name}" for name in _NAMES}
    parts += [family(form, *each) for each in _measured(states) if each[0] not in taken]
    parts += [family(form, *each) for each in _exporter(states, about)]
    return "".join(parts)


_Family = tuple[str, Kind, str, Sequence[Sample]]
_Of = Callable[[SourceState], float | None]

_GAUGES: Mapping[str, tuple[str, _Of]] = {
    "up": ("Whether the last collection of the source went well.", lambda s: not s.failures if s.attempts else None),
    "over_budget": (
        "Whether the last collection was refused for more rows, series or bytes than the source's budget.",
        lambda s: _refused(s) if s.attempts else None,
    ),
    "stopped": (
        "Whether the source is not collected until a secret changes or the configuration is loaded again.",
        lambda s: s.stopped,
    ),
    "warm": ("Whether what is served was collected before a restart or reload.", lambda s: s.warm),
    "last_success_timestamp_seconds": ("When the source was last collected well.", lambda s: s.last_success_at),
    "last_run_timestamp_seconds": ("When the last collection began.", lambda s: s.last_run_at),
    "interval_seconds": ("How often the source is to be collected, at least.", lambda s: s.interval),
    "collect_duration_seconds": ("How long the last collection took.", lambda s: s.duration),
    "schedule_lag_seconds": ("By how much the last collection began too late.", lambda s: s.lag),
    "rows": ("Rows behind what is served of the source.", lambda s: s.rows if s.tried else None),
    "series": ("Series that are served of the source.", lambda s: s.series if s.tried else None),
}
_NAMES = (
    *_GAUGES, "age_seconds", "next_run_timestamp_seconds", "errors", "failures", "warnings", "budget_refusals",
    "collections", "measures_refused", "info",
)  # fmt: skip


def _refused(state: SourceState) -> bool:
    """Whether the last collection went over the budget; a failure is the last collection's until one goes well."""
    return state.failures > 0 and state.last_failure is not None and state.last_failure.reason == _BUDGET


def _sources(states: Sequence[SourceState], about: About, monotonic: float, wall: float) -> Iterator[_Family]:
    labelled = [(label("source", state.name), state) for state in states]
    for name, (help_text, of) in _GAUGES.items():
        values = [(labels, value) for labels, state in labelled if (value := of(state)) is not None]
        yield f"sentinel_source_{name}", "gauge", help_text, values
    updated = [(labels, s.last_success_at) for labels, s in labelled if s.last_success_at is not None]
    yield "sentinel_last_update_timestamp", "gauge", "When data was last updated, Unix seconds.", updated
    ages = [(labels, monotonic - s.fresh_since) for labels, s in labelled if s.fresh_since is not None]
    yield "sentinel_source_age_seconds", "gauge", "Seconds since the source was last collected well.", ages
    due = [(labels, wall + s.next_run - monotonic) for labels, s in labelled if s.next_run is not None]
    yield "sentinel_source_next_run_timestamp_seconds", "gauge", "When the source is collected next.", due
    attempts = [(labels, s.attempts) for labels, s in labelled]
    yield "sentinel_source_collections", "counter", "Collections that have ended, well or not.", attempts
    failed = [(labels, sum(s.errors.values())) for labels, s in labelled]
    yield "sentinel_source_failures", "counter", "Collections that failed.", failed
    by_reason = [(f"{labels},{label('reason', r)}", n) for labels, s in labelled for r, n in s.errors.items()]
    yield "sentinel_source_errors", "counter", "Collections that failed, by reason.", by_reason
    refused = [(labels, s.errors.get(_BUDGET, 0)) for labels, s in labelled]
    yield "sentinel_source_budget_refusals", "counter", "Collections refused for more than their budget.", refused
    warned = [(f"{labels},{label('reason', r)}", n) for labels, s in labelled for r, n in s.warnings.items()]
    yield "sentinel_source_warnings", "counter", "Values and metrics left out or changed, by reason.", warned
    measures = [(labels, s.measured.refused) for labels, s in labelled if s.measured.refused]
    yield "sentinel_source_measures_refused", "counter", "Measures of collections that were left out.", measures
    kinds = [(f"{labels},{label('type', about.types.get(s.name, ''))}", 1) for labels, s in labelled]
    yield "sentinel_source", "info", "Each source and its type.", kinds


def _measured(states: Iterable[SourceState]) -> Iterator[_Family]:
    """What sources measured themselves. The first source that has a name says its kind and help."""
    first: dict[str, Measurement] = {}
    samples: dict[str, list[Sample]] = {}
    for state in states:
        for name, measurement in state.measured.by_name.items():
            if first.setdefault(name, measurement).kind == measurement.kind:
                found = samples.setdefault(name, [])
                found += [(_labels(state.name, labels), value) for labels, value in measurement.values.items()]
    for name, measurement in first.items():
        yield f"sentinel_source_{name}", measurement.kind, measurement.help, samples[name]


def _labels(source: str, labels: Labels) -> str:
    return ",".join(label(name, value) for name, value in (("source", source), *labels))


def _exporter(states: Sequence[SourceState], about: About) -> Iterator[_Family]:
    def one(name: str, kind: Kind, help_text: str, value: float, labels: str = "") -> _Family:
        return f"sentinel_exporter_{name}", kind, help_text, [(labels, value)]

    loaded, shard = about.loaded, about.shard
    yield one("sources", "gauge", "Sources that this exporter collects.", len(states))
    ok = loaded.successful
    yield one(
        "config_last_reload_successful", "gauge", "Whether the configuration was last loaded without problem.", ok
    )
    help_text = "When the configuration was last loaded without problem."
    yield one("config_last_reload_success_timestamp_seconds", "gauge", help_text, loaded.succeeded_at)
    yield one("config_hash", "gauge", "A number that stands for the configuration in use.", loaded.config_hash)
    yield one("shard", "info", "Which part of the sources this exporter takes.", 1, label("shard", str(shard.index)))
    yield one("shards", "gauge", "Parts into which the sources are divided.", shard.count)
    if about.snapshot_failures is not None:
        help_text = "Snapshots that could not be written."
        yield one("snapshot_write_failures", "counter", help_text, about.snapshot_failures)
