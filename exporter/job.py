"""One source's work: collect, map, render, compress, and hand over for publishing."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from polars.exceptions import PanicException

from exporter.collectors import registry
from exporter.collectors.base import Collection, Collector, SourceConfig
from exporter.environment import Secrets
from exporter.errors import CollectError
from exporter.exposition import Block, Exposition
from exporter.mapping.render import render
from exporter.mapping.spec import DataWarning
from exporter.scheduler import Outcome

log = structlog.get_logger()


class SourceJob:
    """A source, as the scheduler runs it."""

    def __init__(self, config: SourceConfig, exposition: Exposition) -> None:
        self.name = config.name
        self.interval = config.interval
        self.timeout = config.run_timeout
        self.max_staleness = config.stale_after
        self._config = config
        self._exposition = exposition
        self._collector: Collector | None = None
        self._running: Collection | None = None
        self._served: _Served | None = None

    def run(self, now: datetime, deadline: float) -> Outcome:
        """Collect and render. Secrets are read here, at every run, and no error that leaves here shows one."""
        served = self._served
        collection = Collection(
            now=now,
            deadline=deadline,
            served=served.version if served else None,
            last_success=served.at if served else None,
        )
        self._running = collection
        try:
            return self._collect(collection)
        except CollectError as error:
            error.args = (collection.secrets.redact(str(error)),)
            raise error from None
        except (Exception, PanicException) as error:  # noqa: BLE001 - ours, and no reason to end the thread
            text = collection.secrets.redact("".join(traceback.format_exception(error)))
            log.error("internal error", source=self.name, traceback=text)  # noqa: TRY400 - the text is redacted
            raise CollectError(collection.secrets.redact(f"{type(error).__name__}: {error}")) from None
        finally:
            self._running = None

    def cancel(self) -> None:
        collection = self._running
        if collection is not None and self._collector is not None:
            collection.cancelled.set()
            self._collector.cancel()

    def drop(self) -> None:
        self._served = None
        self._exposition.drop(self.name)

    def close(self) -> None:
        if self._collector is not None:
            self._collector.close()

    def _collect(self, collection: Collection) -> Outcome:
        collector = self._collector = self._collector or registry.collector(self._config)
        frame = collector.collect(collection)
        if frame is None:
            return self._unchanged(collection)
        rendered = render(frame, self._config.series, collection.fields)
        blocks = {family.name: Block.of(family.text) for family in rendered.families}
        warnings = _redacted((*collection.warnings, *rendered.warnings), collection.secrets)

        def publish() -> None:
            self._exposition.publish(self.name, blocks)
            self._served = _Served(collection.version, collection.now, rendered.rows, rendered.series, warnings)
            collector.published()

        return Outcome(rendered.rows, rendered.series, warnings, publish)

    def _unchanged(self, collection: Collection) -> Outcome:
        """What is served is as good as new; but not if it was dropped for its age while the source was asked."""
        served = self._served
        if served is None or served.version is None:
            raise CollectError("the source says that nothing has changed, but nothing of it is served")

        def publish() -> None:
            self._served = replace(served, at=collection.now)

        return Outcome(served.rows, served.series, served.warnings, publish)


@dataclass(frozen=True, slots=True)
class _Served:
    """What is served of a source now: the version that its collector named, and when its collection began."""

    version: object | None
    at: datetime
    rows: int
    series: int
    warnings: tuple[DataWarning, ...]


def _redacted(warnings: tuple[DataWarning, ...], secrets: Secrets) -> tuple[DataWarning, ...]:
    return tuple(replace(warning, detail=secrets.redact(warning.detail)) for warning in warnings)
