"""Columns to the label part of exposition lines: `{account_id="acc_1",region="EU"} `, one text per row."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from exporter.errors import BadAnswer
from exporter.mapping.spec import DataWarning
from exporter.mapping.table import Table

_NEEDS_ESCAPE = r'[\\"\n]'
_NUL, _REPLACEMENT = "\0", "\N{REPLACEMENT CHARACTER}"


def escape(value: str) -> str:
    """`value` as it stands between the quotes of a label."""
    return value.replace(_NUL, _REPLACEMENT).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class LabelTexts:
    """The label texts of one table; metrics with the same labels share one column of them."""

    def __init__(self, table: Table, static: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self._table = table
        self._static = [f'{name}="{escape(value)}"' for name, value in static.items()]
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
        rows = len(self._table.frame)
        if not labels:
            constant = "{" + ",".join(self._static) + "} " if self._static else " "
            return pl.repeat(constant, rows, dtype=pl.String, eager=True)
        parts: list[pl.Expr] = []
        lead = "{" + "".join(text + "," for text in self._static)
        for name, column in labels.items():
            parts += [pl.lit(f'{lead}{name}="'), pl.lit(self._values(name, column))]
            lead = '",'
        return pl.select(pl.concat_str([*parts, pl.lit('"} ')]).alias("labels")).to_series().head(rows)

    def _values(self, name: str, column: str) -> pl.Series:
        """Escaped values of one label, without nulls."""
        if (name, column) not in self._columns:
            text = _text(self._table.column(column))
            if text.str.contains(_NUL, literal=True).any():
                count = int(text.str.contains(_NUL, literal=True).sum())
                self.warnings.append(DataWarning("label_cleaned", count, f"label {name}: NUL replaced"))
                text = text.str.replace_all(_NUL, _REPLACEMENT, literal=True)
            if text.str.contains(_NEEDS_ESCAPE).any():
                text = text.str.replace_all("\\", r"\\", literal=True).str.replace_all('"', r"\"", literal=True)
                text = text.str.replace_all("\n", r"\n", literal=True)
            default = escape(self._defaults.get(name, ""))
            if default:
                text = text.replace("", default)
            self._columns[name, column] = text.fill_null(default)
        return self._columns[name, column]


def _text(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        return column
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary):
        raise BadAnswer(f"field {column.name!r} cannot be a label: it holds {column.dtype}, not plain values")
    return column.cast(pl.String)
