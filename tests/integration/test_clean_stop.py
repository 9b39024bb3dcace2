"""SIGTERM while work is under way: it is finished, and the process ends well.

What holds the work up is the test's own: nothing here is a matter of time. So the time that a stop takes is raised.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from notes import Shop
from servers import answers, wait_for
from stores import migrate

INGEST, ADMIN = "ingest-s3cret-of-some-length", "admin-s3cret-of-some-length"
BODY = json.dumps({"alerts": [{"status": "firing", "labels": {"alertname": "A", "account_id": "acc_001"},
                               "startsAt": "2026-01-05T12:00:00Z", "fingerprint": "f"}]}).encode()  # fmt: skip
PATIENT = """
import webhook.{module} as running
running.{name} = 300
from webhook.__main__ import main
main({arguments!r})
"""


@contextmanager
def started(
    folder: Path, url: str, module: str, name: str, *arguments: str, stdout: int = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A command with all patience, and its log."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("SENTINEL_")},
        "SENTINEL_DATABASE_URL": url,
        "SENTINEL_INGEST_TOKEN": INGEST,
        "SENTINEL_ADMIN_TOKEN": ADMIN,
        "SENTINEL_SECRET_KEY": "page-s3cret-of-some-length",
        "SENTINEL_PROMETHEUS_URL": "http://127.0.0.1:9",
        "SENTINEL_ALERTMANAGER_URL": "http://127.0.0.1:9",
        "PROMETHEUS_MULTIPROC_DIR": str(folder),
    }
    words = [sys.executable, "-c", PATIENT.format(module=module, name=name, arguments=list(arguments))]
    path = folder / "log"
    with path.open("wb") as log:
        process = subprocess.Popen(words, env=environment, stdout=stdout, stderr=log)
    try:
        yield process, path
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/sentinel.db"


def test_a_request_under_way_is_answered(url: str, free_port: Callable[[], int], tmp_path: Path) -> None:
    migrate(url)
    port = free_port()
    with started(tmp_path, url, "server", "STOP_WITHIN_S", "serve", "--port", str(port)) as (process, log):
        base = f"http://127.0.0.1:{port}"
        wait_for(lambda: process.poll() is not None or answers(f"{base}/-/ready"), timeout=110, what="ready")
        live = requests.get(
            f"{base}/live/events", headers={"Authorization": f"Bearer {ADMIN}"}, stream=True, timeout=110
        )
        assert live.status_code == 200, live.text
        with socket.create_connection(("127.0.0.1", port), timeout=110) as caller:
            head = f"POST /api/v1/alerts/prometheus/webhook HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {INGEST}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n"
            caller.sendall(f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
            assert caller.recv(100).startswith(b"HTTP/1.1 100"), "the request is being read"
            process.send_signal(signal.SIGTERM)
            live.content  # noqa: B018 - it ends when the process has heard the signal
            caller.sendall(BODY)
            answer = caller.recv(1000)
        assert answer.startswith(b"HTTP/1.1 200"), log.read_text()
        assert process.wait(110) == 0, log.read_text()


def test_a_message_being_sent_is_sent_and_recorded(url: str, tmp_path: Path) -> None:
    """The console's reader takes nothing until the worker has heard the signal."""
    shop = Shop(url)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = 0
    with suppress(BlockingIOError):
        while True:
            filled += os.write(writer, b"." * 4096)
    os.set_blocking(writer, True)
    with started(tmp_path, url, "worker", "STOP_WITHIN", "worker", stdout=writer) as (process, log):
        os.close(writer)
        now = datetime.now(UTC)
        sent = shop.add_notification(shop.add_alert(started=now), at=now, channel_type="console")
        wait_for(lambda: shop.row(sent)["status"] == "SENDING", timeout=110, what="the message under way")
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: "worker_stopping" in log.read_text(), what="the signal heard")
        assert process.poll() is None
        with os.fdopen(reader, "rb") as text:
            told = text.read()[filled:]
        assert process.wait(110) == 0, log.read_text()
    assert b"Northwind" in told
    assert shop.row(sent)["status"] == "SENT"
    shop.close()
