"""Which numbers of a text are ours: as given, as percent, or rounded. Everything else was invented."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from webhook.domain.circumstances import NOTHING_KNOWN, Circumstances
from webhook.domain.message import Note, duration_of, merchant_of
from webhook.domain.metric import Unit, metric_words
from webhook.domain.number_words import NAMES, PERCENT, comma_is_decimal, small_numbers, unclear_words

# Thousands are set apart by a space, an apostrophe, a point or a comma. What is glued to it says what it counts.
_SPACES = " '\u2019"
_NUMBER = re.compile(
    rf"(?<![\d.,])(\d{{1,3}}(?:[{_SPACES}]\d{{3}})+(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)*|[.,]\d+)"
    rf"(?:\s*({PERCENT})|([A-Za-z\u00d7]+)?)",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(?<!\d)(?:\d{4}-\d{2}-\d{2}(?:[T ]\d{1,2}:\d{2}(?::\d{2})?)?Z?"
    r"|\d{1,2}[./]\d{1,2}[./]\d{4}|\d{1,2}:\d{2}(?::\d{2})?)(?!\d)"
)
_FRACTION = re.compile(r"\d\s*[/\u2044]\s*\d")
_GLUED = frozenset({"", "s", "sec", "min", "h", "d", "utc", "st", "nd", "rd", "th"})
_SEPARATORS = str.maketrans({"\u066b": ".", "\u066c": ","})

_ROUNDED_FROM = 100


@dataclass(frozen=True, slots=True)
class _Known:
    """A number that may be told. `percent`: with a percent sign; `decimals`: digits it needs at least."""

    value: float
    percent: bool = False
    decimals: int = 0


def invented_numbers(text: str, note: Note, around: Circumstances = NOTHING_KNOWN) -> list[str]:
    """Numbers of `text`, digits and words, that neither the metrics and times of `note` nor `around` hold."""
    text = _without_names(unicodedata.normalize("NFKC", text).translate(_SEPARATORS), note)
    invented = _foreign_times(text, note, around)
    text = _CLOCK.sub(" ", text)
    known = list(_known_numbers(note, around))
    invented += [match[0] for match in _FRACTION.finditer(text)]
    comma = comma_is_decimal(around.language)
    invented += [match[0].strip() for match in _NUMBER.finditer(text) if not _is_known(match, known, comma=comma)]
    small = small_numbers(text, around.language)
    invented += [word for word, value in small if not any(_matches(value, 0, False, number) for number in known)]
    return invented + list(unclear_words(text, around.language))


def _without_names(text: str, note: Note) -> str:
    """A name without any letter might be any number: it stays."""
    labels = [metric_words(name).label for name in note.metrics]
    names = [note.merchant_name, merchant_of(note), note.account_id, *note.metrics, *labels]
    for name in sorted({unicodedata.normalize("NFKC", name) for name in names}, key=len, reverse=True):
        if any(c.isalpha() for c in name):
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text, flags=re.IGNORECASE)
    return NAMES.sub(" ", text)


def _is_known(match: re.Match[str], known: list[_Known], *, comma: bool) -> bool:
    if (match[3] or "").lower() not in _GLUED:
        return False  # 5k, 3x, 1e6
    told, decimals = _read(match[1], comma=comma)
    return any(_matches(told, decimals, bool(match[2]), number) for number in known)


def _read(digits: str, *, comma: bool) -> tuple[float, int]:
    """The number and its decimals. One separator before exactly three digits is read as the language has it."""
    digits = re.sub(rf"[{_SPACES}]", "", digits)
    whole, mark, rest = _last_separator(digits)
    alone = mark and not re.search(r"[.,]", whole)
    groups = mark and len(rest) == 3 and (mark in whole or (alone and mark == ("." if comma else ",")))  # noqa: PLR2004 - thousands
    if groups or not mark:
        return float(re.sub(r"[.,]", "", digits)), 0
    return float(f"{re.sub(r'[.,]', '', whole) or '0'}.{rest}"), len(rest)


def _last_separator(digits: str) -> tuple[str, str, str]:
    at = max(digits.rfind("."), digits.rfind(","))
    return (digits, "", "") if at < 0 else (digits[:at], digits[at], digits[at + 1 :])


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


def _known_numbers(note: Note, around: Circumstances) -> Iterator[_Known]:
    for numbers in (note.metrics, note.thresholds, note.peaks, around.baseline):
        for name, value in numbers.items():
            if not math.isfinite(value):
                continue
            if metric_words(name).unit is Unit.SHARE:
                yield _Known(value * 100, percent=True)
                yield _Known(value, decimals=2)
            else:
                yield _Known(value)
    yield _Known(note.occurrence_count)
    yield from map(_Known, around.counts())
    yield from map(_Known, _spans(round(duration_of(note).total_seconds())))


def _spans(seconds: int) -> Iterator[float]:
    """A duration as people tell it: in all seconds, minutes or hours, and as days, hours, minutes, seconds."""
    for size in (1, 60, 3600):
        yield seconds / size
        yield seconds // size
    yield from (seconds // 86400, seconds % 86400 // 3600, seconds % 3600 // 60, seconds % 60)


def _foreign_times(text: str, note: Note, around: Circumstances) -> list[str]:
    moments = [
        note.first_triggered_at,
        note.last_triggered_at,
        note.created_at,
        note.resolved_at,
        around.earlier.last_at,
    ]
    told = {form for moment in moments if moment for form in _forms(moment)}
    return [match[0] for match in _CLOCK.finditer(text) if match[0].rstrip("Z").replace("T", " ") not in told]


def _forms(moment: datetime) -> Iterator[str]:
    utc = moment.astimezone(UTC)
    for clock in (f"{utc:%H:%M}", f"{utc:%H:%M:%S}"):
        yield clock
        yield clock.removeprefix("0")
        yield f"{utc:%Y-%m-%d} {clock}"
    for pattern in ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y"):
        yield utc.strftime(pattern)
    yield f"{utc.day}.{utc.month}.{utc.year}"
    yield f"{utc.day}/{utc.month}/{utc.year}"
