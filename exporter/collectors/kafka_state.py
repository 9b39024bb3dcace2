"""What a Kafka source knows of its label sets: latest values, and aggregates over a moving window. Pure.

The state is a function of the events whose times are recent enough and of `now`, whatever order and batches they came
in. So reading the same messages again after a restart gives the same values. It is kept apart by partition, because a
partition may be taken away, and is put together when it is read.

The window moves in steps of a 60th of its length: it begins with the first whole step in it, and ends now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from exporter.collectors.columns import column
from exporter.collectors.kafka_messages import Event, Tally
from exporter.mapping.conversion import PLAIN, Conversion
from exporter.mapping.convert import convert

Aggregate = Literal["latest", "sum", "avg", "count", "max", "min"]
AHEAD = 60.0  # seconds that an event's time may be ahead of the clock here
_STEPS = 60
_FRAGMENTS = 16
_KEYS = ("partition", "slot", "number")


@dataclass(frozen=True, slots=True)
class StateSpec:
    """What to keep. `columns` maps each column of the frame to its aggregate and field. Durations are in seconds.

    `conversions` says how the values of an aggregate's column are read as numbers; plainly those of a column it lacks.
    """

    labels: tuple[str, ...]
    columns: Mapping[str, tuple[Aggregate, str]]
    expire_after: float
    conversions: Mapping[str, Conversion] = field(default_factory=dict)
    window: float | None = None
    max_label_sets: int = 1_000_000

    def fields(self, *aggregates: Aggregate) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for kind, name in self.columns.values() if kind in aggregates))

    @property
    def horizon(self) -> float:
        """How far back events matter, in seconds before now."""
        return max(self.window or 0.0, self.expire_after)


@dataclass(slots=True)
class _Part:
    """One partition's label sets by number: the time of each's last event, and per latest field its time and value."""

    seen: dict[int, float] = field(default_factory=dict)
    latest: list[dict[int, tuple[float, Any]]] = field(default_factory=list)


class LabelSets:
    """The state of all partitions that are assigned. Of no more label sets than `max_label_sets`."""

    def __init__(self, spec: StateSpec) -> None:
        self._spec = spec
        self._latest = spec.fields("latest")
        self._step = (spec.window or spec.expire_after) / _STEPS
        self._numbers: dict[tuple[str, ...], int] = {}
        self._next = 0
        self._parts: dict[int, _Part] = {}
        self._slots: dict[int, list[pl.DataFrame]] = {}
        self._inputs = _inputs(spec)
        self._stats = _stats(spec)
        self._refused_until = float("-inf")
        self._swept_slot: int | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, events: Sequence[Event], now: float, tally: Tally) -> None:
        """Take events; those that are too late, too early or over the budget are tallied."""
        oldest = self._oldest(now)
        kept: list[tuple[int, int, Event]] = []
        for event in events:
            if (number := self._number(event, now, tally)) is None:
                continue
            self._see(event, number)
            slot = int(event.at // self._step)
            if self._inputs and slot >= oldest:
                kept.append((slot, number, event))
            elif self._inputs:
                tally.add("message_late", event, f"its event is {now - event.at:.0f} s old, beyond the window")
        if kept:
            self._aggregate(kept, tally)
        for slot in [slot for slot in self._slots if slot < oldest]:
            del self._slots[slot]

    def forget(self, partitions: Collection[int], now: float) -> None:
        """Drop all that came from these partitions."""
        for partition in partitions:
            self._parts.pop(partition, None)
        gone = pl.col("partition").is_in(list(partitions))
        for slot, fragments in self._slots.items():
            self._slots[slot] = [fragment.filter(~gone) for fragment in fragments]
        self._sweep(now)

    def over_budget(self, now: float) -> bool:
        """Whether a label set that was refused would still be served."""
        return now < self._refused_until

    @property
    def shared(self) -> int:
        """How often a label set is known from one more partition."""
        return sum(len(part.seen) for part in self._parts.values()) - len(self._numbers)

    def frame(self, now: float) -> pl.DataFrame:
        """A row per label set seen within `expire_after`: its labels, and all columns. No columns when there is none.

        A window without events has a sum and count of 0 and no other aggregate.
        """
        self._sweep(now)
        if not self._numbers:
            return pl.DataFrame()
        numbers = list(self._numbers.values())
        labels = self._spec.labels
        texts = zip(*self._numbers, strict=True) if labels else ()
        series = [pl.Series(name, values, dtype=pl.String) for name, values in zip(labels, texts, strict=True)]
        latest = {name: self._latest_values(position, numbers) for position, name in enumerate(self._latest)}
        windowed = self._windowed(numbers, self._oldest(now))
        for name, (aggregate, field_name) in self._spec.columns.items():
            if name in labels:
                continue  # a column may be a label and a value
            series.append(latest[field_name] if aggregate == "latest" else windowed[name])
        return pl.DataFrame(series)

    def _number(self, event: Event, now: float, tally: Tally) -> int | None:
        """The number of the event's label set; None when the event does not count."""
        if event.at > now + AHEAD:
            tally.add("message_ahead", event, f"its event lies {event.at - now:.0f} s ahead of the clock here")
            return None
        if event.at <= now - self._spec.expire_after:
            tally.add("message_late", event, f"its event is {now - event.at:.0f} s old")
            return None
        number = self._numbers.get(event.labels)
        if number is None and len(self._numbers) >= self._spec.max_label_sets:
            self._sweep_for_room(now)
        if number is None and len(self._numbers) >= self._spec.max_label_sets:
            self._refused_until = max(self._refused_until, event.at + self._spec.expire_after)
            tally.add("rows_truncated", event, f"only the first {self._spec.max_label_sets} label sets are taken")
            return None
        if number is None:
            number = self._numbers[event.labels] = self._next
            self._next += 1
        return number

    def _see(self, event: Event, number: int) -> None:
        """Note an event's time and latest values; of two at the same time the one read last counts."""
        part = self._parts.get(event.partition)
        if part is None:
            part = self._parts[event.partition] = _Part(latest=[{} for _ in self._latest])
        at = event.at
        if part.seen.get(number, float("-inf")) < at:
            part.seen[number] = at
        for values, value in zip(part.latest, event.latest, strict=True):
            if value is not None and ((known := values.get(number)) is None or known[0] <= at):
                values[number] = at, value

    def _oldest(self, now: float) -> int:
        """The first step of the window."""
        return int(now // self._step) - _STEPS + 1

    def _aggregate(self, kept: Sequence[tuple[int, int, Event]], tally: Tally) -> None:
        """Add events with their slots and numbers."""
        slots, numbers, events = zip(*kept, strict=True)
        keys = zip(_KEYS, ([event.partition for event in events], slots, numbers), strict=True)
        columns = [pl.Series(name, values, dtype=pl.Int64) for name, values in keys]
        values = list(zip(*(event.inputs for event in events), strict=True))
        for name, position, how in self._inputs:
            columns.append(_numbers(name, values[position], how, events, tally))
        frame = pl.DataFrame(columns)
        reduced = frame.group_by(_KEYS).agg(getattr(pl.col(of), stat)().alias(name) for name, of, stat in self._stats)
        for (slot,), fragment in reduced.partition_by("slot", as_dict=True).items():
            fragments = self._slots.setdefault(slot, [])
            fragments.append(fragment)
            if len(fragments) > _FRAGMENTS:
                self._slots[slot] = [self._merged(fragments, _KEYS)]

    def _merged(self, fragments: Sequence[pl.DataFrame], keys: Sequence[str]) -> pl.DataFrame:
        merge = {"sum": "sum", "count": "sum", "min": "min", "max": "max"}
        stats = [getattr(pl.col(name), merge[stat])() for name, _, stat in self._stats]
        return pl.concat(fragments).group_by(keys).agg(stats)

    def _windowed(self, numbers: Sequence[int], oldest: int) -> pl.DataFrame:
        """The windowed columns, a row per number."""
        rows = pl.DataFrame({"number": numbers}, schema={"number": pl.Int64})
        fragments = [fragment for slot, found in self._slots.items() if slot >= oldest for fragment in found]
        if not self._stats:
            return rows
        if fragments:
            rows = rows.join(self._merged(fragments, ("number",)), on="number", how="left", maintain_order="left")
        else:
            rows = rows.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name, _, _ in self._stats)
        windowed = {name: of for name, of in self._spec.columns.items() if of[0] != "latest"}
        return rows.select(
            _read(aggregate, _input(name, aggregate, of, self._spec.conversions.get(name, PLAIN))).alias(name)
            for name, (aggregate, of) in windowed.items()
        )

    def _latest_values(self, position: int, numbers: Sequence[int]) -> pl.Series:
        """The newest value of each label set over all partitions."""
        newest: dict[int, tuple[float, Any]] = {}
        for _, part in sorted(self._parts.items()):
            if not newest:
                newest = part.latest[position]
                continue
            newest = dict(newest)
            for number, known in part.latest[position].items():
                if number not in newest or newest[number][0] <= known[0]:
                    newest[number] = known
        return column(self._latest[position], [newest[n][1] if n in newest else None for n in numbers])

    def _sweep_for_room(self, now: float) -> None:
        """Sweep once a step only: over the budget every new label set asks for room."""
        slot = int(now // self._step)
        if slot != self._swept_slot:
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        """Drop the label sets, and the latest values, that were not seen within `expire_after`."""
        self._swept_slot = int(now // self._step)
        line = now - self._spec.expire_after
        alive: set[int] = set()
        for part in self._parts.values():
            part.seen = {number: at for number, at in part.seen.items() if at > line}
            part.latest = [{n: known for n, known in values.items() if known[0] > line} for values in part.latest]
            alive.update(part.seen)
        if len(alive) < len(self._numbers):
            self._numbers = {labels: number for labels, number in self._numbers.items() if number in alive}


def _input(column: str, aggregate: Aggregate, name: str, how: Conversion) -> str:
    """What a column aggregates: a field as plain numbers, as numbers read in the column's own way, or its presence."""
    if aggregate == "count":
        return f"present:{name}"
    return f"number:{name}" if how == PLAIN else f"number:{column}"


def _inputs(spec: StateSpec) -> tuple[tuple[str, int, Conversion], ...]:
    """Each input once: its name, its position in an event's inputs, and how it is read."""
    numbers, present = spec.fields("sum", "avg", "max", "min"), spec.fields("count")
    found: dict[str, tuple[str, int, Conversion]] = {}
    for column_name, (aggregate, name) in spec.columns.items():
        if aggregate == "latest":
            continue
        how = spec.conversions.get(column_name, PLAIN)
        of = _input(column_name, aggregate, name, how)
        position = len(numbers) + present.index(name) if aggregate == "count" else numbers.index(name)
        found[of] = of, position, how
    return tuple(found.values())


def _numbers(name: str, values: Sequence[Any], how: Conversion, events: Sequence[Event], tally: Tally) -> pl.Series:
    """Values as the mapping reads them. What is none is tallied, and is missing, as NaN is: no sum could do without."""
    label = name.partition(":")[2]
    found = convert(_column(label, values), how)
    if found.refused is not None:
        first = events[int(found.refused.arg_true()[0])]
        (warning,) = found.warnings
        tally.add(warning.reason, first, warning.detail, warning.count)
    return found.values.cast(pl.Float64).fill_nan(None).alias(name)


def _column(name: str, values: Sequence[Any]) -> pl.Series:
    """As any column, but integers among fractions, which JSON does not tell apart, make no text of both."""
    if set(map(type, values)) <= {int, float, type(None)}:
        with suppress(OverflowError, TypeError):
            return pl.Series(name, values, dtype=pl.Float64)
    return column(name, values)


def _stats(spec: StateSpec) -> list[tuple[str, str, str]]:
    """What is kept per step: column, the input it is of, and how it is reduced; each once."""
    needed: dict[Aggregate, tuple[str, ...]] = {"avg": ("sum", "count"), "count": ("sum",)}
    found: dict[str, tuple[str, str, str]] = {}
    for column_name, (aggregate, name) in spec.columns.items():
        if aggregate == "latest":
            continue
        of = _input(column_name, aggregate, name, spec.conversions.get(column_name, PLAIN))
        for stat in needed.get(aggregate, (aggregate,)):
            found[f"{stat}:{of}"] = f"{stat}:{of}", of, stat
    return list(found.values())


def _read(aggregate: Aggregate, name: str) -> pl.Expr:
    """An aggregate from what is kept of its input."""
    match aggregate:
        case "count":
            return pl.col(f"sum:{name}").fill_null(0).cast(pl.Int64)
        case "sum":
            return pl.col(f"sum:{name}").fill_null(0)
        case "avg":
            count = pl.col(f"count:{name}")
            return pl.when(count > 0).then(pl.col(f"sum:{name}") / count)
        case _:
            return pl.col(f"{aggregate}:{name}")
