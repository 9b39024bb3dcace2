"""What a source's collections measured about themselves: counters add up, gauges are those of the last one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from exporter.collectors.base import Measure

MOST_LABEL_SETS = 100  # of one measure of one source
_NAME = re.compile(r"[a-z][a-z0-9_]*")

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measure over all runs so far, by label set."""

    help: str
    kind: Literal["gauge", "counter"]
    values: Mapping[Labels, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """All measures of a source by name; `refused` counts what was left out.

    Left out are names that no metric can have, a name that was of the other kind before, and label sets beyond
    MOST_LABEL_SETS: what a source names its labels after must not grow without end.
    """

    by_name: Mapping[str, Measurement] = field(default_factory=dict)
    refused: int = 0

    def after(self, measures: Iterable[Measure]) -> Measured:
        """With those of one more run. A gauge that this run names again has no other label sets than this run's."""
        found = dict(self.by_name)
        refused = self.refused
        seen: set[str] = set()
        for measure in measures:
            values = _values(found.get(measure.name), measure, again=measure.name in seen)
            if values is None:
                refused += 1
                continue
            seen.add(measure.name)
            found[measure.name] = Measurement(measure.help, measure.kind, values)
        return Measured(found, refused) if seen or refused != self.refused else self


def _values(known: Measurement | None, measure: Measure, *, again: bool) -> dict[Labels, float] | None:
    if not _NAME.fullmatch(measure.name) or (known is not None and known.kind != measure.kind):
        return None
    counts = measure.kind == "counter"
    values = dict(known.values) if known is not None and (counts or again) else {}
    labels = tuple(sorted(measure.labels.items()))
    if labels not in values and len(values) >= MOST_LABEL_SETS:
        return None
    if counts and not measure.value >= 0:  # a counter that fell, or NaN, would be wrong for ever
        return None
    values[labels] = (values.get(labels, 0.0) if counts else 0.0) + measure.value
    return values
