"""What of `make drill` is short enough to run each time, beside test_drills.py; docs/drills.md says which."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def drilled(folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and figures of each run."""
    figures = folder / "figures.json"
    command = [sys.executable, "-m", "drills", *arguments, "--json", str(figures)]
    done = subprocess.run(command, check=False, cwd=ROOT, timeout=500)
    return done.returncode, json.loads(figures.read_text())


@pytest.mark.timeout(600)  # half a minute where nothing else runs
def test_broken_files_with_their_controls(tmp_path: Path) -> None:
    code, runs = drilled(tmp_path, "rules", "exporter-config")

    assert [(one["drill"], one["control"]) for one in runs] == [
        (name, control) for name in ("rules", "exporter-config") for control in (False, True)
    ]
    assert (code, [one["passed"] for one in runs]) == (0, [True] * 4)
    assert [bool(one["problems"]) for one in runs] == [False, True, False, True]


@pytest.mark.timeout(600)  # half a minute, too
def test_a_control_fails_for_what_it_lacks(tmp_path: Path) -> None:
    """And not because it does not work any more."""
    code, (control,) = drilled(tmp_path, "slack", "--only-control")

    assert (code, control["passed"]) == (0, True)
    assert any("said to be sent and Slack never took them" in problem for problem in control["problems"]), control
