"""`make bench-delivery`: from a payload that is sent to the receiver to the call that Slack gets, without a model.

Alerts are sent at a steady rate, whatever the receiver makes of it. `serve`, `worker`, PostgreSQL and a server that
answers as Slack does run on this machine. Up to 50 alerts/s each is new and of its own merchant. Above, of each ten of
one merchant the first is new and nine are merged into its session, so 500 alerts/s are 50 messages/s: no channel takes
500. They come as Alertmanager sends what is of one account and type: in one payload; `--alone` sends each by itself,
which shows what the receiver does when it cannot follow. A message is told from others by its merchant's name. Nothing
may be missing or told twice. Slack's own limit of one message a second and channel is off, for it would be all that is
measured.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psycopg
import requests

from bench.process import measured
from tests import servers
from tests.fakes_slack import SlackStub

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "bench-ingest-token"  # noqa: S105 - of this run, on loopback
WANTED_P99_S = 1.0
GOAL_RATE = 50
_MERGED = 10
_SENDERS = 32
_MERCHANT = re.compile(r"merchant-\d+-\d{6}")


def start(stack: ExitStack, slack: SlackStub, processes: int) -> str:
    """Start `serve` and `worker` on a PostgreSQL of their own; return the receiver's URL."""
    server = stack.enter_context(servers.postgresql())
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE delivery")
    port = servers.free_port()
    settings = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-"))) / "settings.yaml"
    settings.write_text("channels: {slack: {target_rate: 'off', parallel: 8}}")
    environment = {
        "SENTINEL_CONFIG_FILE": str(settings),
        "SENTINEL_DATABASE_URL": f"{server}/delivery".replace("postgresql://", "postgresql+psycopg://"),
        "SENTINEL_INGEST_TOKEN": TOKEN,
        "SENTINEL_ADMIN_TOKEN": "bench-admin-token-of-some-length",
        "SENTINEL_SECRET_KEY": "bench-page-key-of-some-length",
        "SENTINEL_CHANNELS": "slack",
        "SENTINEL_SLACK_BOT_TOKEN": "xoxb-bench",
        "SENTINEL_SLACK_CHANNEL": "C0FRAUD",
        "SENTINEL_SLACK_API_URL": slack.url,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "webhook"]
    subprocess.run([*command, "migrate"], env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    for arguments in (["serve", "--port", str(port), "--workers", str(processes)], ["worker"]):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))
        stack.enter_context(measured([*command, *arguments], folder, environment))
    servers.wait_for(lambda: servers.answers(f"http://127.0.0.1:{port}/-/ready"), what="sentinel ready")
    return f"http://127.0.0.1:{port}/api/v1/alerts/prometheus/webhook"


def payload(merchant: str, numbers: Iterable[int]) -> bytes:
    return json.dumps({"version": "4", "alerts": [_alert(merchant, number) for number in numbers]}).encode()


def _alert(merchant: str, number: int) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {
            "alertname": "CardTestingDetected", "alert_type": "CARD_TESTING", "severity": "P1",
            "account_id": merchant, "merchant_name": merchant,
        },
        "annotations": {"summary": "Block rate is high", "block_rate": "0.35038363171355497"},
        "startsAt": datetime.now(UTC).isoformat(),
        "fingerprint": f"{merchant}/{number}",
    }  # fmt: skip


def drive(url: str, slack: SlackStub, rate: int, seconds: int, *, alone: bool) -> list[float]:
    """Seconds from when a merchant's first alert is due to Slack's call; RuntimeError when one is missing or twice."""
    merged = 1 if rate <= GOAL_RATE else _MERGED
    together = 1 if alone else merged
    merchants = [f"merchant-{rate}{alone:d}-{number:06d}" for number in range(rate * seconds // merged)]
    sent: dict[str, float] = {}
    own = threading.local()

    def send(merchant: str, numbers: Iterable[int], planned: float) -> None:
        session = own.session = getattr(own, "session", None) or requests.Session()
        sent.setdefault(merchant, planned)
        answer = session.post(url, payload(merchant, numbers), headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
        answer.raise_for_status()

    before, began = len(slack.calls), time.perf_counter()
    with ThreadPoolExecutor(_SENDERS) as pool:
        done = []
        for number in range(0, merged * len(merchants), together):
            planned = began + number / rate
            time.sleep(max(0.0, planned - time.perf_counter()))
            done.append(pool.submit(send, merchants[number // merged], range(number, number + together), planned))
        for each in done:
            each.result()
    servers.wait_for(lambda: len(told(slack, before)) >= len(merchants), timeout=300, what="all messages")
    found = told(slack, before)
    if len(found) != len(merchants):
        raise RuntimeError(f"{len(found)} messages for {len(merchants)} alerts")
    arrived = {match[0]: at for at, text in found if (match := _MERCHANT.search(text))}
    if arrived.keys() != sent.keys():
        raise RuntimeError(f"{len(sent.keys() - arrived.keys())} alerts without a message")
    return [arrived[merchant] - sent[merchant] for merchant in merchants]


def told(slack: SlackStub, since: int) -> list[tuple[float, str]]:
    """When each message came, and all that it says."""
    return [(call.at, json.dumps(call.parameters)) for call in slack.calls[since:] if call.method == "chat.postMessage"]


@click.command()
@click.option(
    "--rate", "rates", multiple=True, type=int, default=(1, GOAL_RATE, 500), show_default=True, help="Alerts/s."
)
@click.option("--alone", is_flag=True, help="Above 50 alerts/s, too, one alert a payload; there is no goal then.")
@click.option("--seconds", default=20, show_default=True, help="At each rate.")
@click.option("--workers", default=2, show_default=True, help="Processes that serve.")
def main(*, rates: Sequence[int], alone: bool, seconds: int, workers: int) -> None:
    """Measure at each rate; exit code 1 when the goal is short."""
    fine = True
    with ExitStack() as stack:
        slack = stack.enter_context(SlackStub())
        url = start(stack, slack, workers)
        for rate in rates:
            times = sorted(drive(url, slack, rate, seconds, alone=alone))
            p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
            print(
                f"  {rate:4} alerts/s, {len(times)} messages: p50 {statistics.median(times):6.3f} s"
                f"  p99 {p99:6.3f} s  longest {times[-1]:6.3f} s",
                flush=True,
            )
            if rate <= GOAL_RATE or not alone:
                told_ok = "ok" if p99 <= WANTED_P99_S else "short"
                fine = fine and told_ok == "ok"
                print(
                    f"goal payload to Slack call at {rate}/s, p99: {p99:.3f} s (wanted <= {WANTED_P99_S:g}) {told_ok}"
                )
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
