"""Where the production configuration sends each kind of alert, as amtool reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from servers import program

CONFIG = Path(__file__).resolve().parents[2] / "alertmanager" / "alertmanager.yml"
MERCHANT = ["account_id=acc_017", "alert_type=CARD_TESTING"]


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["severity=P0", *MERCHANT], "sentinel-webhook-urgent"),
        (["severity=P1", *MERCHANT], "sentinel-webhook-urgent"),
        (["severity=P2", *MERCHANT], "sentinel-webhook"),
        (["severity=P3", *MERCHANT], "sentinel-webhook"),
        (["severity=P10", *MERCHANT], "sentinel-webhook"),
        (["account_id=acc_017"], "sentinel-webhook"),
        (["alertname=SomebodysOwn"], "sentinel-webhook"),
        (["severity=P2", "alert_type=OPERATIONS", "alertname=ExporterDown"], "sentinel-webhook"),
        (["severity=P1", "alert_type=OPERATIONS"], "sentinel-webhook"),
    ],
    ids=" ".join,
)
def test_routes(labels: list[str], receiver: str) -> None:
    command = [program("amtool"), "config", "routes", "test", f"--config.file={CONFIG}", *labels]
    done = subprocess.run([*command, f"--verify.receivers={receiver}"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == receiver
