"""`make bench-exporter`: Sentinel's exporter beside its peers, over one PostgreSQL table, in one run.

Every figure of a comparison is taken side by side: in each round every subject is asked once, so that what else the
machine does hits all of them. Ratios are of the same round; their median and their range are printed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import psycopg

from bench.process import Process, measured
from bench.scrape import body, scrape
from bench.subjects import LABELS, SENTINEL, SQL_EXPORTER, VALUES, Job, Subject, query_exporter, sentinel, static_server
from tests import servers

PLAIN, GZIP, READY, CPU, MEMORY = "scrape plain", "scrape gzip", "first ready", "CPU/collection", "peak memory"
_UNITS = {PLAIN: "ms", GZIP: "ms", READY: "s", CPU: "s", MEMORY: "MiB"}
STATIC = "static files"
_STARTS_ALONE = 3
_ROWS_TO_SEE_CPU = 50_000
"""Collecting fewer takes less CPU than two starts of a process differ by."""


@dataclass(slots=True)
class Figures:
    """Of one table size: for each kind, each subject's values, one a round."""

    series: int
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, kind: str, subject: str, value: float) -> None:
        self.values.setdefault(kind, {}).setdefault(subject, []).append(value)

    def ratios(self, kind: str, subject: str, *, by_kind: str | None = None) -> list[float]:
        """How many times ours the subject's figure is, round by round."""
        own, other = self.values[kind][SENTINEL], self.values[by_kind or kind].get(subject, [])
        return [theirs / ours for ours, theirs in zip(own, other, strict=False)]


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how often: `rounds` for scrapes, `starts` for everything that needs a fresh process."""

    database: str
    subjects: tuple[Subject, ...]
    rounds: int
    starts: int
    began: float = field(default_factory=time.perf_counter)

    def tell(self, what: str) -> None:
        """A line of progress, with minutes and seconds since the start."""
        minutes, seconds = divmod(int(time.perf_counter() - self.began), 60)
        print(f"{minutes:3}:{seconds:02} {what}", file=sys.stderr, flush=True)


def run(bench: Bench, rows: int, alone: Mapping[str, float]) -> Figures:
    """All figures for a table of `rows` rows; `alone` is what a start of each subject takes without them."""
    figures = Figures(rows * len(VALUES))
    table = make_table(bench.database, rows)
    bench = replace(bench, subjects=tuple(item for item in bench.subjects if rows <= (item.most_rows or rows)))
    for number in range(1, bench.starts + 1):
        for subject in bench.subjects:
            bench.tell(f"{figures.series:,} series: start {number} of {bench.starts}, {subject.name}")
            _first_ready(bench, subject, table, figures)
            if rows < _ROWS_TO_SEE_CPU:
                continue
            used = _start(bench, subject, table) - alone[subject.name]
            if used <= 0:
                raise RuntimeError(f"{subject.name}: the table is too small to measure what collecting it costs")
            figures.add(CPU, subject.name, used)
    _scrapes(bench, table, figures)
    return figures


def starts_alone(bench: Bench) -> dict[str, float]:
    """CPU seconds of each subject's start with a single row: the median of several, since they are few.

    A start with the whole table takes that and one collection.
    """
    one_row, found = make_table(bench.database, 1), {}
    for subject in bench.subjects:
        bench.tell(f"{_STARTS_ALONE} starts with one row, {subject.name}")
        found[subject.name] = statistics.median(_start(bench, subject, one_row) for _ in range(_STARTS_ALONE))
    return found


def make_table(url: str, rows: int) -> str:
    """A table of that many rows with realistic names and full-precision rates, the same at every run."""
    name = f"bench_{rows}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT setseed(0.42)")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {name} AS SELECT 'acc_' || lpad(i::text, 7, '0') AS account_id,"  # noqa: S608 - a name of ours
            " 'Merchant ' || i || ' & Söhne' AS merchant_name, (ARRAY['EU','US','AP'])[1 + i % 3] AS region,"
            " random() AS block_rate, random() / 10 AS failed_auth_rate, (random() * 1e6)::bigint AS transaction_count"
            f" FROM generate_series(1, {rows}) AS i".encode()
        )
        connection.execute(f"ANALYZE {name}".encode())
    return name


def _started(stack: ExitStack, bench: Bench, subject: Subject, table: str) -> tuple[Process, int]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))
    port = servers.free_port()
    command, environment = subject.prepare(Job(bench.database, table, port, folder))
    return stack.enter_context(measured(command, folder, environment)), port


def _first_ready(bench: Bench, subject: Subject, table: str, figures: Figures) -> None:
    """Seconds from starting the process to the end of the first scrape that has every series, and its peak memory.

    The peak is of collecting and of being scraped, plain and with gzip.
    """
    with ExitStack() as stack:
        process, port = _started(stack, bench, subject, table)
        while _samples(port, subject) < figures.series:
            process.check()
            time.sleep(0.05)
        figures.add(READY, subject.name, time.perf_counter() - process.started)
        for gzip in (False, True) if subject.gzip else (False,):
            scrape(port, "/metrics", gzip=gzip)
        figures.add(MEMORY, subject.name, process.peak_memory())


def _samples(port: int, subject: Subject) -> int:
    try:
        text = body(port, "/metrics")
    except (OSError, ValueError):
        return 0
    return text.count(b"\n" + subject.mark)


def _start(bench: Bench, subject: Subject, table: str) -> float:
    with ExitStack() as stack:
        process, _ = _started(stack, bench, subject, table)
        return process.idle_cpu(quiet=2.0)


def _scrapes(bench: Bench, table: str, figures: Figures) -> None:
    """Scrape times of all subjects, round by round."""
    with ExitStack() as stack:
        running: dict[str, tuple[int, bool]] = {}
        for subject in bench.subjects:
            bench.tell(f"{figures.series:,} series: start for the scrapes, {subject.name}")
            process, port = _started(stack, bench, subject, table)
            process.idle_cpu(quiet=2.0)
            found = _samples(port, subject)
            if found != figures.series:
                raise RuntimeError(f"{subject.name} serves {found} series, not {figures.series}")
            running[subject.name] = port, subject.gzip
        running[STATIC] = _static(stack, running[SENTINEL][0]), True
        for number in range(1, bench.rounds + 1):
            bench.tell(f"{figures.series:,} series: round {number} of {bench.rounds}")
            for name, (port, has_gzip) in running.items():
                figures.add(PLAIN, name, scrape(port, "/metrics", gzip=False).seconds * 1000)
                if has_gzip:
                    figures.add(GZIP, name, scrape(port, "/metrics", gzip=True).seconds * 1000)


def _static(stack: ExitStack, port: int) -> int:
    """Port of a static file server with the very bytes that ours sends."""
    import gzip  # noqa: PLC0415 - of this subject only

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))
    text, own_port = body(port, "/metrics"), servers.free_port()
    compressed = gzip.compress(text, compresslevel=1)
    stack.enter_context(measured(static_server(folder, own_port, text, compressed), folder))
    servers.wait_for(lambda: servers.listens(own_port), what="nginx")
    return own_port


def show(figures: Figures) -> None:
    """Print one table: each subject's median, and how many times ours it is with its range."""
    print(f"\n{figures.series:,} series ({figures.series // len(VALUES):,} rows x {len(VALUES)}, {len(LABELS)} labels)")
    for kind, by_subject in figures.values.items():
        for name, values in by_subject.items():
            ratio = "" if name == SENTINEL else f"   {_spread(figures.ratios(kind, name))} x ours"
            value = f"{statistics.median(values):9.2f} {_UNITS[kind]:<3}"
            spread = f"({min(values):.2f} … {max(values):.2f}, n={len(values)})"
            print(f"  {kind:<15} {name:<24} {value} {spread}{ratio}", flush=True)


def goals(all_figures: Iterable[Figures]) -> list[tuple[str, list[float], float, bool]]:
    """Name, ratios, bound, and whether the ratio is to be at least that (else at most)."""
    sizes = {figures.series: figures for figures in all_figures}
    found = []
    figures = sizes.get(300_000)
    peer = "query-exporter"
    if figures:
        go = SQL_EXPORTER.name
        found += [
            (f"scrape 300k plain, {go}", figures.ratios(PLAIN, go), 20, True),
            (f"scrape 300k gzip, {go}", figures.ratios(GZIP, go), 40, True),
            (f"scrape 300k plain, {peer}", figures.ratios(PLAIN, peer), 60, True),
            (f"scrape 300k plain, our time by {STATIC}", _inverse(figures.ratios(PLAIN, STATIC)), 1.5, False),
            (f"collection CPU 300k, {peer}", figures.ratios(CPU, peer), 20, True),
        ]
    for series, label in ((300_000, "300k"), (999_999, "1M")):
        if series in sizes:
            ratios = sizes[series].ratios(MEMORY, SQL_EXPORTER.name)
            found.append((f"peak memory {label}, {SQL_EXPORTER.name}", ratios, 3, True))
    return found


def judge(found: Sequence[tuple[str, list[float], float, bool]]) -> bool:
    """Print a line for each goal; True when all of them hold. The median decides."""
    print()
    fine = True
    if not found:
        print("no goal is about these sizes: 100000 and 333333 rows have some")
    for name, ratios, bound, at_least in found:
        middle = statistics.median(ratios)
        holds = middle >= bound if at_least else middle <= bound
        fine = fine and holds
        sign = ">=" if at_least else "<="
        print(f"goal {name}: {_spread(ratios)} x (wanted {sign} {bound:g}) {'ok' if holds else 'short'}")
    return fine


def _inverse(ratios: Iterable[float]) -> list[float]:
    return [1 / ratio for ratio in ratios]


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.1f} ({min(ratios):.1f} … {max(ratios):.1f})"


@click.command()
@click.option("--rows", multiple=True, type=int, default=(10_000, 100_000, 333_333), show_default=True)
@click.option("--rounds", default=7, show_default=True, help="Scrapes of each subject.")
@click.option("--starts", default=3, show_default=True, help="Fresh processes of each subject.")
@click.option("--query-exporter", "program", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--python", type=click.Path(path_type=Path, exists=True), default=sys.executable, help="That runs ours.")
def main(rows: Sequence[int], rounds: int, starts: int, program: Path, python: Path) -> None:
    """Measure the exporter beside its peers; exit code 1 when a goal is short."""
    subjects = (sentinel(python.absolute()), SQL_EXPORTER, query_exporter(program.absolute()))
    results = []
    with servers.postgresql() as server:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE bench")
        bench = Bench(f"{server}/bench", subjects, rounds, starts)
        alone = starts_alone(bench)
        for count in rows:
            results.append(run(bench, count, alone))
            show(results[-1])
        bench.tell("done")
    sys.exit(0 if judge(goals(results)) else 1)


if __name__ == "__main__":
    main()
