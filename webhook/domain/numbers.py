"""Which numbers of a text are ours: as given, as percent, or rounded. Everything else was invented."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from webhook.domain.message import Note, duration_of, merchant_of
from webhook.domain.metric import Unit, metric_words

# Part of a word (P1, acc_017) is no number of its own; "3-D Secure" is a name.
_NUMBER = re.compile(r"(?<![\w.,])[-+]?(\d[\d,]*(?:\.\d+)?)\s*(%|percent\b|per cent\b)?", re.IGNORECASE)
_NAMES = re.compile(r"\b3-?DS?\d?\b", re.IGNORECASE)
_CLOCK = re.compile(r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{1,2}:\d{2}(?::\d{2})?)?Z?\b|\b\d{1,2}:\d{2}(?::\d{2})?\b")
_SPELLED = re.compile(
    r"\b(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|dozens?|hundreds?|thousands?|millions?|billions?|"
    r"half|double[ds]?|twice|triple[ds]?|quarter)\b",
    re.IGNORECASE,
)

_ROUNDED_FROM = 100


@dataclass(frozen=True, slots=True)
class _Known:
    """A number that may be told. `percent`: with a percent sign; `decimals`: digits it needs at least."""

    value: float
    percent: bool = False
    decimals: int = 0


def invented_numbers(text: str, note: Note) -> list[str]:
    """Numbers of `text`, digits and the common words, that neither the metrics nor the times of `note` hold."""
    text = unicodedata.normalize("NFKC", text)
    for name in (note.merchant_name, merchant_of(note), note.account_id):
        if name:
            text = text.replace(unicodedata.normalize("NFKC", name), " ")
    text = _NAMES.sub(" ", text)
    invented = _foreign_times(text, note)
    text = _CLOCK.sub(" ", text)
    known = list(_known_numbers(note))
    invented += [match[0].strip() for match in _NUMBER.finditer(text) if not _is_known(match, known)]
    return invented + [match[0] for match in _SPELLED.finditer(text)]


def _is_known(match: re.Match[str], known: list[_Known]) -> bool:
    digits = match[1].rstrip(",").replace(",", "")
    decimals = len(digits.partition(".")[2])
    told = float(digits)
    return any(_matches(told, decimals, bool(match[2]), number) for number in known)


def _matches(told: float, decimals: int, percent: bool, number: _Known) -> bool:
    if percent and not number.percent:
        return False
    if decimals < number.decimals:
        return False
    value = abs(number.value)
    if abs(value - told) <= 0.5 * 10**-decimals + 1e-9 * max(value, 1):
        return True
    if decimals or value < _ROUNDED_FROM:
        return False
    # "about 1,200" for 1,234: two significant digits are kept.
    return any(told == round(value, -places) for places in range(1, math.floor(math.log10(value))))


def _known_numbers(note: Note) -> Iterator[_Known]:
    for numbers in (note.metrics, note.thresholds, note.peaks):
        for name, value in numbers.items():
            if not math.isfinite(value):
                continue
            if metric_words(name).unit is Unit.SHARE:
                yield _Known(value * 100, percent=True)
                yield _Known(value, decimals=2)
            else:
                yield _Known(value)
    yield _Known(note.occurrence_count)
    yield from map(_Known, _spans(round(duration_of(note).total_seconds())))


def _spans(seconds: int) -> Iterator[float]:
    """A duration as people tell it: in all seconds, minutes or hours, and as days, hours, minutes, seconds."""
    for size in (1, 60, 3600):
        yield seconds / size
        yield seconds // size
    yield from (seconds // 86400, seconds % 86400 // 3600, seconds % 3600 // 60, seconds % 60)


def _foreign_times(text: str, note: Note) -> list[str]:
    moments = [note.first_triggered_at, note.last_triggered_at, note.created_at, note.resolved_at]
    told = {form for moment in moments if moment for form in _forms(moment)}
    return [match[0] for match in _CLOCK.finditer(text) if match[0].rstrip("Z").replace("T", " ") not in told]


def _forms(moment: datetime) -> Iterator[str]:
    utc = moment.astimezone(UTC)
    for clock in (f"{utc:%H:%M}", f"{utc:%H:%M:%S}"):
        yield clock
        yield clock.removeprefix("0")
        yield f"{utc:%Y-%m-%d} {clock}"
    yield f"{utc:%Y-%m-%d}"
