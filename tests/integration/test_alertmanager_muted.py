"""The production routes at an hour in which operations alerts of the lowest severity are muted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
import yaml
from alert_receiver import Alertmanager, Receiver, recording_receiver

from demo.derive import derive

ROOT = Path(__file__).resolve().parents[2]
ALL_DAY = {"times": [{"start_time": "00:00", "end_time": "24:00"}]}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with recording_receiver() as recording:
        yield recording


@pytest.fixture
def at_night(receiver: Receiver, tmp_path: Path) -> Iterator[Alertmanager]:
    token = tmp_path / "ingest_token"
    token.write_text("s3cret\n")
    derive(ROOT, tmp_path, speed=150, scale_ranges=False, webhook_url=receiver.url, credentials_file=token)
    file = tmp_path / "alertmanager.yml"
    config = yaml.safe_load(file.read_text())
    config["time_intervals"] = [{"name": "outside-working-hours", "time_intervals": [ALL_DAY]}]
    file.write_text(yaml.safe_dump(config))
    with servers.alertmanager(file) as url:
        yield Alertmanager(url)


def test_operations_that_can_wait_are_muted_and_nothing_else_is(at_night: Alertmanager, receiver: Receiver) -> None:
    def alert(name: str, severity: str, **labels: str) -> dict[str, str]:
        return {"alertname": name, "severity": severity, **labels}

    operations = {"alert_type": "OPERATIONS", "team": "data"}
    card_testing = {"alert_type": "CARD_TESTING", "account_id": "acc_001"}
    at_night.post(
        alert("Stale", "P3", **operations),
        alert("Down", "P2", **operations),
        alert("Gone", "P1", **operations),
        alert("Detected", "P3", **card_testing),
        alert("Nobodys", "P3"),
    )
    for name in ("Down", "Gone", "Detected", "Nobodys"):
        receiver.wait_for(name, "firing")
        receiver.wait_for(name, "firing", after=time.monotonic())  # its group has been flushed once more
    assert at_night.knows("Stale")
    assert receiver.of("Stale", "firing") == []
