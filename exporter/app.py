"""The composition root: from a configuration to a running exporter."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic

import structlog

from exporter import logs
from exporter.collectors.base import SourceConfig
from exporter.config import ExporterConfig
from exporter.errors import ConfigError, ExporterError
from exporter.exposition import EOF, Block, Form, families_named
from exporter.fingerprint import of_config
from exporter.job import SourceJob
from exporter.mapping.families import reserved
from exporter.redacted import config_page
from exporter.reload import Changes, ReloadState, restart_needed
from exporter.scheduler import Clock, Scheduler, Warm
from exporter.self_metrics import About, SelfMetrics, package_version
from exporter.server import Server
from exporter.serving import Serving
from exporter.shard import Shard
from exporter.status_page import Filter, status_page
from exporter.warm_start import WarmStart

_LAST_ANSWERS = 1.5  # seconds that answers in progress have when the exporter stops
log = structlog.get_logger()


class Exporter:
    """Everything that runs, wired together. `start` and `stop` are called once each."""

    def __init__(
        self,
        config: ExporterConfig,
        *,
        clock: Clock | None = None,
        shard: Shard | None = None,
        load: Callable[[], ExporterConfig] | None = None,
    ) -> None:
        """Binds the HTTP address, so that AddressTaken is raised before any source is asked.

        `load` reads the configuration again for a reload; it raises ConfigError.
        """
        self._clock = clock or Clock()
        self._shard = shard or Shard()
        self._load = load
        self._server = Server(config.server, self)
        self._http = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._running_server = config.server
        self._config = config
        self._config_page: tuple[ExporterConfig | None, str] = (None, "")
        self._reloading = threading.Lock()
        self._loaded = ReloadState(successful=True, succeeded_at=self._clock.wall(), config_hash=of_config(config))
        self._sources = self._mine(config)
        self._serving = Serving(self._sources)
        self._warm_start = WarmStart(Path(config.server.warm_start)) if config.server.warm_start else None
        jobs = [self._job(source) for source in self._sources]
        self._jobs = {job.name: job for job in jobs}
        self._scheduler = Scheduler(jobs, self._clock, self._warmed(jobs))
        self._self_metrics = SelfMetrics(self._scheduler, self._clock, self._about)

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        name = host.decode() if isinstance(host, bytes) else host
        return f"{self._server.scheme}://" + (f"[{name}]:{port}" if ":" in name else f"{name}:{port}")

    @property
    def ready(self) -> bool:
        """Whether every enabled source has been tried once, or is served from before a restart. Stays so."""
        return self._scheduler.ready

    @property
    def healthy(self) -> bool:
        """Whether sources are still collected when they are due."""
        return self._scheduler.healthy

    def metrics(
        self, *, gzip: bool, form: Form = "text", names: Sequence[str] = (), sources: Sequence[str] = ()
    ) -> list[bytes]:
        """A whole scrape: the sources' blocks, then the exporter's own metrics, unless sources are asked for."""
        page = self._serving.exposition.page(form, names or None, sources or None)
        if not sources:
            page = page.then(*self._own(form, names, gzip=gzip))
        return (page.then(EOF) if form == "openmetrics" else page).parts(gzip=gzip)

    def _own(self, form: Form, names: Sequence[str], *, gzip: bool) -> tuple[Block, ...]:
        """The exporter's own metrics, or those named; they are not even rendered where none of them can be meant."""
        if names and not any(map(reserved, names)):
            return ()
        own = self._self_metrics.text(form)
        own = families_named(own, names) if names else own
        return (Block.of(own) if gzip else Block.plain(own),)

    def config_page(self) -> str:
        """Written once for each configuration, since that of hundreds of sources takes a good part of a second."""
        config, (shown, page) = self._config, self._config_page
        if shown is not config:
            page = config_page(config)
            self._config_page = config, page
        return page

    def status_page(self, shown: Filter | None = None) -> str:
        return status_page(
            self._scheduler.states,
            {source.name: source.type for source in self._sources},
            wall=self._clock.wall(),
            monotonic=self._clock.monotonic(),
            version=package_version(),
            shown=shown,
        )

    def reload(self) -> Changes:
        """Load the configuration again; ConfigError when it has problems, and then nothing has changed.

        Unchanged sources keep data, schedule, connections and counts; those that were stopped are tried again.
        Changed ones are collected anew at once; what is served of them stays until then where it is mapped alike.
        """
        if self._load is None:
            raise ExporterError("this exporter was not started from a file")
        with self._reloading:
            try:
                config = self._load()
                changes = self._apply(config)
            except ConfigError as error:
                self._loaded = replace(self._loaded, successful=False)
                log.warning(
                    "configuration not reloaded, nothing has changed", problems=[str(p) for p in error.problems]
                )
                raise
            except Exception as error:  # noqa: BLE001 - ours, logged: it must not end what is served
                raise self._not_loaded(error) from None
            wall = self._clock.wall()
            self._loaded = ReloadState(successful=True, succeeded_at=wall, config_hash=of_config(config))
        counts = {key: len(getattr(changes, key)) for key in ("kept", "changed", "added", "removed")}
        log.info("configuration reloaded", **counts)
        needed = restart_needed(self._running_server, config.server)
        if needed:
            log.warning("changed, but takes effect only at the next start", keys=list(needed))
        return changes

    def _not_loaded(self, error: Exception) -> ExporterError:
        """A mistake of the exporter's own, which must not end it. Told without its text, which may hold a secret."""
        self._loaded = replace(self._loaded, successful=False)
        kind, place = type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
        log.error("configuration not reloaded, nothing has changed", error=kind, traceback=place)
        return ExporterError(f"an error of the exporter's own ({kind}), which its log tells more of")

    def start(self) -> None:
        self._http.start()
        if self._warm_start is not None:
            self._warm_start.start()
        self._scheduler.start()
        log.info("exporter started", url=self.url, sources=len(self._sources))

    def stop(self) -> None:
        """End within about two seconds, whatever sources and clients are doing. Answers in progress are sent."""
        answered_by = monotonic() + _LAST_ANSWERS
        self._server.end()
        self._scheduler.stop()
        if self._warm_start is not None:
            self._warm_start.close()
        if not self._server.finish(max(0.0, answered_by - monotonic())):
            log.warning("answers broken off", seconds=_LAST_ANSWERS)
        self._http.join(timeout=1)
        log.info("exporter stopped")

    def _apply(self, config: ExporterConfig) -> Changes:
        """Everything that can fail has been done before: from here on it is a swap."""
        sources = self._mine(config)
        changes = Changes.between(self._sources, sources)
        new = {source.name: self._job(source) for source in sources if source.name not in changes.kept}
        self._scheduler.end((*changes.changed, *changes.removed))
        states = {state.name: state for state in self._scheduler.states}
        self._serving.replace(sources, (*changes.kept, *changes.served))
        now = self._clock.monotonic()
        warm: dict[str, Warm] = {}
        for name in changes.served:
            state = states[name]
            if state.series and state.fresh_since is not None:
                age = now - state.fresh_since
                warm[name] = Warm(age, state.rows, state.series, state.last_warnings, at_once=True)
                new[name].inherit(self._jobs[name])
        self._scheduler.replace([source.name for source in sources], new.values(), warm)
        self._jobs = {source.name: new.get(source.name) or self._jobs[source.name] for source in sources}
        if self._warm_start is not None:
            for name in changes.removed:
                self._warm_start.forget(name)
        if config.server.log_level != self._config.server.log_level:
            logs.configure(config.server.log_level)
        self._config, self._sources = config, sources
        return changes

    def _mine(self, config: ExporterConfig) -> tuple[SourceConfig, ...]:
        return tuple(source for source in config.enabled if self._shard.has(source.name))

    def _job(self, source: SourceConfig) -> SourceJob:
        keep = None if self._warm_start is None else self._warm_start.keep
        return SourceJob(source, self._serving, program=package_version(), keep=keep)

    def _warmed(self, jobs: Iterable[SourceJob]) -> dict[str, Warm]:
        """Data of sources that an earlier process has left, served from now on."""
        if self._warm_start is None:
            return {}
        wall = self._clock.wall()
        snapshots = self._warm_start.load(self._sources, [source.name for source in self._config.enabled], wall)
        if snapshots:
            log.info("warm start", sources=len(snapshots))
        return {job.name: job.adopt(snapshots[job.name], wall) for job in jobs if job.name in snapshots}

    def _about(self) -> About:
        failures = None if self._warm_start is None else self._warm_start.failures
        return About(self._loaded, self._shard, failures, {source.name: source.type for source in self._sources})
