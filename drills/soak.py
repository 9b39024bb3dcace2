"""`make soak`: half an hour under 200 alerts a second, and whether all is as flat and as empty as it should be.

Alerts come from a real Alertmanager: attacks of a minute on many merchants, of five alerts each, which it repeats every
few seconds, so that so many alerts a second reach the receiver. Every few seconds the memory of each process is read.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click

from drills.load import Load
from drills.memory import Growth, percentiles, sample
from drills.stack import REPEAT_S, Needs, Stack, running
from drills.verify import Verdict, verify

_REGIONS = ("AP", "EU", "ME", "NA", "SA")
_LENGTH_S = 48.0  # and up to half as long again: 60 s on average
_AVERAGE_S = 1.25 * _LENGTH_S
_REPEATS_S = REPEAT_S + 0.9
"""From one delivery of a group to its next: what is due between two flushes waits for the second, a second later."""

_TIMEOUT_S = 60.0
"""Of a session. No fault is made here: a machine that stalls for some seconds is no attack that ends and begins anew,
as in production, where it is minutes between two deliveries and three times as many until a session ends."""

_SAMPLED_S = 5.0
_TOLD_S = 30.0
_PATIENCE_S = 600.0
_JUDGED = ("serve", "worker")
_GROWS = 0.01
"""Part of its size that a process may grow by in the second half of a run, and `_NOISE_MIB` at least.

In half an hour no less can be told from noise: sizes scatter by a percent from one sample to the next (what is being
answered, when the collector ran), and of 180 samples a slope is uncertain by some tenths of that scatter, by all of it
when the machine is slow for minutes. A leak that is slower shows in a longer run, whose half may grow by no more.
"""

_NOISE_MIB = 1.0
_WARM_MINUTES = 10
"""In a shorter run memory is shown and not judged: caches fill, and each thread takes its first."""

_FASTEST, _SLOWEST = 0.6, 1.25
"""The pace of new attacks is corrected by what arrives, between these parts of what was reckoned."""


@dataclass
class Soak:
    """A run and what is measured of it."""

    stack: Stack
    load: Load
    growth: defaultdict[str, Growth] = field(default_factory=lambda: defaultdict(Growth))
    rows: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    seen: int = 0

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def sample(self) -> None:
        pids = {name: program.pid for name, program in self.stack.programs.items() if program.alive()}
        sample(self.growth, pids, self.elapsed())
        self.stack.slack.forget()

    def row(self, since: float) -> dict[str, Any]:
        """Figures since the last row, which was `since` s ago."""
        passed = self.stack.tap.passed[self.seen :]
        self.seen += len(passed)
        stored = self.stack.store.read()
        waiting = sum(one.status in ("PENDING", "SENDING") for one in stored.messages)
        p50, p95, p99 = percentiles([one.took for one in passed])
        row = {
            "seconds": round(self.elapsed()),
            "alerts_a_second": round(sum(one.alerts for one in passed if one.status == HTTPStatus.OK) / since, 1),
            "refused": sum(one.status != HTTPStatus.OK for one in passed),
            "p50_ms": round(1000 * p50, 1),
            "p95_ms": round(1000 * p95, 1),
            "p99_ms": round(1000 * p99, 1),
            "waiting": waiting,
            "messages": len(stored.messages),
            "memory_mib": {name: round(growth.last, 1) for name, growth in self.growth.items()},
        }
        self.rows.append(row)
        return row


def soak(rate: int, minutes: float) -> tuple[Soak, Verdict]:
    with ExitStack() as exits:
        stack = exits.enter_context(running(Needs(workers=2, session_timeout=_TIMEOUT_S)))
        together = rate * _REPEATS_S / len(_REGIONS)
        gap = _AVERAGE_S / together
        load = Load(stack.alertmanager, gap, _LENGTH_S, _REGIONS, resend=10.0, forget=60.0)
        run = Soak(stack, load)
        load.start()
        exits.callback(load.finish)
        _work(run, 60 * minutes, gap, rate)
        load.no_more()
        print("  no more attacks begin; waiting until all have ended and everybody is told", flush=True)
        return run, _end(run)


def _correct(load: Load, gap: float, row: dict[str, Any], rate: int) -> None:
    """How often Alertmanager repeats depends on the machine. Half of the way each time: attacks last two rows."""
    if row["seconds"] > _AVERAGE_S + _TOLD_S:
        share = (1 + row["alerts_a_second"] / (1.03 * rate)) / 2
        load.gap = min(max(load.gap * share, _FASTEST * gap), _SLOWEST * gap)


def _work(run: Soak, seconds: float, gap: float, rate: int) -> None:
    told = sampled = time.monotonic()
    while run.elapsed() < seconds:
        time.sleep(0.2)
        now = time.monotonic()
        if now - sampled >= _SAMPLED_S:
            sampled = now
            run.sample()
        if now - told >= _TOLD_S:
            row = run.row(now - told)
            _tell(row)
            told = now
            _correct(run.load, gap, row, rate)


def _end(run: Soak) -> Verdict:
    until = time.monotonic() + _PATIENCE_S
    while True:
        delivered = run.stack.tap.delivered
        stored = run.stack.store.read()
        verdict = verify(run.load.attacks, delivered, run.stack.tap, stored, run.stack.slack)
        if verdict.broken or (verdict.holds and run.load.over()) or time.monotonic() > until:
            waiting = sum(one.status in ("PENDING", "SENDING") for one in stored.messages)
            delays = [one.delay_s for one in stored.messages if one.delay_s is not None]
            verdict.figures |= {"outbox": waiting, "delay_s": [round(one, 3) for one in percentiles(delays)]}
            return verdict
        time.sleep(2)


def _tell(row: dict[str, Any]) -> None:
    memory = "  ".join(f"{name} {size:.0f}" for name, size in row["memory_mib"].items())
    print(
        f"  {row['seconds']:5} s  {row['alerts_a_second']:6.1f} alerts/s  p50 {row['p50_ms']:6.1f}"
        f"  p95 {row['p95_ms']:6.1f}  p99 {row['p99_ms']:6.1f} ms  refused {row['refused']}"
        f"  waiting {row['waiting']}  MiB: {memory}",
        flush=True,
    )


def judge(run: Soak, verdict: Verdict, rate: int) -> bool:
    """A line for each goal; True when all hold."""
    steady = [row["alerts_a_second"] for row in run.rows if row["seconds"] > _AVERAGE_S + _TOLD_S]
    slowest = sorted(steady)[len(steady) // 2] if steady else 0.0
    fine = _goal("alerts a second, median once all have begun", slowest, f">= {rate}", holds=slowest >= rate)
    for name in _JUDGED:
        growth = run.growth[name]
        bound = allowed(growth)
        told = (
            f"{growth.grown():.2f} MiB more in the second half, of {growth.size():.0f}; {growth.an_hour():.1f} an hour"
        )
        if run.rows[-1]["seconds"] < 60 * _WARM_MINUTES - _TOLD_S:
            print(f"  memory of {name}: {told}; judged in runs of {_WARM_MINUTES} minutes and more")
        else:
            fine = _goal(f"memory of {name}", told, f"<= {bound:.1f} MiB", holds=growth.grown() <= bound) and fine
    outbox = verdict.figures["outbox"]
    fine = _goal("messages in the outbox at the end", outbox, "0", holds=outbox == 0) and fine
    for problem in verdict.problems:
        print(f"  {problem}")
    problems = len(verdict.problems)
    fine = _goal("lost, told twice or not accounted for", problems, "0", holds=not problems) and fine
    p50, p95, p99 = verdict.figures["delay_s"]
    print(f"  from decision to Slack: p50 {p50:.3f} s  p95 {p95:.3f} s  p99 {p99:.3f} s")
    print(f"  {json.dumps(verdict.figures)}")
    return fine


def allowed(growth: Growth) -> float:
    """MiB more in the second half."""
    return max(_NOISE_MIB, _GROWS * growth.size())


def _goal(name: str, measured: object, wanted: str, *, holds: bool) -> bool:
    print(f"goal {name}: {measured} (wanted {wanted}) {'ok' if holds else 'short'}", flush=True)
    return holds


@click.command(help=__doc__)
@click.option("--minutes", default=30.0, show_default=True, type=click.FloatRange(2), help="Besides start and end.")
@click.option("--rate", default=200, show_default=True, type=click.IntRange(1), help="Alerts a second.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures to this file, too.")
def main(minutes: float, rate: int, path: Path | None) -> None:
    """Run it; exit code 1 when a goal is short."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run, verdict = soak(rate, minutes)
    fine = judge(run, verdict, rate)
    if path is not None:
        growth = {name: {"mib_an_hour": one.an_hour(), "highest_mib": one.highest} for name, one in run.growth.items()}
        found = {"rows": run.rows, "growth": growth, **verdict.figures, "problems": verdict.problems, "fine": fine}
        path.write_text(json.dumps(found, indent=2))
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
