"""The composition root: from a configuration to a running exporter."""

from __future__ import annotations

import threading

import structlog

from exporter.config import ExporterConfig
from exporter.exposition import Exposition, Family
from exporter.job import SourceJob
from exporter.scheduler import Clock, Scheduler
from exporter.self_metrics import SelfMetrics, package_version
from exporter.server import Server
from exporter.status_page import status_page

log = structlog.get_logger()


class Exporter:
    """Everything that runs, wired together. `start` and `stop` are called once each."""

    def __init__(self, config: ExporterConfig, *, clock: Clock | None = None) -> None:
        """Binds the HTTP address, so that AddressTaken is raised before any source is asked."""
        self._clock = clock or Clock()
        sources = config.enabled
        self._exposition = Exposition(
            (
                Family(metric.prometheus_name, metric.type, metric.help_text(source.name))
                for source in sources
                for metric in source.metrics
            ),
            [source.name for source in sources],
        )
        self._scheduler = Scheduler([SourceJob(source, self._exposition) for source in sources], self._clock)
        self._types = {source.name: source.type for source in sources}
        self._self_metrics = SelfMetrics(self._scheduler, self._clock)
        self._server = Server(config.server.host, config.server.port, self)
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        name = host.decode() if isinstance(host, bytes) else host
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    @property
    def ready(self) -> bool:
        """Whether every enabled source has been tried once."""
        return self._scheduler.ready

    def metrics(self, *, gzip: bool) -> list[bytes]:
        """A whole scrape: the sources' blocks, then the exporter's own metrics."""
        return self._exposition.page().then(self._self_metrics.block()).parts(gzip=gzip)

    def status_page(self) -> str:
        return status_page(
            self._scheduler.states,
            self._types,
            wall=self._clock.wall(),
            monotonic=self._clock.monotonic(),
            version=package_version(),
        )

    def start(self) -> None:
        self._serving.start()
        self._scheduler.start()
        log.info("exporter started", url=self.url, sources=len(self._types))

    def stop(self) -> None:
        """End within about a second, whatever the sources are doing."""
        self._scheduler.stop()
        self._server.shutdown()
        self._server.server_close()
        self._serving.join(timeout=1)
        log.info("exporter stopped")
