"""One file source at a time, collected as the exporter does it, without its schedule."""

from __future__ import annotations

import gzip
import io
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
from servers import wait_for

from exporter.collectors import registry
from exporter.collectors.base import Collection, Collector
from exporter.environment import Secrets
from exporter.errors import CollectError

METRIC = {"source_field": "rate", "prometheus_name": "sentinel_rate", "labels": ["account_id"]}
ROWS = [{"account_id": f"{number:03d}", "rate": number / 8, "region": "EU"} for number in range(5)]


@dataclass
class Source:
    """A source's collector, and what it said of its collections."""

    collector: Collector
    environ: dict[str, str]
    served: object | None = None
    last: Collection | None = None

    def collect(self, *, now: datetime | None = None, timeout: float = 60) -> pl.DataFrame | None:
        """One collection, after which its data is served; `served` of the next one is its version."""
        self.last = Collection(
            now or datetime.now(UTC), time.monotonic() + timeout, Secrets(self.environ), served=self.served
        )
        frame = self.collector.collect(self.last)
        if frame is not None:
            self.served = self.last.version
        return frame

    def rates(self, **options: Any) -> dict[str, str]:
        """Rate, as text, by account."""
        frame = self.collect(**options)
        assert frame is not None
        return dict(zip(frame["account_id"].cast(pl.String), frame["rate"].cast(pl.String), strict=True))

    def error(self, **options: Any) -> tuple[str, str]:
        """Reason and message of the failure, as people see it."""
        error = self.failure(**options)
        assert self.last is not None
        return error.reason, self.last.secrets.redact(str(error))

    def failure(self, **options: Any) -> CollectError:
        try:
            frame = self.collect(**options)
        except CollectError as error:
            return error
        raise AssertionError(f"no failure, but {frame}")

    def cancelled_once(self, reached: Callable[[], object]) -> CollectError:
        """The failure of a collection that has an hour, and is cancelled as soon as `reached`."""

        def cancel() -> None:
            wait_for(reached, what="what the collection waits for", timeout=60)
            assert self.last is not None
            self.last.cancelled.set()
            self.collector.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            return self.failure(timeout=3600)
        finally:
            thread.join()


def source(kind: str, environ: dict[str, str] | None = None, **keys: Any) -> Source:
    document = {"name": "reports", "type": kind, "metrics": [METRIC], **keys}
    config = registry.config_model(kind).model_validate(document)
    return Source(registry.collector(config), environ or {})


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(rows).write_parquet(out)
    return out.getvalue()


def csv(rows: list[dict[str, Any]]) -> bytes:
    return pl.DataFrame(rows).write_csv().encode()


def gzipped(content: bytes | str) -> bytes:
    return gzip.compress(content.encode() if isinstance(content, str) else content, mtime=0)
