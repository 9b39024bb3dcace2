"""The whole stack on free ports: real Prometheus, two Alertmanagers, exporter, `serve`, `worker`, and a stub Slack."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import requests
import servers
import yaml
from fakes_slack import SlackStub
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.serving import WSGIRequestHandler, make_server

from demo.derive import derive
from demo.metric_platform import create_app
from demo.payments import TRANSACTION_COLUMNS, PaymentsStore, insert_merchants, insert_transactions, next_transaction_id

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
WINDOW_S = 3600.0
OCCURRENCE_INTERVAL = timedelta(seconds=15)
TOKENS = {
    "INGEST_TOKEN": "ingest-token",
    "ADMIN_TOKEN": "admin-token",
    "SECRET_KEY": "0123456789abcdef0123456789abcdef",
}

MERCHANTS = {"acc_001": "Harbour Books", "acc_002": "Blue Kiosk"}
OWN_THRESHOLD = {
    "account_id": "acc_002",
    "alert_type": "CARD_TESTING",
    "trigger_conditions": [{"metric_name": "block_rate", "operator": ">", "threshold": 0.6}],
}


@dataclass
class Stack:
    payments: PaymentsStore
    slack: SlackStub
    webhook: str
    prometheus: str
    alertmanagers: tuple[str, ...]

    def pay(self, account_id: str, *, approved: int, blocked: int = 0, declined: int = 0) -> None:
        """Write transactions of this moment, each with a card of its own."""
        statuses = ["approved"] * approved + ["blocked"] * blocked + ["declined"] * declined
        with self.payments.write() as connection:
            first = next_transaction_id(connection)
            rows = {name: [None] * len(statuses) for name in TRANSACTION_COLUMNS} | {
                "id": range(first, first + len(statuses)),
                "account_id": [account_id] * len(statuses),
                "card_id": [f"card_{first + number}" for number in range(len(statuses))],
                "amount": [1.5] * len(statuses),
                "status": statuses,
                "created_at": [time.time() - 1] * len(statuses),
            }
            insert_transactions(connection, pl.DataFrame(rows))

    def let_the_window_pass(self) -> None:
        """What was written leaves the rate window, as time would have it."""
        with self.payments.write() as connection:
            connection.exec_driver_sql(f"UPDATE transactions SET created_at = created_at - {2 * WINDOW_S}")

    def delivered(self) -> list[float]:
        """How many webhook calls each Alertmanager has made, failed ones left out."""
        counts = []
        for alertmanager in self.alertmanagers:
            text = requests.get(f"{alertmanager}/metrics", timeout=60).text
            samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
            made, failed = (
                sum(s.value for s in samples if s.name == name and s.labels.get("integration") == "webhook")
                for name in ("alertmanager_notifications_total", "alertmanager_notifications_failed_total")
            )
            counts.append(made - failed)
        return counts

    def get(self, path: str, **parameters: str) -> Any:
        headers = {"Authorization": f"Bearer {TOKENS['ADMIN_TOKEN']}"}
        answer = requests.get(f"{self.webhook}{path}", params=parameters, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json()


def make_payments(url: str) -> PaymentsStore:
    store = PaymentsStore(url)
    store.create(window=WINDOW_S)
    with store.write() as connection:
        frame = pl.DataFrame({"account_id": list(MERCHANTS), "merchant_name": list(MERCHANTS.values())})
        insert_merchants(connection, frame.with_columns(region=pl.lit("EU"), tx_per_minute=pl.lit(1.0)))
    return store


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextmanager
def metric_platform(store: PaymentsStore, token: str) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, create_app(store, token, time.time), threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def with_patience(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    for settings in (config["global"], *config["scrape_configs"]):
        settings |= {"scrape_interval": "10s", "scrape_timeout": "10s"}
    path.write_text(yaml.safe_dump(config))


@contextmanager
def whole_stack(
    folder: Path, store_url: str, payments_url: str, *, further: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """Everything, with waiting times divided by 60. `further`: more settings.

    Scraped less often than that: a scrape has no more time than its interval, and one that fails ends what fires.
    """
    ports = {name: servers.free_port() for name in ("exporter", "webhook", "worker", "prometheus", "am1", "am2")}
    config, webhook = folder / "config", f"http://127.0.0.1:{ports['webhook']}"
    configure(folder, config, ports)
    with ExitStack() as stack:
        payments = make_payments(payments_url)
        stack.callback(payments.close)
        slack = stack.enter_context(SlackStub())
        platform = stack.enter_context(metric_platform(payments, "platform-token"))
        environment = {
            **os.environ,
            **settings_of(config, ports, store_url, slack),
            "PAYMENTS_DATABASE_URL": payments_url,
            "PAYMENTS_INTERVAL": "4s",  # what was collected is served for five times as long
            "PAYMENTS_WINDOW": f"{WINDOW_S:g}s",
            "METRIC_PLATFORM_URL": platform,
            "METRIC_PLATFORM_TOKEN": "platform-token",
            **(further or {}),
        }
        for arguments in (["migrate"], ["config", "import", str(config / "merchants.yaml")]):
            subprocess.run([BIN / "sentinel-webhook", *arguments], env=environment, check=True, cwd=folder)
        for name, command, ready in programs(ports):
            (folder / name).mkdir()
            started = servers.running(command, folder=folder / name, environment=environment, ready=ready)
            stack.enter_context(started)
        alertmanagers = tuple(
            stack.enter_context(servers.alertmanager(config / "alertmanager.yml", port=ports[name]))
            for name in ("am1", "am2")
        )
        prometheus = stack.enter_context(servers.prometheus(config / "prometheus.yml", port=ports["prometheus"]))
        yield Stack(payments, slack, webhook, prometheus, alertmanagers)


def configure(folder: Path, config: Path, ports: Mapping[str, int]) -> None:
    """The files of all of them, into `config`."""
    local = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    token_file = folder / "ingest_token"
    token_file.write_text(TOKENS["INGEST_TOKEN"])
    derive(
        ROOT,
        config,
        speed=60,
        scale_ranges=False,
        exporter=local["exporter"],
        others={
            "sentinel-webhook": [local["webhook"]],
            "sentinel-worker": [local["worker"]],
            "prometheus": [local["prometheus"]],
            "alertmanager": [local["am1"], local["am2"]],
        },
        alertmanagers=[local["am1"], local["am2"]],
        webhook_url=f"http://{local['webhook']}/api/v1/alerts/prometheus/webhook",
        credentials_file=token_file,
    )
    with_patience(config / "prometheus.yml")
    interval = f"{OCCURRENCE_INTERVAL.total_seconds():g}s"
    default = {"session_timeout": interval, "occurrence_interval": interval}
    (config / "webhook.yaml").write_text(yaml.safe_dump({"alert_types": {"default": default}}))
    (config / "merchants.yaml").write_text(yaml.safe_dump([OWN_THRESHOLD]))


def settings_of(config: Path, ports: Mapping[str, int], store_url: str, slack: SlackStub) -> dict[str, str]:
    """Of `serve` and `worker`."""
    own = {
        **TOKENS,
        "DATABASE_URL": store_url,
        "PUBLIC_URL": f"http://127.0.0.1:{ports['webhook']}",
        "PROMETHEUS_URL": f"http://127.0.0.1:{ports['prometheus']}",
        "WORKER_METRICS_PORT": str(ports["worker"]),
        "ALERTMANAGER_URL": f"http://127.0.0.1:{ports['am1']}",
        "CONFIG_FILE": str(config / "webhook.yaml"),
        "CHANNELS": '["slack"]',
        "SLACK_BOT_TOKEN": "xoxb-test",
        "SLACK_CHANNEL": "C0FRAUD",
        "SLACK_API_URL": slack.url,
    }
    return {f"SENTINEL_{name}": value for name, value in own.items()}


def programs(ports: Mapping[str, int]) -> Iterator[tuple[str, list[str], Callable[[], bool]]]:
    """Name, command, and whether it is ready; of the worker nobody asks."""

    def answers(name: str) -> Callable[[], bool]:
        return lambda: servers.answers(f"http://127.0.0.1:{ports[name]}/-/ready")

    own, exporter = str(BIN / "sentinel-webhook"), str(BIN / "sentinel-exporter")
    config = str(ROOT / "demo" / "exporter-config.yaml")
    yield "serve", [own, "serve", "--port", str(ports["webhook"])], answers("webhook")
    yield "worker", [own, "worker"], lambda: True
    yield "exporter", [exporter, "--config", config, "--port", str(ports["exporter"])], answers("exporter")
