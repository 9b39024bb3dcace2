"""How long the database takes, as a process sees it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

KINDS = ("read", "write")


class DatabaseMetrics:
    """A `webhook.storage.database.Meter`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        seconds = Histogram(
            "sentinel_database_seconds",
            "Time of a transaction, from asking for a connection to giving it back.",
            ["kind"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self._of_kind = {kind: seconds.labels(kind) for kind in KINDS}

    def __call__(self, kind: str, seconds: float) -> None:
        self._of_kind[kind].observe(seconds)
