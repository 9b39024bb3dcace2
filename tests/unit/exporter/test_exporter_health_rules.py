"""The exporter gives the health metrics that the operations rules read."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from exporter.scheduler import Clock, SourceState
from exporter.self_metrics import SourceHealth

ROOT = Path(__file__).resolve().parents[3]


def test_every_metric_of_the_operations_rules_is_there_for_each_source() -> None:
    state = SourceState("payments", 30.0, attempts=1, last_success_at=1_700_000_000.0)
    registry = CollectorRegistry()
    registry.register(SourceHealth(lambda: [state], Clock()))
    read = set(re.findall(r"sentinel_\w+", (ROOT / "prometheus" / "rules" / "exporter.yml").read_text()))
    values = {
        name: registry.get_sample_value(name, {"source": "payments"}) for name in read - {"sentinel_exporter_health"}
    }
    assert values == {
        "sentinel_last_update_timestamp": 1_700_000_000.0,
        "sentinel_source_interval_seconds": 30.0,
        "sentinel_source_up": 1.0,
    }
