"""How two expositions differ, family by family and series by series. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(slots=True)
class Family:
    """One family of an exposition: its type, and the text of each series' value by the series as it is written."""

    type: str = "untyped"
    samples: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FamilyDifference:
    """What would be new, gone or changed in a family. `before` and `after` are None where there is no such family."""

    name: str
    before: Family | None
    after: Family | None
    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        return bool(self.new or self.gone or self.changed or self.retyped) or None in (self.before, self.after)

    @property
    def retyped(self) -> bool:
        return self.before is not None and self.after is not None and self.before.type != self.after.type


def difference(before: str, after: str) -> tuple[FamilyDifference, ...]:
    """Every family of either text (format 0.0.4, without timestamps), those of `after` first."""
    old, new = read(before), read(after)
    return tuple(_compared(name, old.get(name), new.get(name)) for name in dict.fromkeys([*new, *old]))


def read(text: str) -> Mapping[str, Family]:
    """Families by name; the samples that follow a family's TYPE are its own."""
    families: dict[str, Family] = {}
    family = Family()
    for line in text.split("\n"):
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            family = families.setdefault(name, Family(kind))
        elif line and not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            family.samples[series] = value
    return families


def _compared(name: str, before: Family | None, after: Family | None) -> FamilyDifference:
    old, new = before.samples if before else {}, after.samples if after else {}
    gone = {series: _key(series) for series in old if series not in new}
    fresh = {_key(series): series for series in new if series not in old}
    renamed = {series: fresh.pop(key) for series, key in gone.items() if key in fresh}  # only the labels' order differs
    both = [(series, series) for series in old if series in new] + list(renamed.items())
    changed = tuple(now for then, now in both if not _same(old[then], new[now]))
    left = tuple(series for series in gone if series not in renamed)
    return FamilyDifference(name, before, after, tuple(fresh.values()), left, changed)


def _key(series: str) -> tuple[object, ...]:
    """The series whatever the order of its labels."""
    name, _, labels = series.partition("{")
    return name, *sorted(_LABEL.findall(labels))


def _same(before: str, after: str) -> bool:
    return before == after or float(before) == float(after)
