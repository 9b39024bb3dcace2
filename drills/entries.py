"""All drills by name, those under load and those with a stage of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drills import missed, side
from drills.catalogue import DRILLS
from drills.run import Drill, Result, Say, run


@dataclass(frozen=True)
class Entry:
    """`run(control=…, say=…)` is the drill itself, or its control."""

    id: str
    help: str
    control: str
    run: Callable[..., Result]


def _under_load(drill: Drill) -> Entry:
    def one(*, control: bool, say: Say) -> Result:
        return run(drill, control=control, say=say)

    return Entry(drill.id, drill.help, drill.control, one)


ENTRIES: dict[str, Entry] = {
    entry.id: entry
    for entry in (
        *map(_under_load, DRILLS.values()),
        Entry("missed", missed.HELP, missed.CONTROL, missed.run),
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
