"""`sentinel-webhook` as an operator starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from servers import answers, wait_for

TOKEN = "ingest-s3cret"
PAYLOAD = {
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "A", "account_id": "acc_001"},
            "startsAt": "2026-01-05T12:00:00Z",
            "fingerprint": "f",
        }
    ]
}


@pytest.fixture
def environment(store_url: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")},
        "SENTINEL_DATABASE_URL": store_url,
        "SENTINEL_INGEST_TOKEN": TOKEN,
        "SENTINEL_ADMIN_TOKEN": "admin-s3cret-of-some-length",
        "SENTINEL_SECRET_KEY": "page-s3cret-of-some-length",
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "webhook", *arguments]


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment, capture_output=True, text=True, check=False, timeout=110
    )


@pytest.fixture
def serving(environment: dict[str, str], free_port: Callable[[], int], tmp_path: Path) -> Iterator[tuple[str, Path]]:
    assert run(environment, "migrate").stdout == "the database is up to date\n"
    port = free_port()
    log = tmp_path / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command("serve", "--port", str(port), "--workers", "2"), env=environment, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    try:
        # Its address takes connections before it answers: on a busy machine a request may wait longer than it likes.
        wait_for(lambda: process.poll() is not None or answers(f"{url}/-/ready"), timeout=110, what="ready")
        assert process.poll() is None, log.read_text()
        yield url, log
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()


def test_alerts_are_taken_counted_and_logged_without_secrets(serving: tuple[str, Path]) -> None:
    url, log = serving
    for _ in range(4):
        answer = requests.post(
            f"{url}/api/v1/alerts/prometheus/webhook",
            json=PAYLOAD,
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=30,
        )
        assert answer.ok
    # Whichever of the two processes answers, the figures are of both.
    text = requests.get(f"{url}/metrics", timeout=30).text
    assert "sentinel_alerts_received_total 4.0" in text
    assert 'sentinel_alert_outcomes_total{outcome="duplicate"} 3.0' in text
    lines = log.read_text()
    assert '"event": "alert_created"' in lines
    assert "s3cret" not in lines


def test_a_port_that_is_taken_is_one_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(environment, "serve", "--port", str(port))
    assert result.returncode == 1
    assert result.stderr == f"sentinel-webhook: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_bad_settings_are_one_line_each(environment: dict[str, str]) -> None:
    broken = {**environment, "SENTINEL_INGEST_TOKEN": "", "SENTINEL_PUBLIC_URL": "nowhere"}
    result = run(broken, "serve")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "SENTINEL_PUBLIC_URL" in result.stderr
    del broken["SENTINEL_PUBLIC_URL"]
    assert run(broken, "serve").stderr == "sentinel-webhook: SENTINEL_INGEST_TOKEN: must be set\n"


def test_configurations_are_imported(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "merchants.yaml"
    path.write_text("- {account_id: acc_004, alert_type: VELOCITY_ATTACK, enabled: false}\n")
    too_early = run(environment, "config", "import", str(path))
    assert (too_early.returncode, len(too_early.stderr.splitlines())) == (1, 1)
    assert run(environment, "migrate").returncode == 0
    assert run(environment, "config", "import", str(path)).stdout == "1 created, 0 updated, 0 unchanged\n"
    assert run(environment, "config", "import", str(path)).stdout == "0 created, 0 updated, 1 unchanged\n"
    path.write_text("- {account_id: acc_004}\n")
    refused = run(environment, "config", "import", str(path))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"sentinel-webhook: {path}:1: 0.alert_type: ")
