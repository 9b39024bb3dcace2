"""Do hundreds of sources keep their schedule? `python -m bench.many_sources [--sources 500] [--seconds 120]`.

Runs the exporter as a process of its own over one database, scrapes it as Prometheus would, and prints how late
collections began, CPU, memory and threads. Ends with a line for each goal, and 1 when one is short.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import free_port, postgresql, wait_for

ROOT = Path(__file__).resolve().parents[1]

_LAG_GOAL, _CPU_GOAL, _SCRAPE_GOAL = 1.0, 0.5, 0.25  # seconds at p99, of one core, seconds
_WATCHED_EVERY = 5.0
_SCRAPED_EVERY = 15.0


@dataclass
class Watched:
    """What was seen while it ran. `lags` are by source and run, all in seconds."""

    lags: dict[tuple[str, float], float] = field(default_factory=dict)
    scrapes: list[float] = field(default_factory=list)
    cpu: float = 0.0
    wall: float = 0.0
    rss: int = 0
    threads: int = 0
    attempts: float = 0.0
    failures: float = 0.0
    ready: float = 0.0


@contextlib.contextmanager
def database(kind: str, series: int) -> Iterator[str]:
    """A table of `series` rows; yields the `connection` or `url` key of a source."""
    rows = [(f"acc_{number:05}", "eu", number / 7) for number in range(series)]
    create = "CREATE TABLE rates (account_id TEXT, region TEXT, rate DOUBLE PRECISION)"
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="sentinel-bench-") as folder:
            file = Path(folder) / "rates.db"
            with contextlib.closing(sqlite3.connect(file)) as connection:
                connection.execute(create)
                connection.executemany("INSERT INTO rates VALUES (?, ?, ?)", rows)
                connection.commit()
            yield f"connection: {{driver: sqlite, database: {file}}}"
        return
    with postgresql() as url:
        with psycopg.connect(f"{url}/postgres") as connection:
            connection.execute(create)
            connection.cursor().executemany("INSERT INTO rates VALUES (%s, %s, %s)", rows)
        port = url.rsplit(":", 1)[1]
        yield (
            f"connection: {{driver: postgresql, host: 127.0.0.1, port: {port}, database: postgres, username: sentinel}}"
        )


def config(connection: str, options: argparse.Namespace, warm: Path) -> str:
    """A configuration with as many sources as asked for, each with a family of its own."""
    source = """
  - name: source-{number}
    type: database
    interval: {interval}
    {connection}
    query: SELECT account_id, region, rate FROM rates
    metrics:
      - {{source_field: rate, prometheus_name: sentinel_rate_{number}, labels: [account_id, region]}}
"""
    sources = (
        source.format(number=number, interval=options.interval, connection=connection)
        for number in range(options.sources)
    )
    return f"exporter: {{log_level: WARNING, warm_start: {warm}}}\ndata_sources:{''.join(sources)}"


def watch(url: str, pid: int, seconds: float) -> Watched:
    """Look every few seconds; scrape as Prometheus does, with gzip."""
    seen = Watched()
    begin, cpu_before = time.monotonic(), cpu_seconds(pid)
    scraped = 0.0
    while time.monotonic() < begin + seconds:
        now = time.monotonic()
        if now >= scraped + _SCRAPED_EVERY:
            scraped = now
            text = requests.get(url + "/metrics", timeout=30).text
            seen.scrapes.append(time.monotonic() - now)
            note(text, seen)
        time.sleep(max(0.0, _WATCHED_EVERY - (time.monotonic() - now)))
    seen.wall, seen.cpu = time.monotonic() - begin, cpu_seconds(pid) - cpu_before
    status = Path(f"/proc/{pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines())
    seen.rss, seen.threads = int(values["VmRSS"].split()[0]) * 1024, int(values["Threads"])
    return seen


def note(text: str, seen: Watched) -> None:
    """Keep the lag of each run that has ended since the last look."""
    own = "\n".join(line for line in text.splitlines() if "sentinel_source_" in line)
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(own):
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            values[sample.labels["source"]] = values.get(sample.labels["source"], 0.0) + sample.value
    began = found["sentinel_source_last_run_timestamp_seconds"]
    seen.lags.update({(name, began[name]): lag for name, lag in found["sentinel_source_schedule_lag_seconds"].items()})
    seen.attempts = sum(found["sentinel_source_collections_total"].values())
    seen.failures = sum(found.get("sentinel_source_errors_total", {}).values())


def cpu_seconds(pid: int) -> float:
    """CPU time of the process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def ready(url: str) -> bool:
    try:
        return requests.get(url + "/-/ready", timeout=5).ok
    except requests.RequestException:
        return False


def run(options: argparse.Namespace) -> Watched:
    with database(options.database, options.series) as connection, tempfile.TemporaryDirectory() as folder:
        file, port = Path(folder) / "config.yaml", free_port()
        file.write_text(config(connection, options, Path(folder) / "warm"))
        command = [sys.executable, "-m", "exporter", "--config", str(file), "--port", str(port)]
        begin = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: ready(url), what="every source collected", timeout=120)
            first = time.monotonic() - begin
            seen = watch(url, process.pid, options.seconds)
            seen.ready = first
            return seen
        finally:
            process.terminate()
            process.wait(20)


def report(seen: Watched) -> int:
    """Print what was seen; 1 when a goal is short."""
    lags = sorted(seen.lags.values())
    cuts = statistics.quantiles(lags, n=100)
    print(
        f"collections {seen.attempts:.0f}, failed {seen.failures:.0f}, all sources collected after {seen.ready:.1f} s"
    )
    print(f"late by p50 {cuts[49]:.4f} s, p99 {cuts[98]:.4f} s, max {lags[-1]:.4f} s, of {len(lags)} runs seen")
    print(f"CPU {seen.cpu / seen.wall:.0%} of one core, RSS {seen.rss / 2**20:.0f} MiB, {seen.threads} threads")
    print(f"scrape with gzip {statistics.median(seen.scrapes):.3f} s median, {max(seen.scrapes):.3f} s max")
    goals = [
        ("schedule lag p99", cuts[98], _LAG_GOAL, "s"),
        ("CPU", seen.cpu / seen.wall, _CPU_GOAL, "cores"),
        ("scrape", statistics.median(seen.scrapes), _SCRAPE_GOAL, "s"),
        ("failed collections", seen.failures, 0, ""),
    ]
    short = False
    for name, measured, bound, unit in goals:
        ok = measured <= bound
        short |= not ok
        print(f"goal {name}: {measured:.3f} {unit} (wanted <= {bound:g}) {'ok' if ok else 'short'}")
    return int(short)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=500)
    parser.add_argument("--series", type=int, default=200, help="of each source")
    parser.add_argument("--interval", default="30s")
    parser.add_argument("--seconds", type=float, default=120, help="for how long it is watched")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    return report(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
