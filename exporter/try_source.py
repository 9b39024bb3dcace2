"""One source, run once in this process: what `test-source` does, apart from telling it."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic

import polars as pl
import structlog
from polars.exceptions import PanicException

from exporter.collectors import registry
from exporter.collectors.base import Collection, Collector, Measure, SourceConfig
from exporter.environment import Secrets
from exporter.errors import CollectError, TimedOut
from exporter.exposition import Block, Exposition, Family, Page
from exporter.mapping.render import Rendered, render
from exporter.mapping.spec import DataWarning

log = structlog.get_logger()
_LOOK_EVERY = 0.1
_GRACE = 0.5  # after its timeout, in which a collector may still end by itself
_END_WITHIN = 5.0  # after it was cancelled
_AGAIN_AFTER = 1.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What one run brought. Times are in seconds; texts have no secrets in them."""

    frame: pl.DataFrame
    fields: tuple[str, ...]
    rendered: Rendered
    page: Page
    warnings: tuple[DataWarning, ...]
    measures: tuple[Measure, ...]
    collecting: float
    rendering: float
    secrets: Secrets

    @property
    def text(self) -> str:
        return b"".join(self.page.parts(gzip=False)).decode()

    @property
    def compressed_size(self) -> int:
        return sum(map(len, self.page.parts(gzip=True)))


class SourceTrial:
    """Runs a source in a thread of its own, so that it can be cancelled while it waits."""

    def __init__(self, config: SourceConfig, progress: Callable[[float], None] = lambda _: None) -> None:
        """`progress` is called with the seconds since the start, several times a second."""
        self._config = config.for_trial()
        self._progress = progress
        self._collector: Collector | None = None
        self.collection = self._fresh()

    def run(self, wait: float = 0.0) -> Trial:
        """Collect, and again for up to `wait` seconds while there are no rows. CollectError as in the exporter.

        On KeyboardInterrupt the source is cancelled first.
        """
        began = monotonic()
        try:
            while True:
                frame = self._collected(began)
                if len(frame) or monotonic() - began >= wait:
                    return self._rendered(frame, monotonic() - began)
                self.collection.sleep(_AGAIN_AFTER)
                self.collection = replace(self._fresh(), measures=self.collection.measures)
        finally:
            if self._collector is not None:
                self._collector.close()

    def _fresh(self) -> Collection:
        return Collection(now=datetime.now(UTC), deadline=monotonic() + self._config.run_timeout)

    def _collected(self, began: float) -> pl.DataFrame:
        """The frame of one collection, which runs in a thread while this one looks after it."""
        result: list[pl.DataFrame | CollectError] = []
        thread = threading.Thread(target=lambda: result.append(self._attempt()), name="trial", daemon=True)
        thread.start()
        try:
            while thread.is_alive() and monotonic() < self.collection.deadline + _GRACE:
                thread.join(_LOOK_EVERY)
                self._progress(monotonic() - began)
        finally:
            if thread.is_alive():
                self._cancel()
                thread.join(_END_WITHIN)
        found = result[0] if result else TimedOut("no end within the source's timeout, nor when it was cancelled")
        if isinstance(found, CollectError):
            raise found
        return found

    def _cancel(self) -> None:
        self.collection.cancelled.set()
        if self._collector is not None:
            self._collector.cancel()

    def _attempt(self) -> pl.DataFrame | CollectError:
        """Whatever breaks is told like a failed collection, and without any secret."""
        secrets = self.collection.secrets
        try:
            self._collector = self._collector or registry.collector(self._config)
            frame = self._collector.collect(self.collection)
            return (
                frame
                if frame is not None
                else CollectError("the source says that nothing has changed at the first run")
            )
        except CollectError as error:
            error.args = (secrets.redact(str(error)),)
            return error
        except (Exception, PanicException) as error:  # noqa: BLE001 - ours, told as such
            text = secrets.redact("".join(traceback.format_exception(error)))
            log.error("internal error", source=self._config.name, traceback=text)  # noqa: TRY400 - the text is redacted
            return CollectError(secrets.redact(f"{type(error).__name__}: {error}"))

    def _rendered(self, frame: pl.DataFrame, collecting: float) -> Trial:
        config, collection, began = self._config, self.collection, monotonic()
        secrets = collection.secrets
        try:
            rendered = render(frame, config.series, collection.fields)
        except CollectError as error:
            error.args = (secrets.redact(str(error)),)
            raise error from None
        families = [Family(each.prometheus_name, each.type, each.help_text(config.name)) for each in config.metrics]
        exposition = Exposition(families, [config.name])
        exposition.publish(config.name, {family.name: Block.joined(family.pieces()) for family in rendered.families})
        page, rendering = exposition.page("text"), monotonic() - began
        told = (*collection.warnings, *rendered.warnings)
        warnings = tuple(replace(warning, detail=secrets.redact(warning.detail)) for warning in told)
        fields = tuple(frame.columns if collection.fields is None else collection.fields)
        measures = tuple(collection.measures)
        return Trial(frame, fields, rendered, page, warnings, measures, collecting, rendering, secrets)
