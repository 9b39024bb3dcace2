"""One source's work: collect, map, render, compress, and hand over for publishing."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from exporter.collectors import registry
from exporter.collectors.base import Collection, Collector, Measure, SourceConfig
from exporter.environment import Secrets
from exporter.errors import CollectError
from exporter.exposition import Block
from exporter.fingerprint import of_source
from exporter.mapping.spec import DataWarning
from exporter.serving import Serving
from exporter.snapshot import Snapshot
from exporter.source_state import Outcome, Warm

log = structlog.get_logger()


class SourceJob:
    """A source, as the scheduler runs it. What it serves is handed to `keep` at each publish."""

    def __init__(
        self,
        config: SourceConfig,
        serving: Serving,
        *,
        program: str = "",
        keep: Callable[[Snapshot], None] | None = None,
    ) -> None:
        self.name = config.name
        self.interval = config.longest_gap
        self.cron = config.cron_schedule
        self.timeout = config.run_timeout
        self.max_staleness = config.stale_after
        self._config = config
        self._fingerprint = of_source(config)
        self._serving = serving
        self._program = program
        self._keep = keep
        self._collector: Collector | None = None
        self._running: Collection | None = None
        self._secrets: Secrets | None = None
        self._served: _Served | None = None
        self._inherited: _Served | None = None
        self._clashes: tuple[DataWarning, ...] = ()  # what is left out for another source has it

    def run(self, now: datetime, deadline: float, measures: list[Measure]) -> Outcome:
        """Collect and render. Secrets are read here, at every run, and no error that leaves here shows one."""
        served = self._served
        collection = Collection(
            now=now,
            deadline=deadline,
            measures=measures,
            served=served.version if served else None,
            last_success=served.at if served else None,
        )
        self._running, self._secrets = collection, collection.secrets
        # Polars is loaded when /metrics answers already, and once `cancel` knows of the run: that may take a second.

        try:
            with self._failures(collection.secrets):
                return self._collect(collection, served)
        finally:
            self._running = None

    def cancel(self) -> None:
        collection = self._running
        if collection is not None:
            collection.cancelled.set()
            if self._collector is not None:
                self._told(self._collector.cancel, collection.secrets)

    def drop(self) -> None:
        self._served = self._inherited = None
        self._serving.drop(self.name)

    def secrets_changed(self) -> bool:
        return self._secrets is not None and self._secrets.changed

    def close(self) -> None:
        if self._collector is not None:
            self._told(self._collector.close, self._secrets or Secrets())

    def adopt(self, snapshot: Snapshot, wall: float) -> Warm:
        """Serve what another process collected. `wall` is now in Unix seconds."""
        version = snapshot.version if snapshot.program == self._program else None  # another one may map otherwise
        at = datetime.fromtimestamp(snapshot.at, UTC)
        self._served = _Served(version, at, snapshot.rows, snapshot.series, snapshot.warnings, snapshot.blocks)
        self._clashes = self._serving.publish(self.name, snapshot.blocks)
        series = snapshot.series - sum(clash.count for clash in self._clashes)
        return Warm(max(0.0, wall - snapshot.at), snapshot.rows, series, (*snapshot.warnings, *self._clashes))

    def inherit(self, former: SourceJob) -> None:
        """Keep what is served of the source under its former configuration: a restart may serve it, too.

        It has no version: asked with that, the source as it is now could say that nothing has changed.
        """
        served = former._served or former._inherited
        if served is not None and self._keep is not None:
            self._inherited = replace(served, version=None)
            self._keep(self._inherited.snapshot(self.name, self._fingerprint, self._program))

    def _collect(self, collection: Collection, served: _Served | None) -> Outcome:
        from exporter.mapping.render import render  # noqa: PLC0415 - needs Polars, which a warm start does without

        collector = self._collector = self._collector or registry.collector(self._config)
        frame = collector.collect(collection)
        if frame is None:
            return self._unchanged(collection, served)
        rendered = render(frame, self._config.series, collection.fields)
        del frame  # what the metrics need of it, they have
        shared = self._serving.exposition.shared
        blocks = {name: Block.joined(pieces, hashed=name in shared) for name, pieces in rendered.texts()}
        warnings = _redacted((*collection.warnings, *rendered.warnings), collection.secrets)

        found = _Served(collection.version, collection.now, rendered.rows, rendered.series, warnings, blocks)

        def published() -> None:
            self._told(collector.published, collection.secrets)

        return self._outcome(found, collection, published)

    def _outcome(self, found: _Served, collection: Collection, published: Callable[[], None] = lambda: None) -> Outcome:
        def publish() -> tuple[DataWarning, ...]:
            with self._failures(collection.secrets):
                return self._serve(found)

        return Outcome(found.rows, found.series, found.warnings, publish, published)

    @contextmanager
    def _failures(self, secrets: Secrets) -> Iterator[None]:
        """Whatever happens is a CollectError, without any secret."""
        from polars.exceptions import PanicException  # noqa: PLC0415 - Polars is loaded when /metrics answers already

        try:
            yield
        except CollectError as error:
            error.args = (secrets.redact(str(error)),)
            raise error from None
        except (Exception, PanicException) as error:  # noqa: BLE001 - ours, and no reason to end the thread
            raise _internal(self.name, error, secrets) from None

    def _told(self, tell: Callable[[], None], secrets: Secrets) -> None:
        """Tell the collector something; a fault of its own harms neither the data served nor the thread."""
        try:
            tell()
        except Exception as error:  # noqa: BLE001 - ours, whatever it is, and logged
            _internal(self.name, error, secrets)

    def _unchanged(self, collection: Collection, served: _Served | None) -> Outcome:
        """What was served when the source was asked is as good as new, even if it was dropped for its age meanwhile."""
        if served is None or served.version is None:
            raise CollectError("the source says that nothing has changed, but nothing of it is served")
        return self._outcome(replace(served, at=collection.now), collection)

    def _serve(self, served: _Served) -> tuple[DataWarning, ...]:
        if self._served is None or self._served.blocks is not served.blocks or self._clashes:
            self._clashes = self._serving.publish(self.name, served.blocks)
        self._served, self._inherited = served, None
        if self._keep is not None:
            self._keep(served.snapshot(self.name, self._fingerprint, self._program))
        return self._clashes


@dataclass(frozen=True, slots=True)
class _Served:
    """What is served of a source now: the version that its collector named, and when its collection began."""

    version: object | None
    at: datetime
    rows: int
    series: int
    warnings: tuple[DataWarning, ...]
    blocks: Mapping[str, Block]

    def snapshot(self, source: str, config: str, program: str) -> Snapshot:
        version = self.version if isinstance(self.version, str) else None
        at = self.at.timestamp()
        return Snapshot(source, config, program, at, self.rows, self.series, version, self.warnings, self.blocks)


def _internal(source: str, error: BaseException, secrets: Secrets) -> CollectError:
    """Log a fault of the exporter itself, and the error that it is for the source."""
    text = secrets.redact("".join(traceback.format_exception(error)))
    log.error("internal error", source=source, traceback=text)
    return CollectError(secrets.redact(f"{type(error).__name__}: {error}"))


def _redacted(warnings: tuple[DataWarning, ...], secrets: Secrets) -> tuple[DataWarning, ...]:
    return tuple(replace(warning, detail=secrets.redact(warning.detail)) for warning in warnings)
