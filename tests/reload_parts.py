"""An exporter over a file that the test rewrites, and sources for it that an HTTP server answers."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path

from exporter_parts import Running, Scraped
from servers_http import Api

from exporter.app import Exporter
from exporter.config import load
from exporter.scheduler import Clock
from exporter.shard import Shard


class Configured:
    """An exporter over a file that the test rewrites."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "exporter-config.yaml"
        self.warm = folder / "warm"

    def write(self, *sources: str, head: str = "") -> None:
        text = f"exporter: {{port: 0, log_level: DEBUG, warm_start: {self.warm}{head}}}\ndata_sources:\n"
        self.file.write_text(text + "".join(textwrap.dedent(source) for source in sources))

    @contextlib.contextmanager
    def running(self, clock: Clock | None = None, shard: Shard | None = None) -> Iterator[Running]:
        exporter = Exporter(load(self.file), clock=clock, shard=shard, load=lambda: load(self.file))
        exporter.start()
        try:
            yield Running(exporter)
        finally:
            exporter.stop()


def api(server: Api, name: str, interval: str = "1h", more: str = "", metric: str = "sentinel_v") -> str:
    return f"""
- name: {name}
  type: rest_api
  interval: {interval}
  labels: {{at: {name}}}
  endpoint: {server.url}/{name}
  {more}
  metrics: [{{source_field: v, prometheus_name: {metric}, labels: [id]}}]
"""


def asked(server: Api, name: str) -> int:
    return sum(request.path == f"/{name}" for request in server.requests)


def served(scraped: Scraped) -> dict[str, float]:
    return scraped.values("sentinel_v", "at")
