"""Which series the lines of exposition text are, so that the same ones of two sources are found."""

from __future__ import annotations

import polars as pl

_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\.)*"'
_COMPARED = 1000  # lines whose hashes are found twice; one that is truly the same is enough


def series_hashes(text: bytes) -> pl.Series:
    """A 64-bit hash of the series of each line, the same in whatever order its labels are written.

    It is the sum, in which 64 bits may overflow, of hashes of the pieces between a quote and a comma. A value may hold
    some too, and so two series have one hash; but this takes a tenth of the time that reading the labels takes.
    """
    series = pl.col("line").str.replace(r'(?:"\})? [^ ]+$', "").str.replace("{", '",', literal=True)
    pieces = series.str.split('",')
    return _lines(text).to_frame().select(pieces.list.eval(pl.element().hash()).list.sum()).to_series()


def common_series(ours: bytes, our_hashes: pl.Series, theirs: bytes, their_hashes: pl.Series) -> tuple[int, str]:
    """How many series both texts have, and one of them as the first writes it; 0 and nothing if there are none."""
    alike = our_hashes.is_in(their_hashes.implode())
    if not alike.any():
        return 0, ""
    lines = _lines(ours).filter(alike).head(_COMPARED)
    hashes = our_hashes.filter(alike).head(_COMPARED)
    others = _lines(theirs).filter(their_hashes.is_in(hashes.implode()))
    same = lines.filter(_labels(lines).is_in(_labels(others).implode()))
    return (int(alike.sum()), same[0].rpartition(" ")[0]) if len(same) else (0, "")


def _lines(text: bytes) -> pl.Series:
    whole = pl.Series("line", [text.removesuffix(b"\n")], dtype=pl.Binary)
    return whole.cast(pl.String).str.split("\n").explode()


def _labels(lines: pl.Series) -> pl.Series:
    """Names and labels, these in alphabetical order."""
    labels = pl.col("line").str.extract_all(_LABEL).list.sort().list.join(",")
    return lines.to_frame().select(pl.concat_str(pl.col("line").str.extract(r"^([^{ ]+)"), labels)).to_series()
