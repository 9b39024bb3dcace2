"""`make bench-webhook`: Sentinel's receiver beside Alerta, on one PostgreSQL, driven by wrk in turn.

Both run under gunicorn with the same number of workers and threads. Each round drives one after the other with the
same payloads. What was answered with 200 is looked for in the database afterwards: no alert may be lost.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
import psycopg

from bench.process import measured
from tests import servers

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "bench-ingest-token"  # noqa: S105 - of this run, on loopback
SENTINEL, ALERTA = "sentinel", "alerta"


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: alerts a payload, whether each is new, and by how many connections for how long (s)."""

    alerts: int
    kind: str
    connections: int
    seconds: int
    accounts: int = 2000

    def __str__(self) -> str:
        return f"{self.alerts} {self.kind} a payload"


@dataclass(frozen=True, slots=True)
class Receiver:
    """A running receiver. `stored` counts the deliveries of alerts that its database accounts for."""

    name: str
    url: str
    stored: Callable[[], int]
    severity: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Result:
    """One load's figures by receiver, one a round: alerts a second, latencies in ms."""

    load: Load
    alerts_a_second: dict[str, list[float]] = field(default_factory=dict)
    p50: dict[str, list[float]] = field(default_factory=dict)
    p99: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, report: dict[str, float]) -> None:
        rate = report["requests"] * self.load.alerts / report["seconds"]
        for figures, value in (
            (self.alerts_a_second, rate),
            (self.p50, report["p50_ms"]),
            (self.p99, report["p99_ms"]),
        ):
            figures.setdefault(name, []).append(value)


def drive(receiver: Receiver, load: Load, run: str) -> dict[str, float]:
    """Wrk's report of one run; RuntimeError when an answer was no 200 or an alert that was taken is not stored."""
    before = receiver.stored()
    environment = {
        "BENCH_ALERTS": str(load.alerts), "BENCH_ACCOUNTS": str(load.accounts), "BENCH_KIND": load.kind,
        "BENCH_SEVERITY": receiver.severity, "BENCH_RUN": run,
    }  # fmt: skip
    done = subprocess.run(
        [servers.program("wrk"), "-t1", f"-c{load.connections}", f"-d{load.seconds}s", "--timeout", "30s",
         "-s", str(ROOT / "bench/deliver.lua"), receiver.url],
        env={**os.environ, **environment, **receiver.environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{receiver.name}: wrk: {done.stdout}{done.stderr}")
    report: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    if report["refused"] or report["failed"]:
        raise RuntimeError(f"{receiver.name}: {report['refused']} refused, {report['failed']} failed: {done.stdout}")
    stored = receiver.stored() - before
    if stored < report["requests"] * load.alerts:
        raise RuntimeError(f"{receiver.name} lost alerts: {report['requests'] * load.alerts} taken, {stored} stored")
    return report


def _count(url: str, query: str) -> Callable[[], int]:
    def count() -> int:
        with psycopg.connect(url) as connection:
            row = connection.execute(query.encode()).fetchone()
            return int(row[0]) if row and row[0] else 0

    return count


def _sentinel(stack: ExitStack, server: str, workers: int, threads: int) -> Receiver:
    url = _database(server, SENTINEL)
    environment = {
        "SENTINEL_DATABASE_URL": url.replace("postgresql://", "postgresql+psycopg://"),
        "SENTINEL_INGEST_TOKEN": TOKEN,
        "SENTINEL_ADMIN_TOKEN": "bench-admin-token-of-some-length",
        "SENTINEL_SECRET_KEY": "bench-page-key-of-some-length",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "webhook"]
    subprocess.run([*command, "migrate"], env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    port = servers.free_port()
    serve = [*command, "serve", "--port", str(port), "--workers", str(workers), "--threads", str(threads)]
    stack.enter_context(measured(serve, _folder(stack), environment))
    servers.wait_for(lambda: servers.answers(f"http://127.0.0.1:{port}/-/ready"), what="sentinel ready")
    stored = _count(url, "SELECT count(*) FROM alert_trigger_log")
    receiver = f"http://127.0.0.1:{port}/api/v1/alerts/prometheus/webhook"
    return Receiver(SENTINEL, receiver, stored, "P3", {"BENCH_AUTHORIZATION": f"Bearer {TOKEN}"})


def _alerta(stack: ExitStack, server: str, workers: int, threads: int, program: Path) -> Receiver:
    url = _database(server, ALERTA)
    port, folder = servers.free_port(), _folder(stack)
    (folder / "application.py").write_text("from alerta import create_app\n\napp = create_app()\n")
    command = [str(program), "-w", str(workers), "-k", "gthread", "--threads", str(threads), "-b", f"127.0.0.1:{port}",
               "--no-control-socket", "--log-level", "error", "application:app"]  # fmt: skip
    stack.enter_context(measured(command, folder, {"DATABASE_URL": url, "AUTH_REQUIRED": "False"}))
    servers.wait_for(lambda: servers.answers(f"http://127.0.0.1:{port}/management/gtg"), what="alerta ready")
    # An alert that comes again raises its count of duplicates.
    stored = _count(url, "SELECT count(*) + coalesce(sum(duplicate_count), 0) FROM alerts")
    return Receiver(ALERTA, f"http://127.0.0.1:{port}/webhooks/prometheus", stored, "minor")


def _database(server: str, name: str) -> str:
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server}/{name}"


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))


def show(result: Result) -> None:
    print(f"\n{result.load}, {result.load.connections} connections, {result.load.accounts} accounts")
    for name, rates in result.alerts_a_second.items():
        requests = statistics.median(rates) / result.load.alerts
        print(
            f"  {name:<9} {statistics.median(rates):8.0f} alerts/s ({min(rates):.0f} … {max(rates):.0f})"
            f"  {requests:7.0f} requests/s  p50 {statistics.median(result.p50[name]):7.1f} ms"
            f"  p99 {statistics.median(result.p99[name]):7.1f} ms"
        )


def judge(results: Iterable[Result]) -> bool:
    """A line for each goal, of the load with 5 repeated alerts a payload; True when both hold."""
    fine = True
    for result in results:
        if (result.load.alerts, result.load.kind) != (5, "repeated"):
            continue
        faster = _ratios(result.alerts_a_second[SENTINEL], result.alerts_a_second[ALERTA])
        slower = _ratios(result.p99[SENTINEL], result.p99[ALERTA])
        fine = _goal(f"alerts/s, {result.load}, {ALERTA}", faster, 8, at_least=True)
        fine = _goal(f"p99, {result.load}, {ALERTA}", slower, 0.5, at_least=False) and fine
    return fine


def _goal(name: str, ratios: Sequence[float], bound: float, *, at_least: bool) -> bool:
    middle = statistics.median(ratios)
    holds = middle >= bound if at_least else middle <= bound
    spread = f"{middle:.2f} ({min(ratios):.2f} … {max(ratios):.2f})"
    print(f"goal {name}: {spread} x (wanted {'>=' if at_least else '<='} {bound:g}) {'ok' if holds else 'short'}")
    return holds


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [own / other for own, other in zip(ours, theirs, strict=True)]


@click.command()
@click.option("--alerts", multiple=True, type=int, default=(1, 5, 100), show_default=True, help="Alerts a payload.")
@click.option("--kind", "kinds", multiple=True, default=("new", "repeated"), type=click.Choice(["new", "repeated"]))
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=10, show_default=True, help="Of each run.")
@click.option("--connections", default=16, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--threads", default=8, show_default=True)
@click.option("--alerta", type=click.Path(path_type=Path, exists=True), required=True, help="gunicorn beside Alerta.")
def main(
    *, alerts: Sequence[int], kinds: Sequence[str], rounds: int, seconds: int, connections: int, workers: int,
    threads: int, alerta: Path,
) -> None:  # fmt: skip
    """Measure the receiver beside Alerta; exit code 1 when a goal is short."""
    results = []
    with servers.postgresql() as server, ExitStack() as stack:
        receivers = (_sentinel(stack, server, workers, threads), _alerta(stack, server, workers, threads, alerta))
        for kind in kinds:
            for size in alerts:
                result = Result(Load(size, kind, connections, seconds))
                for number in range(rounds):
                    for receiver in receivers:
                        report = drive(receiver, result.load, f"{size}{number}")
                        result.add(receiver.name, report)
                results.append(result)
                show(result)
    print()
    sys.exit(0 if judge(results) else 1)


if __name__ == "__main__":
    main()
