"""`make bench-webhook`: Sentinel's receiver beside Alerta, on one PostgreSQL, driven by wrk in turn.

Both run under gunicorn with the same number of workers and threads. Each round drives one after the other with the
same payloads. What was answered with 200 is looked for in the database afterwards: no alert may be lost.
CPU is that of the receiver's processes and of PostgreSQL's, by payload: it depends less on what else the machine does.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click
import psycopg

from bench.process import cpu_of, measured
from tests import servers
from webhook.domain.evaluation import Condition, MerchantConfig, evaluate

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
    """A running receiver. `stored` counts the deliveries of alerts that its database accounts for; `cpu` in s."""

    name: str
    url: str
    stored: Callable[[], int]
    cpu: Callable[[], float]
    severity: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Result:
    """One load's figures by receiver, one a round: alerts a second; latencies, and CPU a payload, in ms."""

    load: Load
    alerts_a_second: dict[str, list[float]] = field(default_factory=dict)
    p50: dict[str, list[float]] = field(default_factory=dict)
    p99: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    database_cpu: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, report: dict[str, float]) -> None:
        rate = report["requests"] * self.load.alerts / report["seconds"]
        for figures, value in (
            (self.alerts_a_second, rate),
            (self.p50, report["p50_ms"]),
            (self.p99, report["p99_ms"]),
            (self.cpu, report["cpu_ms"]),
            (self.database_cpu, report["database_cpu_ms"]),
        ):
            figures.setdefault(name, []).append(value)


def drive(receiver: Receiver, load: Load, run: str, database_cpu: Callable[[], float]) -> dict[str, float]:
    """Wrk's report of one run; RuntimeError when an answer was no 200 or an alert that was taken is not stored."""
    before, cpu, cpu_there = receiver.stored(), receiver.cpu(), database_cpu()
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
    report["cpu_ms"] = 1000 * (receiver.cpu() - cpu) / max(1, report["requests"])
    report["database_cpu_ms"] = 1000 * (database_cpu() - cpu_there) / max(1, report["requests"])
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
    process = stack.enter_context(measured(serve, _folder(stack), environment))
    servers.wait_for(lambda: servers.answers(f"http://127.0.0.1:{port}/-/ready"), what="sentinel ready")
    stored = _count(url, "SELECT count(*) FROM alert_trigger_log")
    receiver = f"http://127.0.0.1:{port}/api/v1/alerts/prometheus/webhook"
    return Receiver(SENTINEL, receiver, stored, process.cpu, "P3", {"BENCH_AUTHORIZATION": f"Bearer {TOKEN}"})


def _alerta(stack: ExitStack, server: str, workers: int, threads: int, program: Path) -> Receiver:
    url = _database(server, ALERTA)
    port, folder = servers.free_port(), _folder(stack)
    (folder / "application.py").write_text("from alerta import create_app\n\napp = create_app()\n")
    told = {"DATABASE_URL": url, "AUTH_REQUIRED": "False"}
    # Workers that create the schema at the same time harm each other.
    python = [str(program.parent / "python"), "-c", "import application"]
    subprocess.run(python, cwd=folder, env={**os.environ, **told}, check=True, stdout=subprocess.DEVNULL)
    command = [str(program), "-w", str(workers), "-k", "gthread", "--threads", str(threads), "-b", f"127.0.0.1:{port}",
               "--no-control-socket", "--log-level", "error", "application:app"]  # fmt: skip
    process = stack.enter_context(measured(command, folder, told))
    servers.wait_for(lambda: servers.answers(f"http://127.0.0.1:{port}/management/gtg"), what="alerta ready")
    # An alert that comes again raises its count of duplicates.
    stored = _count(url, "SELECT count(*) + coalesce(sum(duplicate_count), 0) FROM alerts")
    return Receiver(ALERTA, f"http://127.0.0.1:{port}/webhooks/prometheus", stored, process.cpu, "minor")


def _server_cpu(server: str) -> Callable[[], float]:
    """Seconds of CPU of PostgreSQL: the postmaster and all that it has started."""
    with psycopg.connect(f"{server}/postgres") as connection:
        row = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    if row is None:
        raise RuntimeError("PostgreSQL does not tell its process id")
    return partial(cpu_of, int(row[0].split()[0]))


def _database(server: str, name: str) -> str:
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server}/{name}"


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))


def analyze(server: str) -> None:
    """What autovacuum does by itself, but never in the middle of a run: both databases know what their tables hold."""
    for name in (SENTINEL, ALERTA):
        with psycopg.connect(f"{server}/{name}", autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")


def show(result: Result) -> None:
    print(f"\n{result.load}, {result.load.connections} connections, {result.load.accounts} accounts")
    for name, rates in result.alerts_a_second.items():
        requests = statistics.median(rates) / result.load.alerts
        print(
            f"  {name:<9} {statistics.median(rates):8.0f} alerts/s ({min(rates):.0f} … {max(rates):.0f})"
            f"  {requests:7.0f} requests/s  p50 {statistics.median(result.p50[name]):7.1f} ms"
            f"  p99 {statistics.median(result.p99[name]):7.1f} ms"
            f"  CPU a payload {statistics.median(result.cpu[name]):.2f} ms"
            f" + PostgreSQL {statistics.median(result.database_cpu[name]):.2f} ms"
        )


def judge(results: Iterable[Result]) -> bool:
    """A line for each goal, of the load with 5 repeated alerts a payload and of evaluation; True when all hold."""
    fine = _goal("1,000 accounts x 2 conditions evaluated, ms", evaluation_times(), 5, at_least=False, unit="")
    for result in results:
        if (result.load.alerts, result.load.kind) != (5, "repeated"):
            continue
        faster = _ratios(result.alerts_a_second[SENTINEL], result.alerts_a_second[ALERTA])
        slower = _ratios(result.p99[SENTINEL], result.p99[ALERTA])
        fine = _goal(f"alerts/s, {result.load}, {ALERTA}", faster, 8, at_least=True) and fine
        fine = _goal(f"p99, {result.load}, {ALERTA}", slower, 0.5, at_least=False) and fine
    return fine


def evaluation_times(rounds: int = 21) -> list[float]:
    """Milliseconds of CPU for the verdicts of 1,000 accounts on 2 conditions each."""
    conditions = (Condition("block_rate", ">", 0.3, 0), Condition("failed_auth_rate", ">=", 0.2, 1))
    configs = [MerchantConfig(f"acc_{number}", "CARD_TESTING", conditions=conditions) for number in range(1000)]
    metrics = {"block_rate": 0.35038363171355497, "failed_auth_rate": 0.41}
    times = []
    for _ in range(rounds):
        started = time.thread_time()
        for config in configs:
            evaluate(config, metrics)
        times.append(1000 * (time.thread_time() - started))
    return times


def _goal(name: str, ratios: Sequence[float], bound: float, *, at_least: bool, unit: str = "x ") -> bool:
    middle = statistics.median(ratios)
    holds = middle >= bound if at_least else middle <= bound
    spread = f"{middle:.2f} ({min(ratios):.2f} … {max(ratios):.2f})"
    print(f"goal {name}: {spread} {unit}(wanted {'>=' if at_least else '<='} {bound:g}) {'ok' if holds else 'short'}")
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
        receivers = (
            _sentinel(stack, server, workers, threads),
            _alerta(stack, server, workers, threads, alerta.absolute()),
        )
        database_cpu = _server_cpu(server)
        for kind in kinds:
            for size in alerts:
                result = Result(Load(size, kind, connections, seconds))
                analyze(server)
                for number in range(rounds):
                    for receiver in receivers:
                        report = drive(receiver, result.load, f"{size}{number}", database_cpu)
                        result.add(receiver.name, report)
                results.append(result)
                show(result)
    print()
    sys.exit(0 if judge(results) else 1)


if __name__ == "__main__":
    main()
