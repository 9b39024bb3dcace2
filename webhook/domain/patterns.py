"""Merchants' regular expressions: which are taken, and at what cost they search. Pure.

`re` has no time limit, so what a search may cost is bounded before: by the ways in which a pattern can be laid over a
text of the longest length, as Python's own parser reads it (comments and flags inside a pattern mislead any other).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from re import _parser  # type: ignore[attr-defined]  # private, but nothing else reads as `re` does
from typing import Any

MOST_WORK = 1 << 16
"""Ways to lay all patterns of one configuration over a text: some milliseconds at worst, for a text not seen before."""

_LONGEST_TEXT = 128
_LONGEST_PATTERN = 256
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
_GROUPS = ("SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT")
_PLAIN = ("LITERAL", "NOT_LITERAL", "ANY", "IN", "AT", "GROUPREF", "FAILURE")


class BadPattern(ValueError):  # noqa: N818 - a value that is refused, as the standard library names its own
    """A regular expression that does not compile, or that could take very long."""


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a merchant's pattern; raise BadPattern where it is wrong or could be made to run long."""
    work_of(pattern)
    return re.compile(pattern)


def matches(pattern: str, text: str) -> bool | None:
    """Search; None where the pattern is refused or the text is too long to be searched safely."""
    return None if len(text) > _LONGEST_TEXT else _searched(pattern, text)


@lru_cache(maxsize=8192)
def _searched(pattern: str, text: str) -> bool | None:
    """Labels repeat: most triggers of a merchant cost no search."""
    compiled = _compiled(pattern)
    return None if compiled is None else compiled.search(text) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """None where it is refused."""
    try:
        return compile_pattern(pattern)
    except BadPattern:
        return None


def check_work(patterns: Iterable[str]) -> None:
    """Raise BadPattern where one is refused, or all of them together could take long."""
    work = sum(work_of(pattern) for pattern in patterns)
    if work > MOST_WORK:
        raise BadPattern(f"the patterns together can take {work:,} steps, more than {MOST_WORK:,}: begin some with ^")


@lru_cache(maxsize=1024)
def work_of(pattern: str) -> int:
    """At most so many ways to lay it over the longest text; raise BadPattern above MOST_WORK."""
    if len(pattern) > _LONGEST_PATTERN:
        raise BadPattern(f"longer than {_LONGEST_PATTERN} characters")
    try:
        parsed = _parser.parse(pattern)
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadPattern(f"not a regular expression: {error}") from error
    work = _starts(parsed) * _ways(_but_free_end(list(parsed)))
    if work > MOST_WORK:
        raise BadPattern("holds too many repeats or alternatives: begin it with ^, or look for less at once")
    return work


def _starts(parsed: Any) -> int:  # noqa: ANN401 - the parser has no types
    anchored = len(parsed) and str(parsed[0][0]) == "AT" and str(parsed[0][1]) in _BEGINNINGS
    return 1 if anchored and not parsed.state.flags & re.MULTILINE else _LONGEST_TEXT


_BEGINNINGS = ("AT_BEGINNING", "AT_BEGINNING_STRING")


def _but_free_end(items: list[Any]) -> list[Any]:
    """A repeat that ends the pattern takes what it can get, and is never tried again."""
    if items and str(items[-1][0]) in _REPEATS and _is_simple(items[-1][1][2]):
        return items[:-1]
    return items


def _ways(items: Iterable[Any]) -> int:
    """How many ways there are to lay a sequence over a text, from a given start."""
    ways = 1
    for operation, argument in items:
        ways *= _ways_of(str(operation), argument)
        if ways > MOST_WORK:
            raise BadPattern("holds too many repeats or alternatives: begin it with ^, or look for less at once")
    return ways


def _ways_of(operation: str, argument: Any) -> int:  # noqa: ANN401 - see above
    if operation in _PLAIN:
        return 1
    if operation in _REPEATS:
        return _ways_to_repeat(*argument)
    if operation == "BRANCH":
        return sum(_ways(branch) for branch in argument[1])
    if operation == "GROUPREF_EXISTS":
        return sum(_ways(branch or ()) for branch in argument[1:])
    if operation in _GROUPS:
        return _ways(argument if operation == "ATOMIC_GROUP" else argument[-1])
    raise BadPattern(f"holds {operation.lower()}, which is not known here")


def _ways_to_repeat(least: int, most: int, content: Any) -> int:  # noqa: ANN401 - see above
    """It can end after each repetition, of which a text has room for one a character."""
    if int(most) > 1 and not _is_simple(content):
        raise BadPattern("repeats a group that itself holds a repeat or an alternative, looks around, or can be empty")
    room = min(int(most), _LONGEST_TEXT)
    return (room - min(int(least), room) + 1) if int(most) > 1 else int(most) - int(least) + _ways(content)


def _is_simple(content: Any) -> bool:  # noqa: ANN401 - see above
    """There is one way to match it, each time further on in the text."""
    return content.getwidth()[0] > 0 and not _looks_around(content) and _ways(content) == 1


def _looks_around(content: Any) -> bool:  # noqa: ANN401 - see above
    for operation, argument in content:
        name = str(operation)
        if name in ("ASSERT", "ASSERT_NOT", "GROUPREF_EXISTS"):
            return True
        inner = argument[-1] if name in ("SUBPATTERN", *_REPEATS) else argument if name == "ATOMIC_GROUP" else ()
        if inner and _looks_around(inner):
            return True
    return False
