"""Python rows to a frame, a column at a time. Values of one column may be of any mix of types."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import polars as pl

_NONE = type(None)
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_NUL = "\0"  # stands for what is no character: the mapping replaces it in labels, and warns of it
_PLAIN: Mapping[type, type[pl.DataType]] = {int: pl.Int64, float: pl.Float64, str: pl.String, bool: pl.Boolean}
_ROWS_AT_ONCE = 10_000  # some megabytes of Python objects; more of them are no faster

Row = Sequence[Any]


def frame_of_rows(names: Sequence[str], rows: Sequence[Row], wanted: Iterable[str]) -> pl.DataFrame:
    """Of rows that are tuples, the wanted columns that are there, and there once only."""
    found = [name for name in wanted if names.count(name) == 1]
    return pl.DataFrame([column(name, list(map(itemgetter(names.index(name)), rows))) for name in found])


def frame_of_chunks(
    names: Sequence[str], fetch: Callable[[int], Sequence[Row]], wanted: Iterable[str], limit: int
) -> tuple[pl.DataFrame, int]:
    """As `frame_of_rows`, of at most `limit` rows that `fetch(count)` brings until it brings none; and how many.

    Only one chunk's rows exist at a time. A column whose chunks differ in type is one of text.
    """
    frames = [frame_of_rows(names, [], wanted)]
    count = 0
    while count < limit and (rows := fetch(min(_ROWS_AT_ONCE, limit - count))):
        count += len(rows)
        frames.append(frame_of_rows(names, rows, wanted))
    return joined(frames), count


def joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames with the same columns, one below the other."""
    found = frames[0].columns
    return pl.DataFrame([_joined([frame[name] for frame in frames]) for name in found])


def _joined(chunks: Sequence[pl.Series]) -> pl.Series:
    kinds = {chunk.dtype for chunk in chunks} - {pl.Null()}
    if len(kinds) > 1:
        return pl.concat([chunk.cast(pl.String) for chunk in chunks])
    kind = kinds.pop() if kinds else pl.Null()
    return pl.concat([chunk.cast(kind) if chunk.dtype != kind else chunk for chunk in chunks])


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
            paired = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
            return _LONE_SURROGATES.sub(_NUL, paired)
        case _:
            return str(value)
