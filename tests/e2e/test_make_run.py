"""`make run` as a newcomer sees it: it starts, says where to look, alerts, stops whole, and is plain about errors."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from servers import free_port, listens, wait_for

from demo import run
from demo.run import PORTS

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ("--merchants", "4", "--rate", "0.2", "--seed", "3")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def ports() -> dict[str, int]:
    return {name: free_port() for name in PORTS}


def command(folder: Path, taken: dict[str, int], *options: str) -> list[str]:
    chosen = [part for name, port in taken.items() for part in (f"--{name}-port", str(port))]
    return [sys.executable, "-m", "demo.run", "--dir", str(folder), *chosen, *SMALL, *options]


@contextmanager
def started(folder: Path, chosen: dict[str, int]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = folder.parent / "run.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(folder, chosen), stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True
        )
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def up(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that the person is told to open."""

    def found() -> re.Match[str] | None:
        assert process.poll() is None, log.read_text()[-3000:]
        return re.search(r"Open (http://\S+/login\?token=\S+)", log.read_text())

    return wait_for(found, timeout=240, what="make run is up").group(1)


def test_it_starts_alerts_stops_whole_and_goes_on(tmp_path: Path) -> None:
    folder, chosen = tmp_path / "state", ports()
    with started(folder, chosen) as (process, log):
        link = up(process, log)
        wait_for(lambda: "Card testing" in log.read_text(), timeout=240, what="the merchant's message")
        page = requests.get(link, timeout=60)
        assert "Card testing" in page.text
        assert "token=" not in page.url
        query = {"query": "count(count_over_time(sentinel_block_rate[24h]) > 600)"}
        answer = requests.get(f"http://127.0.0.1:{chosen['prometheus']}/api/v1/query", query, timeout=60).json()
        assert int(answer["data"]["result"][0]["value"][1]) == 4  # every merchant has a day behind it

        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert not [port for port in chosen.values() if listens(port)]
    secret = (folder / "secrets" / "admin_token").read_text()

    with started(folder, chosen) as (process, log):
        assert secret in up(process, log)
        assert "24 hours" not in log.read_text()  # kept, not made again
        assert "Card testing" in requests.get(link, timeout=60).text
    assert not [port for port in chosen.values() if listens(port)]


def refused(monkeypatch: pytest.MonkeyPatch, folder: Path, chosen: dict[str, int], *options: str, busy: int = 0) -> str:
    """The one line that is told instead of a start."""
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)  # it would stay the test process's
    _python, _module, _name, *arguments = command(folder, chosen, *options)
    done = CliRunner().invoke(run.main, arguments, catch_exceptions=False)
    assert done.exit_code == 1, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert line.startswith("make run: ")
    assert not [port for port in chosen.values() if port != busy and listens(port)]
    return line


def test_a_taken_port_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = refused(monkeypatch, tmp_path / "state", {**ports(), "prometheus": port}, busy=port)
    assert f"port {port}, which prometheus needs, is taken" in line
    assert "--prometheus-port" in line


def test_a_missing_binary_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    line = refused(monkeypatch, tmp_path / "state", ports())
    assert "prometheus is not on PATH" in line
    assert "docker compose -f compose.demo.yaml up" in line


@pytest.mark.parametrize(
    ("file", "broken", "named", "cause"),
    [
        (
            "prometheus/rules/velocity.yml",
            "groups: [{name: x, rules: [{alert: A, expr: 'sum('}]}]",
            "prometheus",
            "parse error",
        ),
        ("alertmanager/alertmanager.yml", "route: {receiver: nobody}\nreceivers: []", "alertmanager", "nobody"),
        ("demo/exporter-config.yaml", "exporter: {prot: 8000}\ndata_sources: []", "exporter-config.yaml", "prot"),
        ("demo/merchants.yaml", "- {account_id: acc_001}", "merchants.yaml", "alert_type"),
    ],
)
def test_a_broken_configuration_is_one_line(  # noqa: PLR0917 - parameters and fixtures
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, broken: str, named: str, cause: str
) -> None:
    checkout = tmp_path / "checkout"
    for name in ("alertmanager", "demo", "prometheus"):
        shutil.copytree(ROOT / name, checkout / name)
    (checkout / file).write_text(broken)
    monkeypatch.setattr(run, "ROOT", checkout)
    line = refused(monkeypatch, tmp_path / "state", ports())
    assert named in line
    assert cause in line


def test_a_transactions_file_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nonsense = tmp_path / "payments.csv"
    nonsense.write_text("no,such\ncolumns,here\n")
    line = refused(monkeypatch, tmp_path / "state", ports(), "--transactions", str(nonsense))
    assert "time" in line
