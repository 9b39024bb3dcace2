"""Merchants' regular expressions as RE2 reads them: in the syntax of Prometheus, each search in linear time. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

_LONGEST_TEXT = 4096
_LONGEST_PATTERN = 256
_MEMORY = 1 << 20  # bytes of one compiled pattern


class BadPattern(ValueError):  # noqa: N818 - a value that is refused, as the standard library names its own
    """A regular expression that does not compile, or would need much memory."""


def check_pattern(pattern: str) -> None:
    """Raise BadPattern."""
    if len(pattern) > _LONGEST_PATTERN:
        raise BadPattern(f"longer than {_LONGEST_PATTERN} characters")
    try:
        _compiled(pattern)
    except re2.error as error:
        raise BadPattern(f"not a regular expression as RE2 has them: {_words(error)}") from error


def matches(pattern: str, text: str) -> bool | None:
    """Search; None where the pattern is refused, or the text is too long to be one of a label."""
    if len(text) > _LONGEST_TEXT:
        return None
    try:
        check_pattern(pattern)
        return _compiled(pattern).search(text) is not None
    except BadPattern:
        return None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:  # noqa: ANN401 - the library ships no types
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False  # whoever saves it is told
    return re2.compile(pattern, options)


def _words(error: Exception) -> str:
    why = error.args[0] if error.args else ""
    return why.decode(errors="replace") if isinstance(why, bytes) else str(why)
