"""Units that values are written in. A unit is a power of ten and a whole factor of the base unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Unit(NamedTuple):
    """`value * factor * 10**power` is in the base unit."""

    power: int = 0
    factor: int = 1


def _named(units: Mapping[str, Unit]) -> Mapping[str, Unit]:
    """Units by each of their names, which are separated by spaces."""
    return {name: unit for names, unit in units.items() for name in names.split()}


_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
DURATIONS = _named(
    {
        "ns nanosecond nanoseconds": Unit(-9),
        "us µs μs microsecond microseconds": Unit(-6),
        "ms msec millisecond milliseconds": Unit(-3),
        "s sec secs second seconds": Unit(),
        "m min mins minute minutes": Unit(factor=_MINUTE),
        "h hr hrs hour hours": Unit(factor=_HOUR),
        "d day days": Unit(factor=_DAY),
        "w week weeks": Unit(factor=7 * _DAY),
    }
)
BYTES = _named(
    {
        "b byte bytes": Unit(),
        "k kb": Unit(3),
        "m mb": Unit(6),
        "g gb": Unit(9),
        "t tb": Unit(12),
        "p pb": Unit(15),
        "e eb": Unit(18),
        "ki kib": Unit(factor=2**10),
        "mi mib": Unit(factor=2**20),
        "gi gib": Unit(factor=2**30),
        "ti tib": Unit(factor=2**40),
        "pi pib": Unit(factor=2**50),
        "ei eib": Unit(factor=2**60),
    }
)
QUANTITIES = _named(
    {
        "n": Unit(-9),
        "u µ μ": Unit(-6),
        "m": Unit(-3),
        "k K": Unit(3),
        "M": Unit(6),
        "G": Unit(9),
        "T": Unit(12),
        "P": Unit(15),
        "E": Unit(18),
        "Ki": Unit(factor=2**10),
        "Mi": Unit(factor=2**20),
        "Gi": Unit(factor=2**30),
        "Ti": Unit(factor=2**40),
        "Pi": Unit(factor=2**50),
        "Ei": Unit(factor=2**60),
    }
)
UNIX_TIMES = {"s": Unit(), "ms": Unit(-3), "us": Unit(-6), "ns": Unit(-9)}

# The units that `unit` may name, for values that are written without one.
UNITS_OF: Mapping[str, Mapping[str, Unit]] = {"duration": DURATIONS, "bytes": BYTES, "timestamp": UNIX_TIMES}


def unit_of(kind: str, name: str | None) -> Unit:
    """The unit that `unit` names; the base unit when it names none. KeyError for one that the kind does not have."""
    units = UNITS_OF.get(kind, {})
    if name is None:
        return Unit()
    return units[name] if name in units else units[name.lower() if kind == "bytes" else name]
