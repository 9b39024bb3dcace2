"""Which numbers of a text are ours: as given, as percent, or rounded, each in its unit. Everything else was invented.

35 blocked payments are no share of 35 %, and 12 hours no 12 minutes.
"""

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
from webhook.domain.number_units import COUNTS, Told, told_as
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


_PLAIN = frozenset({Told.PLAIN})
_COUNT = frozenset({Told.PLAIN, Told.COUNT})
_SPANS = {Told.SECONDS: (1, 60), Told.MINUTES: (60, 60), Told.HOURS: (3600, 24), Told.DAYS: (86400, 10**9)}
"""Seconds of each, and how many of them make one of the next."""

_MONEY = re.compile(r"(?:^|_)(?:amount|value|volume|revenue|turnover|price|loss|usd|eur|gbp)(?:_|$)")


@dataclass(frozen=True, slots=True)
class _Known:
    """A number that may be told as one of these. `decimals`: digits it needs at least."""

    value: float
    told: frozenset[Told]
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
    invented += [
        text[start:end]
        for start, end, value in small_numbers(text, around.language)
        if not any(_matches(value, 0, told_as(text, start, end), number) for number in known)
    ]
    return invented + list(unclear_words(text, around.language))


def _without_names(text: str, note: Note) -> str:
    """A name without any letter might be any number: it stays. What counts something leaves a word that counts."""
    names = dict.fromkeys([note.merchant_name, merchant_of(note), note.account_id], " ")
    for metric in note.metrics:
        words = metric_words(metric)
        names |= dict.fromkeys([metric, words.label], COUNTS if words.unit is Unit.COUNT else " ")
    for name in sorted({unicodedata.normalize("NFKC", name) for name in names}, key=len, reverse=True):
        if any(c.isalpha() for c in name):
            instead = names.get(name, " ")
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", instead, text, flags=re.IGNORECASE)
    return NAMES.sub(" ", text)


def _is_known(match: re.Match[str], known: list[_Known], *, comma: bool) -> bool:
    if (match[3] or "").lower() not in _GLUED:
        return False  # 5k, 3x, 1e6
    told, decimals = _read(match[1], comma=comma)
    units = told_as(match.string, match.start(1), match.end(1))
    return any(_matches(told, decimals, units, number) for number in known)


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


def _matches(told: float, decimals: int, units: frozenset[Told], number: _Known) -> bool:
    if units.isdisjoint(number.told) or decimals < number.decimals:
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
            if math.isfinite(value):
                yield from _told_of(name, value)
    yield _Known(note.occurrence_count, _COUNT)
    yield from _spans(round(duration_of(note).total_seconds()))
    yield _Known(around.earlier.number, _COUNT)
    for days in around.days():
        yield _Known(days, frozenset({Told.DAYS}))


def _told_of(name: str, value: float) -> Iterator[_Known]:
    """A metric in its unit. What an unknown one measures is in its name at best."""
    words = metric_words(name)
    if words.unit is Unit.SHARE:
        yield _Known(value * 100, frozenset({Told.PERCENT}))
        yield _Known(value, _PLAIN, decimals=2)
    elif words.unit is Unit.PER_SECOND or name.endswith("_per_second"):
        yield _Known(value, _PLAIN | {Told.PER_SECOND})
    elif name.endswith(("_seconds", "_duration")):
        yield from _spans(value)
    elif name.endswith(("_ms", "_milliseconds")):
        yield _Known(value, frozenset({Told.MILLISECONDS}))
    else:
        told = _PLAIN | {Told.RATIO} if words.calculated else _COUNT
        yield _Known(value, told | {Told.MONEY} if _MONEY.search(name) else told)


def _spans(seconds: float) -> Iterator[_Known]:
    """A duration as people tell it: in all seconds, minutes or hours, and as days, hours, minutes, seconds."""
    for unit, (size, of_next) in _SPANS.items():
        for value in (seconds / size, seconds // size, seconds // size % of_next):
            yield _Known(value, frozenset({unit}))


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
