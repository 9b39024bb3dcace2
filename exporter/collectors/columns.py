"""Python rows to a frame, a column at a time. Values of one column may be of any mix of types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import polars as pl

_NONE = type(None)
_PLAIN: Mapping[type, type[pl.DataType]] = {int: pl.Int64, float: pl.Float64, str: pl.String, bool: pl.Boolean}


def frame_of_rows(names: Sequence[str], rows: Sequence[Sequence[Any]], wanted: Iterable[str]) -> pl.DataFrame:
    """Of rows that are tuples, the wanted columns that are there, and there once only."""
    found = [name for name in wanted if names.count(name) == 1]
    return pl.DataFrame([column(name, list(map(itemgetter(names.index(name)), rows))) for name in found])


def column(name: str, values: Sequence[Any]) -> pl.Series:
    """A column of the values' common type; where types are mixed or unusual, of their exact text."""
    kinds = set(map(type, values)) - {_NONE}
    if not kinds:
        return pl.Series(name, values, dtype=pl.Null)
    if len(kinds) == 1 and (dtype := _PLAIN.get(kinds.pop())):
        try:
            return pl.Series(name, values, dtype=dtype)
        except (OverflowError, TypeError, UnicodeEncodeError):  # integers over 64 bits, lone surrogates
            return pl.Series(name, [_text(value) for value in values], dtype=pl.String)
    return pl.Series(name, [_text(value) for value in values], dtype=pl.String)


def _text(value: object) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case bytes() | bytearray() | memoryview():
            return bytes(value).decode("utf-8", "replace")
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case _:
            return str(value)
