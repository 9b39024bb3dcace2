"""One source's work: collect, map, render, compress, and hand over for publishing."""

from __future__ import annotations

import traceback
from dataclasses import replace
from datetime import datetime

import structlog
from polars.exceptions import PanicException

from exporter.collectors import registry
from exporter.collectors.base import Collection, SourceConfig
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
        self.runnable = registry.supported(config.type)
        self._config = config
        self._exposition = exposition
        self._collector = registry.collector(config) if self.runnable else None
        self._running: Collection | None = None

    def run(self, now: datetime, deadline: float) -> Outcome:
        """Collect and render. Secrets are read here, at every run, and no error that leaves here shows one."""
        collection = Collection(now=now, deadline=deadline)
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
        self._exposition.drop(self.name)

    def _collect(self, collection: Collection) -> Outcome:
        collector = self._collector or registry.collector(self._config)
        frame = collector.collect(collection)
        rendered = render(frame, self._config.series, collection.fields)
        blocks = {family.name: Block.of(family.text) for family in rendered.families}
        return Outcome(
            rows=rendered.rows,
            series=rendered.series,
            warnings=_redacted((*collection.warnings, *rendered.warnings), collection.secrets),
            publish=lambda: self._exposition.publish(self.name, blocks),
        )


def _redacted(warnings: tuple[DataWarning, ...], secrets: Secrets) -> tuple[DataWarning, ...]:
    return tuple(replace(warning, detail=secrets.redact(warning.detail)) for warning in warnings)
