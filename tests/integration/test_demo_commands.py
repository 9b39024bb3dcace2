"""`python -m demo` as a person uses it: real processes on free ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import requests
import sqlalchemy as sa
from servers import answers, wait_for
from stores import migrate

from demo.__main__ import main
from demo.metric_platform import PATH
from demo.payments import PaymentsStore
from demo.report import load_alerts
from webhook.storage import tables

TOKEN = "platform-secret"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PAYMENTS_DATABASE_URL": f"sqlite:///{tmp_path}/payments.sqlite",
        "SENTINEL_DATABASE_URL": f"sqlite:///{tmp_path}/sentinel.sqlite",
        "METRIC_PLATFORM_TOKEN": TOKEN,
    }


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def demo(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """`demo("attack", "list")`: the command line in this process."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return Outcome(int(ended.value.code or 0), *capfd.readouterr())

    return run


@contextmanager
def serving(environment: dict[str, str], port: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "demo", "serve", "--port", str(port), *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: healthy(port) or process.poll() is not None)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def healthy(port: int) -> bool:
    return answers(f"http://127.0.0.1:{port}/-/healthy")


def metrics(port: int, **times: str) -> dict[str, dict[str, float]]:
    """Of the last window, or of the times that are told."""
    url, bearer = f"http://127.0.0.1:{port}{PATH}", {"Authorization": f"Bearer {TOKEN}"}
    answer = requests.get(url, times, headers=bearer, timeout=60)
    answer.raise_for_status()
    return {
        row["account_id"]: {metric["metric_name"]: metric["metric_value"] for metric in row["metrics"]}
        for row in answer.json()["data"]
    }


def test_the_first_attack_starts_by_itself_and_stops_on_command(
    environment: dict[str, str], demo: Callable[..., Outcome], free_port: Callable[[], int]
) -> None:
    port = free_port()
    with serving(
        environment, port, "--merchants", "5", "--attack-merchant", "acc_002", "--attack-after", "1s"
    ) as process:
        wait_for(lambda: metrics(port).get("acc_002", {}).get("transaction_count", 0) > 100)
        # What was paid before it began, however long that took, leaves the window in time.
        wait_for(lambda: metrics(port)["acc_002"]["failed_auth_rate"] > 0.7)
        wait_for(lambda: "running until" in demo("attack", "list").stdout)
        listed = demo("attack", "list").stdout
        assert "acc_002      card_testing" in listed
        begun = demo("attack", "start", "--merchant", "lotus", "--type", "velocity", "--minutes", "9")
        assert begun.stdout == "velocity attack on acc_003: 300 a second for 9 min\n"
        wait_for(lambda: metrics(port).get("acc_003", {}).get("transaction_count", 0) > 500)
        stopped = demo("attack", "stop").stdout
        assert "stopped: card_testing attack on acc_002" in stopped
        assert "stopped: velocity attack on acc_003" in stopped
        other = demo("serve", "--port", str(port), "--merchants", "5", "--no-attack")
        assert (other.code, other.stderr) == (2, f"port {port} is taken; choose another with --port\n")
    assert process.returncode == 0


def test_mistakes_get_one_plain_line_and_exit_code_2(
    demo: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    early = demo("attack", "start", "--merchant", "acc_001", "--type", "velocity")
    assert (early.code, "start the demo first" in early.stderr) == (2, True)
    short = ("--merchants", "2", "--rate", "0.5", "--keep", "10m")
    assert demo("history", *short).code == 0
    for arguments, words in (
        (("--merchant", "nobody", "--type", "velocity"), "there are: acc_001 Harbour Coffee Roasters, acc_002"),
        (("--merchant", "acc_001", "--type", "ddos"), "there are: card_testing, velocity, account_takeover"),
    ):
        refused = demo("attack", "start", *arguments)
        assert refused.code == 2
        assert words in refused.stderr
        assert refused.stderr.count("\n") == 1
    begun = demo("attack", "start", "--merchant", "acc_001", "--type", "velocity")
    assert "the demo's server does not run" in begun.stdout
    monkeypatch.setenv("METRIC_PLATFORM_TOKEN", "")
    silent = demo("serve")
    assert (silent.code, "METRIC_PLATFORM_TOKEN is not set" in silent.stderr) == (2, True)
    assert demo("report").stderr == (
        "the webhook's database cannot be read: (sqlite3.OperationalError) no such table: alert\n"
    )
    assert "acc_002" in demo("merchants").stdout


def own_file(folder: Path) -> Path:
    """Two days of two merchants, 20 transactions an hour; merchant b is defrauded on the second day's morning."""
    start = datetime(2024, 3, 1, tzinfo=UTC).timestamp()
    rows = [
        {
            "ts": datetime.fromtimestamp(start + 180 * k, UTC).isoformat(),
            "merchant": "ab"[k % 2],
            "card": f"c{k % 17}",
            "amount": 20.0,
            "status": "declined" if k % 10 == 0 else "approved",
            "fraud": int(k % 2 == 1 and 24 * 20 < k < 30 * 20),
        }
        for k in range(48 * 20)
    ]
    path = folder / "own.csv"
    pl.DataFrame(rows).write_csv(path)
    return path


def test_own_data_is_replayed_and_reported_on(
    environment: dict[str, str], demo: Callable[..., Outcome], free_port: Callable[[], int], tmp_path: Path
) -> None:
    file, port = own_file(tmp_path), free_port()
    speed = ("--speed", "28800")  # two days in six seconds
    plan = json.loads(demo("serve", "--replay", str(file), *speed, "--plan-json").stdout)
    assert (plan["window"], plan["wall_window"]) == (43_200.0, 1.5)
    shown = demo("replay", str(file), *speed, "--plan").stdout
    assert "time        ts" in shown
    assert "no chargeback column" in shown
    with serving(environment, port, "--replay", str(file), *speed, "--replay-after", "1s"):
        wait_for(lambda: store_count(environment) == 48 * 20, what="the last payment", step=0.2)
        whole = {"time_from": wall_time(environment, 0), "time_to": wall_time(environment, 48)}
        served = metrics(port, **whole)
        assert set(served) == {"a", "b"}
        assert served["a"].keys() >= {"failed_auth_rate", "transaction_count"}
        assert "chargeback_rate" not in served["a"]
        refused = demo("attack", "start", "--merchant", "a", "--type", "velocity")
        assert (refused.code, "replays a file" in refused.stderr) == (2, True)
    alert_during_second_morning(environment)
    text = demo("report").stdout
    assert "1 alerts on 1 merchants" in text
    assert "labelled frauds covered: 60 of 60 (100.0%)" in text
    assert "alerts with no labelled fraud inside: 0 of 1" in text


def store_count(environment: dict[str, str]) -> int:
    store = PaymentsStore(environment["PAYMENTS_DATABASE_URL"])
    with store.read() as connection:
        count: int = connection.execute(sa.text("SELECT count(*) FROM transactions")).scalar_one()
    store.close()
    return count


def wall_time(environment: dict[str, str], hours: float) -> str:
    """When what the file has `hours` after its first midnight was replayed, as ISO 8601."""
    store = PaymentsStore(environment["PAYMENTS_DATABASE_URL"])
    with store.read() as connection:
        replay = connection.execute(sa.text("SELECT value FROM settings WHERE name = 'replay'")).scalar_one()
    store.close()
    return datetime.fromtimestamp(json.loads(replay)["start"] + hours * 3600 / 28_800, UTC).isoformat()


def alert_during_second_morning(environment: dict[str, str]) -> None:
    """What the webhook would have stored: merchant b fired from 01:00 to 06:00 of the second day."""
    fired, ended = (datetime.fromisoformat(wall_time(environment, hours)) for hours in (25, 30))
    migrate(environment["SENTINEL_DATABASE_URL"])
    engine = sa.create_engine(environment["SENTINEL_DATABASE_URL"])
    key = "00000000-0000-0000-0000-000000000001"
    common = {"account_id": "b", "alert_type": "VELOCITY_ATTACK", "condition_fingerprint": "f"}
    with engine.begin() as connection:
        connection.execute(
            sa.insert(tables.alert).values(
                id=key, merchant_name="b", original_severity="P2", title="t", metrics_data={}, metadata={},
                created_at=fired, updated_at=fired, **common,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(tables.alert_dynamic).values(
                id=key, alert_id=key, condition_fingerprint="f", current_severity="P2", status="ACTIVE",
                occurrence_count=1, session_started_at=fired, session_last_active=ended, session_status="ACTIVE",
                first_triggered_at=fired, last_triggered_at=ended, latest_metrics={},
                escalation_history={}, version=1, updated_at=ended,
            )
        )  # fmt: skip
        for number, (status, at) in enumerate((("firing", fired), ("resolved", ended)), 1):
            connection.execute(
                sa.insert(tables.alert_trigger_log).values(
                    id=f"00000000-0000-0000-0000-00000000000{number}", alert_id=key, source="alertmanager",
                    fingerprint="x", alert_name="V", status=status, severity="P2", starts_at=fired, ends_at=ended,
                    metrics_data={}, labels={}, annotations={}, verdict={}, outcome="created", created_at=at, **common,
                )
            )  # fmt: skip
    engine.dispose()


def test_the_report_reads_alerts_of_both_databases(store_url: str) -> None:
    migrate(store_url)
    assert load_alerts(store_url) == []
