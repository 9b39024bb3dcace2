"""The exposition in use, which a reload replaces while sources go on publishing."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from exporter.collectors.base import SourceConfig
from exporter.exposition import Block, Exposition, Family
from exporter.mapping.spec import DataWarning


class Serving:
    """Publishing and dropping as in Exposition, of whichever is in use. Any thread may call."""

    def __init__(self, sources: Sequence[SourceConfig]) -> None:
        self._lock = threading.Lock()
        self._exposition = _exposition(sources)

    @property
    def exposition(self) -> Exposition:
        return self._exposition

    def publish(self, source: str, blocks: Mapping[str, Block]) -> tuple[DataWarning, ...]:
        with self._lock:
            return self._exposition.publish(source, blocks)

    def drop(self, source: str) -> None:
        with self._lock:
            self._exposition.drop(source)

    def replace(self, sources: Sequence[SourceConfig], keep: Iterable[str]) -> None:
        """Serve these sources from now on; those to `keep` go on with what is served of them now."""
        fresh = _exposition(sources)
        with self._lock:
            for name in keep:
                blocks = self._exposition.blocks(name)
                if blocks:
                    fresh.publish(name, blocks)
            self._exposition = fresh


def _exposition(sources: Sequence[SourceConfig]) -> Exposition:
    families = (
        Family(metric.prometheus_name, metric.type, metric.help_text(source.name))
        for source in sources
        for metric in source.metrics
    )
    return Exposition(families, [source.name for source in sources])
