"""Each drill has a control that differs from it, and what a control takes away is still there to be taken."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from drills import missed, side
from drills.catalogue import DRILLS
from drills.entries import ENTRIES
from drills.launch import WITHOUT

LAUNCHED = {"serve", "worker", "new-serve", "new-worker"}
OWN_STAGE = {"missed", "cut", "exporter-config", "rules"}


@pytest.mark.parametrize("name", DRILLS)
def test_the_control_of_a_drill_lacks_something(name: str) -> None:
    drill = DRILLS[name]
    as_it_is, control = drill.needs_of(control=False), drill.needs_of(control=True)
    assert control != as_it_is, "a control that is the drill itself shows nothing"
    assert not as_it_is.without
    assert control.without.keys() <= LAUNCHED, "of no other program can something be taken"
    assert set(control.without.values()) <= WITHOUT.keys()


@pytest.mark.parametrize("run", [missed.run, missed.cut])
def test_the_control_of_an_attack_that_nobody_hears_of_lacks_something(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks: list[dict[str, str]] = []
    monkeypatch.setattr(missed, "_run", lambda _drill, without, *_: lacks.append(without))
    for control in (False, True):
        run(control=control, say=print)
    as_it_is, missing = lacks
    assert not as_it_is
    assert set(missing) == {"worker"}
    assert set(missing.values()) <= WITHOUT.keys()


@pytest.mark.parametrize("run", [side.exporter_config, side.rule_file])
def test_the_control_of_a_broken_file_is_a_start_with_it(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[bool] = []
    monkeypatch.setattr(side, "broken_file", lambda *_, control: kinds.append(control))
    for control in (False, True):
        run(control=control, say=print)
    assert kinds == [False, True]


def test_no_drill_is_left_out_here() -> None:
    assert DRILLS.keys() | OWN_STAGE == ENTRIES.keys()


def test_what_controls_take_away_is_there() -> None:
    """In a process of its own, which is spoilt by it. Each raises AttributeError where its name is gone."""
    environment = {**os.environ, "SENTINEL_PROMETHEUS_URL": "http://127.0.0.1:1"}
    code = "from drills.launch import WITHOUT\nfor take in WITHOUT.values(): take()"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
