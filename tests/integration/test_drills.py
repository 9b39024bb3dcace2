"""Drills in a short form: one fault with its control, and that the verification sees what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from servers import wait_for

from drills.entries import ENTRIES
from drills.load import Attack
from drills.memory import Growth
from drills.slack import Slack, Taken
from drills.soak import allowed
from drills.store import Message, Stored
from drills.tap import Passed, Tap
from drills.verify import verify

ROOT = Path(__file__).resolve().parent.parent.parent
FIRST = Message("1", "acc_1", "first", "SENT", 0, 0.1)
LAST = replace(FIRST, id="2", reason="resolved")
FINE = Stored(4, Counter(created=1), {"acc_1": ["RESOLVED"]}, Counter(), [FIRST, LAST])
TAKEN = ["1", "2"]
KNOWN = replace(FINE, messages=[replace(FIRST, maybe_repeated=1), LAST])


def problems(
    stored: Stored = FINE, taken: list[str] | None = None, delivered: int = 4, broken_off: int = 0
) -> list[str]:
    attack = Attack("acc_1", 0.0, datetime.now(UTC), posted=True)
    tap, slack = Tap(passed=[Passed(0.0, delivered, 200, 0.0)]), Slack()
    slack.taken = [Taken(0.0, one, reply=False) for one in taken or TAKEN]
    return verify([attack], delivered, tap, stored, slack, broken_off=broken_off).problems


def test_what_is_as_it_should_be_is_no_problem() -> None:
    assert problems() == []
    assert problems(KNOWN, ["1", "1", "2"], broken_off=1) == [], "what the drill broke off may come again"
    assert problems(KNOWN) == [], "and need not"


@pytest.mark.parametrize(
    ("found", "what"),
    [
        ({"delivered": 5}, "answered with 200 and are not in the ledger"),
        ({"stored": replace(FINE, logged=5)}, "never delivered"),
        ({"stored": replace(FINE, alerts={})}, "no alert"),
        ({"stored": replace(FINE, alerts={"acc_1": ["RESOLVED"] * 2})}, "two alerts"),
        ({"stored": replace(FINE, alerts={"acc_1": ["ACTIVE"]})}, "over and their alerts are not"),
        ({"stored": replace(FINE, firing=Counter(acc_1=1))}, "over and their alerts are not"),
        ({"stored": replace(FINE, messages=[FIRST])}, "no message `resolved`"),
        ({"stored": replace(FINE, messages=[FIRST, LAST, replace(FIRST, id="3")])}, "two messages `first`"),
        ({"stored": replace(FINE, messages=[FIRST, replace(LAST, status="PENDING")])}, "still in the outbox"),
        ({"stored": replace(FINE, messages=[FIRST, replace(LAST, status="FAILED")])}, "given up"),
        ({"taken": ["1"]}, "Slack never took them"),
        ({"taken": ["1", "1", "2"], "broken_off": 1}, "more often than is known"),
        ({"stored": KNOWN, "taken": ["1", "1", "2"]}, "1 messages came to Slack again, and the drill broke off 0"),
    ],
)
def test_what_is_wrong_is_seen(found: dict[str, object], what: str) -> None:
    assert any(what in problem for problem in problems(**found)), problems(**found)  # type: ignore[arg-type]


def test_memory_that_grows_is_told_from_memory_that_varies() -> None:
    warm = [(float(at), 50.0 * (at < 100)) for at in range(0, 100, 10)]
    leak = [*warm, *((float(at), 100 + at / 100 + at % 3) for at in range(100, 1800, 10))]
    noise = [*warm, *((float(at), 100.0 + at % 7) for at in range(100, 1800, 10))]

    assert Growth(leak).an_hour() == pytest.approx(36, abs=2)
    assert Growth(noise).an_hour() == pytest.approx(0, abs=1)
    assert Growth(leak).grown() > allowed(Growth(leak))
    assert Growth(noise).grown() < allowed(Growth(noise))


def test_a_leak_that_was_within_twelve_mib_an_hour_is_short() -> None:
    """A process of 120 MiB that would have doubled in half a day."""
    leak = [(float(at), 120 + at / 360 + at % 3) for at in range(0, 1800, 5)]

    assert Growth(leak).an_hour() == pytest.approx(10, abs=1)
    assert Growth(leak).grown() > allowed(Growth(leak))


def test_every_drill_says_what_it_does_and_what_its_control_lacks() -> None:
    asked = "serve worker postgresql sqlite redis prometheus alertmanager disk llm slack clock config missed cut"
    assert set(asked.split()) <= ENTRIES.keys()
    assert all(entry.help and entry.control for entry in ENTRIES.values())


def run(*arguments: str, folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.Popen([sys.executable, "-m", "drills", *arguments], cwd=ROOT, env=environment)


@pytest.mark.timeout(900)  # a minute where nothing else runs
def test_a_fault_and_its_control(tmp_path: Path) -> None:
    """`sqlite` needs no other server than Alertmanager."""
    with run("sqlite", "--json", str(tmp_path / "figures.json"), folder=tmp_path) as process:
        code = process.wait(800)

    drill, control = json.loads((tmp_path / "figures.json").read_text())
    assert (code, drill["problems"]) == (0, [])
    assert drill["logged"] == drill["delivered"] == sum(drill["outcomes"].values())
    assert any("not in the ledger" in problem for problem in control["problems"])
    assert not list(tmp_path.glob("sentinel-drill-*")), "nothing is left"


def test_an_interrupted_drill_leaves_nothing_running(tmp_path: Path) -> None:
    def ours() -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found.append(path.read_text())
            except OSError:
                continue
        return [line for line in found if str(tmp_path) in line]

    with run("disk", folder=tmp_path) as process:
        wait_for(lambda: any("alertmanager" in line for line in ours()), what="its Alertmanager", timeout=120)
        process.send_signal(signal.SIGINT)
        process.wait(120)

    assert ours() == []
    assert not list(tmp_path.glob("sentinel-drill-*"))
