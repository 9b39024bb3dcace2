"""Where the production configuration sends each kind of alert, as amtool reads it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import program

CONFIG = Path(__file__).resolve().parents[2] / "alertmanager" / "alertmanager.yml"
MODEL: dict[str, Any] = yaml.safe_load(CONFIG.read_text())

USUAL, URGENT = "sentinel-webhook", "sentinel-webhook-urgent"
OPERATIONS, OPERATIONS_URGENT, DIRECT = "sentinel-operations", "sentinel-operations-urgent", "oncall-direct"

RECEIVERS = {
    # of merchants, by severity
    "severity=P0 account_id=acc_017 alert_type=CARD_TESTING": URGENT,
    "severity=P1 account_id=acc_017 alert_type=CARD_TESTING": URGENT,
    "severity=P2 account_id=acc_017 alert_type=CARD_TESTING": USUAL,
    "severity=P3 account_id=acc_017 alert_type=CARD_TESTING": USUAL,
    "severity=P10 account_id=acc_017 alert_type=CARD_TESTING": USUAL,
    "severity=p1 account_id=acc_017 alert_type=CARD_TESTING": USUAL,
    "account_id=acc_017": USUAL,
    "severity=P1 account_id=acc_017": URGENT,
    "alertname=SomebodysOwn": USUAL,
    "alertname=SomebodysOwn severity=P0": URGENT,
    "severity=P1 account_id=acc_017 alert_type=CARD_TESTING team=platform": URGENT,
    # of operations, by severity and team
    "severity=P0 alert_type=OPERATIONS": OPERATIONS_URGENT,
    "severity=P1 alert_type=OPERATIONS": OPERATIONS_URGENT,
    "severity=P2 alert_type=OPERATIONS alertname=ExporterDown": OPERATIONS,
    "severity=P3 alert_type=OPERATIONS source=payments": OPERATIONS,
    "alert_type=OPERATIONS": OPERATIONS,
    "severity=P1 alert_type=OPERATIONS team=data": OPERATIONS_URGENT,
    "severity=P2 alert_type=OPERATIONS team=data": OPERATIONS,
    "severity=P0 alert_type=OPERATIONS team=platform": f"{DIRECT},{OPERATIONS_URGENT}",
    "severity=P1 alert_type=OPERATIONS team=platform": f"{DIRECT},{OPERATIONS_URGENT}",
    "severity=P2 alert_type=OPERATIONS team=platform": f"{DIRECT},{OPERATIONS}",
    "severity=P3 alert_type=OPERATIONS team=platform": OPERATIONS,
}


@pytest.mark.parametrize(("labels", "receivers"), RECEIVERS.items(), ids=RECEIVERS)
def test_routes(labels: str, receivers: str) -> None:
    command = [program("amtool"), "config", "routes", "test", f"--config.file={CONFIG}", *labels.split()]
    done = subprocess.run([*command, f"--verify.receivers={receivers}"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == receivers


def routes(of: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield of
    for child in of.get("routes", ()):
        yield from routes(child)


def test_every_route_repeats_as_a_heartbeat() -> None:
    """The one time of the root: tests/unit/test_rules.py looks at it."""
    assert [route["repeat_interval"] for route in routes(MODEL["route"]) if "repeat_interval" in route] == ["4m45s"]


def test_only_operations_alerts_of_the_lowest_severity_are_ever_muted() -> None:
    (operations, urgent) = MODEL["route"]["routes"]
    timed = [
        route["matchers"]
        for route in routes(operations)
        if {"mute_time_intervals", "active_time_intervals"} & set(route)
    ]
    assert timed == [['severity="P3"']]
    for route in (MODEL["route"], urgent):
        assert not {"mute_time_intervals", "active_time_intervals"} & set(route)
    assert operations["matchers"] == ['alert_type="OPERATIONS"']


def test_the_token_is_read_from_a_file_and_goes_nowhere_else() -> None:
    for receiver in MODEL["receivers"]:
        for webhook in receiver.get("webhook_configs", ()):
            assert webhook["http_config"]["follow_redirects"] is False
            assert set(webhook["http_config"]["authorization"]) == {"type", "credentials_file"}
            assert webhook["send_resolved"] is True
