"""`make drill`: what becomes of alerts and messages when parts of the stack die, one fault after the other.

Each drill runs twice: as the product is, and as a control in which the fault is not handled. The same verification
looks at both. It has to hold for the first and to fail for the second, else its pass would mean nothing.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from drills.entries import ENTRIES, Entry
from drills.run import Result, Say
from drills.verify import Verdict


def _say(name: str, began: float) -> Say:
    def say(text: str) -> None:
        print(f"  {time.monotonic() - began:6.1f} s  {name}: {text}", file=sys.stderr, flush=True)

    return say


def _run(drill: Entry, *, control: bool, began: float) -> Result:
    say = _say(f"{drill.id}{' (control)' if control else ''}", began)
    say(drill.control if control else drill.help)
    started = time.monotonic()
    try:
        result: Result = drill.run(control=control, say=say)
    except Exception as error:  # noqa: BLE001 - the others are run all the same
        verdict = Verdict(broken=[f"{type(error).__name__}: {error}"])
        result = Result(drill.id, control, verdict, time.monotonic() - started, crashed=True)
    for problem in result.verdict.problems:
        say(problem)
    if result.passed:
        say("failed, as it has to" if control else "passed")
    else:
        say("PASSED, and so shows nothing" if control and not result.crashed else "FAILED")
    return result


def _seconds(value: float | None) -> str:
    return f"{value:.1f}" if value is not None else "-"


def table(results: Sequence[Result]) -> str:
    """A line for each run."""
    heads = ("drill", "run", "result", "fault s", "next s", "caught up s", "delivered", "logged", "attacks", "messages",
             "repeated", "allowed", "total s")  # fmt: skip
    rows: list[tuple[str, ...]] = [heads]
    for one in results:
        figures = one.verdict.figures
        result = "ok" if one.passed else "FAILED"
        counts = [
            str(figures.get(name, "-"))
            for name in ("delivered", "logged", "attacks", "messages", "repeated", "broken_off")
        ]
        kind = "control" if one.control else "drill"
        times = (f"{one.fault_s:.1f}", _seconds(one.first_s), _seconds(one.caught_up_s))
        rows.append((one.drill, kind, result, *times, *counts, f"{one.seconds:.0f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def as_json(results: Iterable[Result]) -> str:
    rows = [
        {
            "drill": one.drill,
            "control": one.control,
            "passed": one.passed,
            "seconds": round(one.seconds, 1),
            "fault_seconds": round(one.fault_s, 1),
            "next_message_seconds": one.first_s,
            "caught_up_seconds": one.caught_up_s,
            "problems": one.verdict.problems,
            **one.verdict.figures,
        }
        for one in results
    ]
    return json.dumps(rows, indent=2)


@click.command(help=__doc__)
@click.argument("names", nargs=-1, metavar="[DRILL]...")
@click.option("--list", "listed", is_flag=True, help="What there is, and end.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures to this file, too.")
@click.option("--control/--no-control", default=True, show_default=True, help="Whether control runs are made.")
@click.option("--only-control", is_flag=True, help="Nothing but the control runs.")
def main(names: Sequence[str], listed: bool, path: Path | None, control: bool, only_control: bool) -> None:
    """Run all drills, or those that are named; exit code 1 when one does not pass."""
    if listed:
        for drill in ENTRIES.values():
            print(f"{drill.id:16} {drill.help}\n{'':16} control: {drill.control}")
        return
    if unknown := set(names) - ENTRIES.keys():
        raise click.UsageError(f"no such drill: {', '.join(sorted(unknown))}; there are {', '.join(ENTRIES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    kinds = [True] if only_control else [False, True] if control else [False]
    began, results = time.monotonic(), list[Result]()
    try:
        for name in names or ENTRIES:
            results += [_run(ENTRIES[name], control=kind, began=began) for kind in kinds]
    finally:
        print(table(results), flush=True)
        if path is not None:
            path.write_text(as_json(results))
    sys.exit(0 if all(one.passed for one in results) else 1)


if __name__ == "__main__":
    main()
