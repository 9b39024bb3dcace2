"""How long a chart takes, drawn from values that are already there: `python -m bench.charts`.

Prints median and p99 of each kind, `goal chart …: <ms> (wanted <= 300 ms) ok|short`, and exits 1 when one is short. The
goal counts both CPU and the clock, which on a busy machine tells of the others: run it on an idle one. The first chart
of a process, which loads the library and its fonts, is told too: `serve` and the worker draw one when they start.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from webhook.adapters.charts import MatplotlibCharts
from webhook.domain.usual import DAYS, usual
from webhook.ports import ChartSpec, Series

WANTED = 300.0  # ms
ROUNDS = 100
POINTS = 240
NOW = datetime(2026, 1, 8, 12, 0, tzinfo=UTC)
STEP = timedelta(seconds=30)


def spec(chosen: random.Random, **changes: Any) -> ChartSpec:  # noqa: ANN401 - fields of the record
    """The longest ordinary chart: two hours of points, a week of days before, an attack in the last quarter."""
    times = [NOW - STEP * n for n in reversed(range(POINTS))]
    start = times[POINTS * 3 // 4]
    past = {day: [(time, chosen.uniform(0.02, 0.06)) for time in times] for day in range(1, DAYS + 1)}
    values: dict[str, Any] = {
        "series": Series("block_rate", times, [chosen.uniform(0.3, 0.5) if t >= start else 0.04 for t in times]),
        "threshold": 0.2,
        "merchant": "Northwind Books",
        "alert_start": start,
        "alert_end": None,
        "now": NOW,
        "usual": usual(past, start),
        "step": STEP,
    }
    return ChartSpec(**{**values, **changes})


def measure(charts: MatplotlibCharts, rounds: int, **changes: Any) -> dict[str, float]:  # noqa: ANN401 - as above
    """Milliseconds by the clock and of CPU, and the size in bytes."""
    chosen = random.Random(1)  # noqa: S311 - made up values
    wanted = [spec(chosen, **changes) for _ in range(rounds)]
    clock, cpu, size = [], [], 0
    for one in wanted:
        began, used = time.perf_counter(), time.process_time()
        size = len(charts.render(one))
        clock.append((time.perf_counter() - began) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    found = {"median": _at(clock, 0.5), "p99": _at(clock, 0.99), "cpu median": _at(cpu, 0.5), "cpu p99": _at(cpu, 0.99)}
    return {**{name: round(value, 1) for name, value in found.items()}, "bytes": size}


def _at(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    charts, began = MatplotlibCharts(), time.perf_counter()
    charts.warm_up()
    print(f"first chart of a process, with loading: {(time.perf_counter() - began) * 1000:.0f} ms")
    kinds: dict[str, dict[str, Any]] = {
        "png": {},
        "png dark, ended": {"theme": "dark", "alert_end": NOW - timedelta(minutes=5)},
        "svg": {"format": "svg"},
    }
    short = False
    for kind, changes in kinds.items():
        found = measure(charts, given.rounds, **changes)
        print(json.dumps({"chart": kind, **found}))
        for by, p99 in (("CPU", found["cpu p99"]), ("by the clock", found["p99"])):
            told = "ok" if p99 <= WANTED else "short"
            short = short or told == "short"
            print(f"goal chart {kind}, p99 {by}: {p99:.0f} ms (wanted <= {WANTED:g} ms) {told}")
    sys.exit(1 if short else 0)


if __name__ == "__main__":
    main()
