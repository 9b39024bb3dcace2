"""All drills by name, those under load and those with a stage of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drills import disk, missed, side
from drills.catalogue import DRILLS
from drills.run import Drill, Result, Say, run
from drills.verify import Verdict


@dataclass(frozen=True)
class Entry:
    """`run(control=…, say=…)` is the drill itself, or its control."""

    id: str
    help: str
    control: str
    run: Callable[..., Result]


def _under_load(drill: Drill) -> Entry:
    def one(*, control: bool, say: Say) -> Result:
        if drill.needs.small_disk and disk.wants_namespace():
            return _in_namespace(drill.id, control=control, say=say)
        return run(drill, control=control, say=say)

    return Entry(drill.id, drill.help, drill.control, one)


def _in_namespace(drill: str, *, control: bool, say: Say) -> Result:
    """The same drill in a process that may mount; it says for itself what it does."""
    say("in a namespace of its own, where it may mount")
    with tempfile.TemporaryDirectory(prefix="sentinel-drill-") as folder:
        path = Path(folder) / "figures.json"
        kind = "--only-control" if control else "--no-control"
        command = [*disk.NAMESPACE, sys.executable, "-m", "drills", drill, kind, "--json", str(path)]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        (found,) = json.loads(path.read_text())
    verdict = Verdict(broken=found["problems"], figures=found)
    times = found["fault_seconds"], found["next_message_seconds"], found["caught_up_seconds"]
    crashed = not found["passed"] and bool(found["problems"]) == control
    return Result(drill, control, verdict, found["seconds"], *times, crashed=crashed)


ENTRIES: dict[str, Entry] = {
    entry.id: entry
    for entry in (
        *map(_under_load, DRILLS.values()),
        Entry("missed", missed.HELP, missed.CONTROL, missed.run),
        Entry("cut", missed.CUT_HELP, missed.CUT_CONTROL, missed.cut),
        Entry(
            "exporter-config",
            "give the exporter a broken configuration: the reload refuses it, and data goes on",
            "it is started anew with that file",
            side.exporter_config,
        ),
        Entry(
            "rules",
            "give Prometheus a broken rule file: the reload refuses it, and the old rules are evaluated on",
            "it is started anew with that file",
            side.rule_file,
        ),
    )
}
