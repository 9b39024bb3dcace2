"""The worker as a process: settings in, messages out, metrics, a clean stop, no secret in its log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from fakes_slack import SlackStub
from notes import Shop, shop
from prometheus_client import CollectorRegistry
from servers import answers, wait_for

from webhook.config import ConfigError, load_settings
from webhook.worker import build_worker
from webhook.worker_options import worker_options

__all__ = ["shop"]

TOKEN, KEY = "xoxb-secret-token", "sk-very-secret"


def start(folder: Path, **settings: str) -> subprocess.Popen[bytes]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")},
        **{f"SENTINEL_{name}": value for name, value in settings.items()},
        "PYTHONUNBUFFERED": "1",
    }
    with (folder / "out").open("wb") as out, (folder / "log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", "webhook", "worker"], env=environment, stdout=out, stderr=log)


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)  # a worker on SQLite is started below
def test_from_a_stored_decision_to_slack_and_a_clean_stop(
    shop: Shop, store_url: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    port, nobody = free_port(), f"http://127.0.0.1:{free_port()}"
    with SlackStub() as slack:
        process = start(
            tmp_path,
            DATABASE_URL=store_url,
            CHANNELS="console,slack",
            SLACK_BOT_TOKEN=TOKEN,
            SLACK_CHANNEL="#fraud",
            SLACK_API_URL=slack.url,
            LLM_API_KEY=KEY,
            LLM_MODEL="stub-1",
            LLM_BASE_URL=f"{nobody}/v1",
            PROMETHEUS_URL=nobody,
            ALERTMANAGER_URL=nobody,
            WORKER_METRICS_PORT=str(port),
        )
        try:
            wait_for(lambda: answers(f"http://127.0.0.1:{port}/metrics"), what="worker up")
            alert_id = shop.add_alert(started=datetime.now(UTC))
            shop.add_notification(alert_id, at=datetime.now(UTC))
            shop.add_notification(alert_id, at=datetime.now(UTC), channel_type="console")
            wait_for(lambda: slack.messages, what="message")
            wait_for(lambda: b"CARD" in (text := (tmp_path / "out").read_bytes()).upper() and text, what="console")

            def told() -> bool:
                text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
                return 'sentinel_notifications_total{channel="slack",outcome="sent",reason="first"} 1.0' in text

            wait_for(told, what="metrics")
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    log = (tmp_path / "log").read_text()
    assert code == 0, log
    assert "worker_stopped" in log
    assert "ai_summary_refused" in log
    assert '"notification_sent"' in log
    for secret in (TOKEN, KEY):
        assert secret not in log + (tmp_path / "out").read_text()
    assert "http://127.0.0.1:8080/alerts/" in (tmp_path / "out").read_text()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"CHANNELS": "slack"}, "slack wants SENTINEL_SLACK_BOT_TOKEN and SENTINEL_SLACK_CHANNEL"),
        ({"CHANNELS": "pigeon"}, "unknown channel 'pigeon'"),
        ({"WORKER_PARALLEL": "many"}, "SENTINEL_WORKER_PARALLEL"),
        ({"WORKER_SWEEP_INTERVAL": "5"}, "SENTINEL_WORKER_SWEEP_INTERVAL: must be a duration"),
    ],
)
def test_settings_that_do_not_suffice_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], told: str
) -> None:
    """As one line each: the next test, and webhook/__main__.py for every command."""
    for name, value in {"DATABASE_URL": f"sqlite:///{tmp_path}/none.db", **settings}.items():
        monkeypatch.setenv(f"SENTINEL_{name}", value)
    with pytest.raises(ConfigError) as refused:
        build_worker(load_settings(), worker_options(), CollectorRegistry())
    (problem,) = refused.value.problems
    assert told in problem


def test_a_metrics_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/none.db", WORKER_METRICS_PORT=str(port))
        assert process.wait(110) == 1
    told = f"sentinel-webhook: SENTINEL_WORKER_METRICS_PORT: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert (tmp_path / "log").read_text().strip() == told


def test_a_worker_outlives_a_store_that_is_away(tmp_path: Path) -> None:
    """It was started before the schema was there, or the database is down for a while."""
    url = f"sqlite:///{tmp_path}/late.db"
    process = start(tmp_path, DATABASE_URL=url)
    try:
        wait_for(lambda: "round_failed" in (tmp_path / "log").read_text(), what="first round")
        shop = Shop(url)
        shop.add_notification(shop.add_alert(started=datetime.now(UTC)), channel_type="console", at=datetime.now(UTC))
        wait_for(lambda: "Northwind" in (tmp_path / "out").read_text(), what="message")
        shop.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
