"""A source over HTTP on its own, collecting when the test says so."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import polars as pl
import pytest
import tenacity
from servers import wait_for

from exporter.collectors import http_json, registry
from exporter.collectors.base import Collection, Collector
from exporter.config import parse
from exporter.environment import Secrets

NOW = datetime(2025, 11, 24, 10, 5, 0, 400_000, tzinfo=UTC)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again at once."""
    monkeypatch.setattr(http_json, "_backoff", tenacity.wait_none())


@dataclass
class Source:
    """A collector on its own, collecting when the test says so."""

    collector: Collector
    secrets: Secrets = field(default_factory=Secrets)

    def collection(self, **fields: Any) -> Collection:
        return Collection(**{"now": NOW, "deadline": monotonic() + 60, "secrets": self.secrets} | fields)

    def collect(self, collection: Collection | None = None, **fields: Any) -> pl.DataFrame:
        frame = self.collector.collect(collection or self.collection(**fields))
        assert frame is not None
        return frame

    def rows(self, **fields: Any) -> list[tuple[Any, ...]]:
        return self.collect(**fields).rows()

    def cancelled_once(self, reached: Callable[[], object]) -> None:
        """Collect, with an hour to do so, and cancel that as soon as `reached`."""
        collection = self.collection(deadline=monotonic() + 3600)

        def cancel() -> None:
            wait_for(reached, what="what the collection waits for", timeout=60)
            collection.cancelled.set()
            self.collector.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            self.collect(collection)
        finally:
            thread.join()


@contextmanager
def source(
    text: str, metrics: str = "[{source_field: value, prometheus_name: m, labels: [account_id]}]"
) -> Iterator[Source]:
    """The source that `text` configures, without name and metrics."""
    whole = f"name: source\nmetrics: {metrics}\n{textwrap.dedent(text).strip()}\n"
    (config,) = parse("data_sources:\n  -\n" + textwrap.indent(whole, "    "), "test.yaml").sources
    made = Source(registry.collector(config))
    try:
        yield made
    finally:
        made.collector.close()
