"""What is counted of charts, in `serve` and in the worker."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram


class ChartMetrics:
    """Who drew them, how long it took, and why it was not Grafana."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._drawings = Counter(
            "sentinel_chart_drawings", "Charts drawn, and why not by Grafana.", ["by", "why"], registry=registry
        )
        self._seconds = Histogram(
            "sentinel_chart_seconds",
            "From asking for a chart that is not kept to its picture.",
            ["by"],
            buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 20),
            registry=registry,
        )

    def drawn(self, by: str, why: str, seconds: float) -> None:
        self._drawings.labels(by, why).inc()
        self._seconds.labels(by).observe(seconds)
