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
from click.testing import CliRunner, Result
from servers import answers, wait_for
from stores import migrate

from webhook.__main__ import main

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
def environment(tmp_path: Path) -> dict[str, str]:
    """Over SQLite; over PostgreSQL the whole stack runs (tests/e2e/test_attack.py)."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")},
        "SENTINEL_DATABASE_URL": f"sqlite:///{tmp_path}/sentinel.db",
        "SENTINEL_INGEST_TOKEN": TOKEN,
        "SENTINEL_ADMIN_TOKEN": "admin-s3cret-of-some-length",
        "SENTINEL_SECRET_KEY": "page-s3cret-of-some-length",
    }


def test_charts_are_drawn_without_delay_from_the_start(serving: tuple[str, Path]) -> None:
    """Each process loads what draws them before anybody asks for one."""
    _, log = serving
    wait_for(lambda: log.read_text().count('"charts_ready"') == 2, what="both processes to have loaded it")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "webhook", *arguments]


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A command that ends by itself, in this process; `changes` are settings, None for one that is not set."""

    def invoke(*arguments: str, **changes: str | None) -> Result:
        for name, value in {**environment, **{f"SENTINEL_{key}": text for key, text in changes.items()}}.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        return CliRunner().invoke(main, arguments, catch_exceptions=False)

    return invoke


@pytest.fixture
def serving(environment: dict[str, str], free_port: Callable[[], int], tmp_path: Path) -> Iterator[tuple[str, Path]]:
    migrate(environment["SENTINEL_DATABASE_URL"])
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
        words = command("serve", "--port", str(port))
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 1
    assert done.stderr == f"sentinel-webhook: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_bad_settings_are_one_line_each(run: Callable[..., Result]) -> None:
    result = run("serve", INGEST_TOKEN="", PUBLIC_URL="nowhere")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "SENTINEL_PUBLIC_URL" in result.stderr
    result = run("serve", INGEST_TOKEN="", PUBLIC_URL=None)
    assert result.stderr == "sentinel-webhook: SENTINEL_INGEST_TOKEN: must be set\n"


def test_configurations_are_imported(run: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "merchants.yaml"
    path.write_text("- {account_id: acc_004, alert_type: VELOCITY_ATTACK, enabled: false}\n")
    too_early = run("config", "import", str(path))
    assert (too_early.exit_code, len(too_early.stderr.splitlines())) == (1, 1)
    assert run("migrate").stdout == "the database is up to date\n"
    assert run("config", "import", str(path)).stdout == "1 created, 0 updated, 0 unchanged\n"
    assert run("config", "import", str(path)).stdout == "0 created, 0 updated, 1 unchanged\n"
    path.write_text("- {account_id: acc_004}\n")
    refused = run("config", "import", str(path))
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"sentinel-webhook: {path}:1: 0.alert_type: ")
