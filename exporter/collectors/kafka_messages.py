"""Kafka messages to events: the labels, values and time that a source's metrics read of each. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from operator import methodcaller
from typing import Any, NamedTuple

import jmespath
from pydantic_core import from_json

Row = dict[str, Any]
_Field = tuple[str, Callable[[Row], Any]]
PARTITION, KEY = "kafka_partition", "kafka_key"
TOMBSTONE = "tombstone"
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EXAMPLE_LENGTH = 40
_EXAMPLE_FIELDS = 20
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Message(NamedTuple):
    """One message of the topic. `at` is its own timestamp in Unix seconds."""

    partition: int
    offset: int
    at: float
    key: bytes | None
    value: bytes | None


class Event(NamedTuple):
    """What one object of a message says. `at` is in Unix seconds; values are in the order of the decoding's fields.

    `latest` are plain JSON values. `inputs` are those of fields that are to be numbers, then 1.0 for each field that is
    to be present. What is missing is None.
    """

    partition: int
    offset: int
    at: float
    labels: tuple[str, ...]
    latest: Sequence[Any]
    inputs: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Decoding:
    """What to read of a message. Names are keys of an object, or dotted paths into nested ones.

    `labels` and the three kinds of value fields give an event's values in this order. A label in `defaults` may be
    missing; so may all values if not `needs_value`. `event_time` is a number in `unit` since 1970 or ISO 8601 text;
    None for the message's own timestamp.
    """

    labels: tuple[str, ...]
    latest: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    needs_value: bool = True
    rows: str | None = None
    event_time: str | None = None
    unit: str = "ms"
    max_bytes: int = 1024 * 1024

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.latest, *self.numbers, *self.present)))


@dataclass(slots=True)
class Tally:
    """How many messages were left out or changed so far, by reason, and one example of each that is not told yet."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, message: Message | Event, what: str, count: int = 1) -> None:
        self.counts[reason] += count
        if reason not in self.examples:
            self.examples[reason] = f"partition {message.partition}, offset {message.offset}: {what}"

    def copy(self) -> Tally:
        return Tally(Counter(self.counts), dict(self.examples))

    def forget_examples(self, told: Tally) -> None:
        """Make room for new examples of what the copy `told` was taken of, and nothing came after."""
        for reason, count in told.counts.items():
            if self.counts[reason] == count:
                self.examples.pop(reason, None)


class Decoder:
    """Reads events of messages. A message that cannot be read is tallied and brings none."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self._rows = jmespath.compile(decoding.rows) if decoding.rows else None
        self._labels = [(name, _reader(name), decoding.defaults.get(name)) for name in decoding.labels]
        self._readers = {name: _reader(name) for name in decoding.fields}
        self._latest = [(name, self._readers[name]) for name in decoding.latest]
        self._numbers = [(name, self._readers[name]) for name in decoding.numbers]
        self._present = [self._readers[name] for name in decoding.present]
        self._time = _reader(decoding.event_time) if decoding.event_time else None
        self._adds_metadata = not {PARTITION, KEY}.isdisjoint((*decoding.labels, *decoding.fields))
        self._wanting = dict(self._readers)
        self._example: Row = {}

    @property
    def absent(self) -> frozenset[str]:
        """Fields that no message had so far."""
        return frozenset(self._wanting)

    @property
    def example_fields(self) -> tuple[str, ...]:
        """Names that the last message had which lacked a field."""
        return tuple(dict.fromkeys(_names(self._example)))

    def events(self, message: Message, tally: Tally) -> list[Event]:
        decoding = self._decoding
        if message.value is None:
            tally.add(TOMBSTONE, message, "no value")
            return []
        if len(message.value) > decoding.max_bytes:
            what = f"{len(message.value)} bytes are more than max_message_bytes ({decoding.max_bytes})"
            tally.add("message_too_large", message, what)
            return []
        try:
            content = _content(message.value)
        except (ValueError, RecursionError) as error:
            tally.add("message_not_json", message, f"is no JSON ({_cause(error)})")
            return []
        if self._rows is None and isinstance(content, dict):
            event = self._event(content, message, tally)
            return [] if event is None else [event]
        rows = self._found(content, message, tally)
        return [event for row in rows if (event := self._event(row, message, tally)) is not None]

    def _found(self, content: object, message: Message, tally: Tally) -> list[Any]:
        """What `rows` finds in a message, one object or a list of them; only objects are rows."""
        if self._rows is None:
            tally.add("message_no_object", message, f"is {_kind(content)}, not an object")
            return []
        try:
            found = self._rows.search(content)
        except jmespath.exceptions.JMESPathError as error:
            tally.add("message_no_object", message, f"rows `{self._decoding.rows}` cannot be read: {error}")
            return []
        rows = found if isinstance(found, list) else [found]
        odd = [row for row in rows if not isinstance(row, dict)]
        if odd:
            tally.add("message_no_object", message, f"rows `{self._decoding.rows}` has {_kind(odd[0])}, not an object")
        return [row for row in rows if isinstance(row, dict)]

    def _event(self, row: Row, message: Message, tally: Tally) -> Event | None:
        if self._adds_metadata:
            key = message.key.decode("utf-8", "replace") if message.key else ""
            row = {**row, PARTITION: message.partition, KEY: key}
        at = message.at if self._time is None else self._event_time(self._time(row))
        if at is None:
            what = f"event_time {self._decoding.event_time} is {_excerpt(self._time and self._time(row))}"
            tally.add("message_time_unreadable", message, f"{what}, neither a number nor an ISO 8601 time")
            return None
        labels = self._label_texts(row, message, tally)
        if labels is None:
            return None
        if self._wanting:
            self._look_for_fields(row)
        latest = self._plain_values(row, self._latest, message, tally)
        inputs = self._plain_values(row, self._numbers, message, tally)
        inputs += [None if read(row) is None else 1.0 for read in self._present]
        valueless = inputs.count(None) == len(inputs) and latest.count(None) == len(latest)
        if valueless and self._decoding.needs_value:
            self._lacks(f"has no value in {' or '.join(self._decoding.fields)}", row, message, tally)
            return None
        return Event(message.partition, message.offset, at, labels, latest, inputs)

    def _label_texts(self, row: Row, message: Message, tally: Tally) -> tuple[str, ...] | None:
        """Text of each label; None when one without a default is missing. Empty is as good as missing for a default."""
        texts = []
        for name, read, default in self._labels:
            value = read(row)
            if type(value) is str and value.isascii() and "\0" not in value:  # most are
                text = value
            elif value is None or isinstance(value, dict | list):
                if default is None:
                    self._lacks(f"has no plain value in {name}, which is a label", row, message, tally)
                    return None
                text = default
            else:
                text = _label_text(value, message, tally)
            texts.append(text or default or "")
        return tuple(texts)

    def _lacks(self, what: str, row: Row, message: Message, tally: Tally) -> None:
        self._example = row
        names = ", ".join(list(_names(row))[:_EXAMPLE_FIELDS])
        tally.add("message_field_missing", message, f"{what}; it has: {names or 'no fields'}")

    def _look_for_fields(self, row: Row) -> None:
        found = [name for name, read in self._wanting.items() if read(row) is not None]
        for name in found:
            del self._wanting[name]
        if self._wanting:
            self._example = row

    def _event_time(self, value: object) -> float | None:
        number = _epoch(value)
        if number is not None:
            return number / _UNITS[self._decoding.unit]
        if not isinstance(value, str):
            return None
        try:
            time = datetime.fromisoformat(value)
            return time.replace(tzinfo=time.tzinfo or UTC).timestamp()
        except (ValueError, OverflowError):
            return None

    @staticmethod
    def _plain_values(row: Row, fields: Iterable[_Field], message: Message, tally: Tally) -> list[Any]:
        """A list or an object is tallied, and is missing."""
        values = []
        for name, read in fields:
            value = read(row)
            if type(value) is dict or type(value) is list:
                tally.add("not_plain", message, f"field {name}: {_kind(value)}, taken as missing")
                value = None
            values.append(value)
        return values


def _content(value: bytes) -> object:
    """What JSON says, by a parser three times as fast as the standard library's, which tells mistakes better."""
    try:
        return from_json(value)
    except ValueError:
        return json.loads(value.decode())


def _epoch(value: object) -> float | None:
    """A finite number of a time, from a JSON number or text that is a number; else None."""
    if not isinstance(value, (int, float, str)) or isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def _reader(name: str) -> Callable[[Row], Any]:
    """Reads a key of an object, or else a dotted path into nested ones."""
    keys = name.split(".")
    if len(keys) == 1:
        return methodcaller("get", name)

    def read(row: Row) -> Any:  # noqa: ANN401 - whatever JSON holds
        if name in row:
            return row[name]
        value: Any = row
        for key in keys:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    return read


def _label_text(value: object, message: Message, tally: Tally) -> str:
    """Text of a plain value; what no label can hold is replaced here, for label sets must differ as shown."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    clean = text.replace("\0", _REPLACEMENT).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if clean != text:
        tally.add("label_cleaned", message, "a NUL or half a character in a label was replaced")
    return clean


def _names(row: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """Keys of an object, those of objects in it as dotted paths."""
    for key, value in row.items():
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _excerpt(value: object) -> str:
    return "missing" if value is None else repr(value)[:_EXAMPLE_LENGTH]


def _cause(error: ValueError | RecursionError) -> str:
    match error:
        case json.JSONDecodeError():
            return f"{error.msg} at character {error.pos}"
        case UnicodeDecodeError():
            return f"no UTF-8 at byte {error.start}"
        case RecursionError():
            return "nested too deeply"
        case _:
            return "a number that is too long"


def _kind(value: object) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case None:
            return "null"
        case str():
            return "text"
        case bool():
            return "true or false"
        case _:
            return "a number"
