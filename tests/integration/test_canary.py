"""Test messages: they go the way of messages, are measured, and stand nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from notes import NOW, Shop, shop
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from webhook.config import ConfigError, load_settings
from webhook.domain.message import Message
from webhook.notifiers.console import Console
from webhook.pipeline.canary import Canary
from webhook.pipeline.delivery_metrics import DeliveryMetrics
from webhook.pipeline.dispatch import Dispatcher
from webhook.ports import Receipt, TemporaryDeliveryError
from webhook.storage.outbox import Outbox
from webhook.storage.tables import alert, notification

__all__ = ["shop"]


class Line(Console):
    def __init__(self) -> None:
        super().__init__()
        self.sent, self.down = list[tuple[Message, Mapping[str, Any]]](), False

    def send(self, message: Message, settings: Mapping[str, Any], before: Receipt | None = None) -> Receipt:  # noqa: ARG002
        if self.down:
            raise TemporaryDeliveryError("no answer")
        self.sent.append((message, settings))
        return Receipt()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_canary_is_measured_and_stands_nowhere(shop: Shop) -> None:
    registry, line = CollectorRegistry(), Line()
    metrics = DeliveryMetrics(registry)
    sender = Dispatcher(Outbox(shop.database), {"console": line}, "http://sentinel", "one", lambda: NOW, metrics)
    canary = Canary(sender, {"console": line}, {"console": {"channel": "C1"}}, "http://sentinel", metrics, lambda: NOW)

    canary.run_once(NOW)
    sender.finish(60)
    line.down = True
    with capture_logs() as logs:
        canary.run_once(NOW)
        sender.finish(60)
        sender.close()

    ((message, settings),) = line.sent
    assert message.title.startswith("TEST")
    assert settings == {"channel": "C1"}
    of = {"channel": "console"}
    assert registry.get_sample_value("sentinel_canary_seconds_count", of) == 1
    assert registry.get_sample_value("sentinel_canary_last_success_timestamp_seconds", of) == NOW.timestamp()
    assert registry.get_sample_value("sentinel_canary_failures_total", of) == 1
    assert [(entry["event"], entry["channel"]) for entry in logs] == [("canary_failed", "console")]
    assert shop.rows(notification) == shop.rows(alert) == []


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_channel_that_is_dead_from_the_start_is_measured_too(shop: Shop) -> None:
    """CanaryNotDelivered has nothing to compare where there is no series."""
    registry, line = CollectorRegistry(), Line()
    line.down = True
    metrics = DeliveryMetrics(registry)
    sender = Dispatcher(Outbox(shop.database), {"console": line}, "http://sentinel", "one", lambda: NOW, metrics)
    canary = Canary(sender, {"console": line}, {"console": {"channel": "C1"}}, "http://sentinel", metrics, lambda: NOW)
    last = "sentinel_canary_last_success_timestamp_seconds"
    assert registry.get_sample_value(last, {"channel": "console"}) is None

    canary.run_once(NOW)
    sender.finish(60)
    assert registry.get_sample_value(last, {"channel": "console"}) == 0

    line.down = False
    canary.run_once(NOW)
    sender.finish(60)
    line.down = True
    canary.run_once(NOW)
    sender.finish(60)
    sender.close()
    assert registry.get_sample_value(last, {"channel": "console"}) == NOW.timestamp()


def test_on_call_channels_are_read_from_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "operations: {channels: {slack: {channel: C0ONCALL}}}\ncanary: {every: 1m, channels: {console: {}}}"
    )
    monkeypatch.setenv("SENTINEL_CONFIG_FILE", str(file))
    settings = load_settings()
    assert settings.ingest.operations == {"slack": {"channel": "C0ONCALL"}}
    assert settings.canary is not None
    assert settings.canary.channels == {"console": {}}


def test_there_is_no_canary_where_each_would_open_an_incident(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("canary: {channels: {pagerduty: {}, console: {}}}")
    monkeypatch.setenv("SENTINEL_CONFIG_FILE", str(file))
    with pytest.raises(ConfigError, match="no canary on pagerduty: each message would be one more to deal with"):
        load_settings()
