"""Columns to the labels of exposition lines: `account_id="acc_1",region="EU"`, one text per row."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import polars as pl

from exporter.errors import BadAnswer
from exporter.mapping.plain_text import plain_text
from exporter.mapping.spec import DataWarning
from exporter.mapping.table import Table

LONGEST = 1000  # characters of a label value
_ROWS_AT_ONCE = 4_096
_NEEDS_ESCAPE = r'[\\"\n]'
_NUL, _REPLACEMENT = "\0", "\N{REPLACEMENT CHARACTER}"


def escape(value: str) -> str:
    """`value` as it stands between the quotes of a label."""
    return value.replace(_NUL, _REPLACEMENT).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def shortened(value: str) -> str:
    """A long value's beginning and a fingerprint of the whole, so that values that differed still do."""
    fingerprint = blake2b(value.encode(), digest_size=6).hexdigest()
    return f"{value[: LONGEST - len(fingerprint) - 1]}…{fingerprint}"


class LabelTexts:
    """The label texts of one table; metrics with the same labels share one column of them."""

    def __init__(self, table: Table, static: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self._table = table
        self._static = "".join(f'{name}="{escape(value)}",' for name, value in static.items())
        self._defaults = defaults
        self._columns: dict[tuple[str, str], pl.Series] = {}
        self._texts: dict[tuple[tuple[str, str], ...], tuple[pl.Series, bool]] = {}
        self.warnings: list[DataWarning] = []

    def of(self, labels: Mapping[str, str]) -> tuple[pl.Series, bool]:
        """Label text of each row, and whether all of them differ. `labels` maps label to column."""
        key = tuple(labels.items())
        if key not in self._texts:
            text = self._text(labels)
            self._texts[key] = text, text.n_unique() == len(text)
        return self._texts[key]

    def _text(self, labels: Mapping[str, str]) -> pl.Series:
        if not labels:
            return pl.repeat(self._static.rstrip(","), len(self._table.frame), dtype=pl.String, eager=True)
        frame = pl.DataFrame({name: self._values(name, column) for name, column in labels.items()})
        parts: list[pl.Expr] = []
        lead = self._static
        for name in labels:
            parts += [pl.lit(f'{lead}{name}="'), pl.col(name)]
            lead = '",'
        text = pl.concat_str([*parts, pl.lit('"')]).alias("labels")
        # In chunks, each of which can be let go once it is part of the last family's lines.
        slices = list(frame.iter_slices(_ROWS_AT_ONCE)) or [frame]
        return pl.concat([rows.select(text).to_series() for rows in slices], rechunk=False)

    def _values(self, name: str, column: str) -> pl.Series:
        """Escaped values of one label, without nulls."""
        if (name, column) not in self._columns:
            self._columns[name, column] = self._escaped(name, self._cleaned(name, self._table.column(column)))
        return self._columns[name, column]

    def _cleaned(self, name: str, column: pl.Series) -> pl.Series:
        """Text of a column without what no label value should have."""
        try:
            text = plain_text(column)
        except BadAnswer:
            raise BadAnswer(
                f"field {column.name!r} cannot be a label: it holds {column.dtype}, not plain values"
            ) from None
        bad = text.str.contains(_NUL, literal=True)
        if column.dtype == pl.Binary:
            bad |= text.str.contains(_REPLACEMENT, literal=True)
        if bad.any():
            detail = f"label {name}: NUL, or what is no Unicode, replaced"
            self.warnings.append(DataWarning("label_cleaned", int(bad.sum()), detail))
            text = text.str.replace_all(_NUL, _REPLACEMENT, literal=True)
        size = text.str.len_bytes().max()
        if isinstance(size, int) and size > LONGEST:
            text = self._cut(name, text)
        return text

    def _cut(self, name: str, text: pl.Series) -> pl.Series:
        long = (text.str.len_chars() > LONGEST).fill_null(value=False)
        count = int(long.sum())
        if not count:
            return text
        detail = f"label {name}: a value of more than {LONGEST} characters is cut"
        self.warnings.append(DataWarning("label_shortened", count, detail))
        values = text.filter(long).unique().to_list()
        return text.replace(values, [shortened(value) for value in values])

    def _escaped(self, name: str, text: pl.Series) -> pl.Series:
        if text.str.contains(_NEEDS_ESCAPE).any():
            text = text.str.replace_all("\\", r"\\", literal=True).str.replace_all('"', r"\"", literal=True)
            text = text.str.replace_all("\n", r"\n", literal=True)
        default = escape(self._defaults.get(name, ""))
        if default:
            text = text.replace("", default)
        return text.fill_null(default)
