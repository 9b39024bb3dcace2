"""One metric's samples, before they are text: for each row its labels, and a number for each line that it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from exporter.errors import DuplicateSeries
from exporter.mapping.numbers import to_text
from exporter.mapping.spec import DuplicatePolicy

_LINES_AT_ONCE = 4_096
_NAN = "NaN"


@dataclass(frozen=True, slots=True)
class Line:
    """What every row becomes: a sample of the family's name and `suffix`, with the type's own label, if any."""

    suffix: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one family. Columns are alike in length; a null number is to be written as NaN.

    `rows` are the positions of the table's rows, ascending; None when they are all there.
    """

    name: str
    labels: pl.Series
    lines: tuple[Line, ...]
    values: tuple[pl.Series, ...]
    rows: pl.Series | None = None

    @property
    def series(self) -> int:
        return len(self.labels) * len(self.lines)

    def positions(self) -> pl.Series:
        """`rows`, written out."""
        return pl.int_range(len(self.labels), dtype=pl.UInt32, eager=True) if self.rows is None else self.rows

    def kept(self, mask: pl.Series) -> Samples:
        """The samples of some rows."""
        return replace(
            self,
            labels=self.labels.filter(mask),
            values=tuple(column.filter(mask) for column in self.values),
            rows=self.positions().filter(mask),
        )

    def before(self, row: int) -> Samples:
        """The samples of rows of the table up to, and without, the given one."""
        count = int((self.positions() < row).sum())
        values = tuple(column.head(count) for column in self.values)
        return replace(self, labels=self.labels.head(count), values=values, rows=self.positions().head(count))

    def duplicates(self) -> int:
        """How many rows have labels that an earlier one has."""
        return len(self.labels) - self.labels.n_unique()

    def merged(self, policy: DuplicatePolicy) -> Samples:
        """One row for each of the labels; the policy is any but `error`, which raises DuplicateSeries."""
        if policy == "error":
            raise self._alike()
        names = [str(position) for position in range(len(self.values))]
        columns = map(_without_nulls, self.values)
        frame = pl.DataFrame({"labels": self.labels, "row": self.positions(), **dict(zip(names, columns, strict=True))})
        if policy in ("first", "last"):
            frame = frame.unique("labels", keep="first" if policy == "first" else "last", maintain_order=True)
        else:
            frame = frame.group_by("labels", maintain_order=True).agg(
                pl.col("row").first(), *(_total(name, frame.schema[name], policy) for name in names)
            )
        values = tuple(frame[name] for name in names)
        return replace(self, labels=frame["labels"], values=values, rows=frame["row"])

    def pieces(self) -> Iterator[bytes]:
        """The exposition lines, those of one row together, some rows at a time: the text of all would be large.

        Of samples that nobody else holds, the labels are let go with the lines that they have become.
        """
        chunks, columns = self.labels.get_chunks(), self.values
        lines = self._lines()
        step = max(1, _LINES_AT_ONCE // len(self.lines))
        del self
        chunks.reverse()
        first = 0
        while chunks:
            for labels in _cut_to(chunks.pop(), step):
                values = {str(at): _text(each.slice(first, len(labels))) for at, each in enumerate(columns)}
                first += len(labels)
                yield pl.DataFrame({"labels": labels, **values}).select(lines).item()

    def _lines(self) -> pl.Expr:
        """The lines of a frame of `labels` and numbered columns of values, as one text."""
        labelled = bool(len(self.labels) and self.labels[0])
        line: list[pl.Expr] = []
        for at, each in enumerate(self.lines):
            start, end = _around(self.name + each.suffix, each.label, labelled=labelled)
            line += [pl.lit(start), pl.col("labels"), pl.lit(end), pl.col(str(at)), pl.lit("\n")]
        return pl.concat_str(line).str.join("").cast(pl.Binary)

    def _alike(self) -> DuplicateSeries:
        repeated = self.labels.filter(self.labels.is_duplicated())
        example = f"{self.name}{{{repeated[0]}}}" if repeated[0] else self.name
        return DuplicateSeries(
            f"{len(repeated)} rows give {repeated.n_unique()} series of {self.name} more than once, such as "
            f"{example}: make labels differ, aggregate in the query, or set `duplicates`"
        )


def _cut_to(column: pl.Series, step: int) -> Iterator[pl.Series]:
    return (column.slice(first, step) for first in range(0, len(column), step))


def cut(families: Sequence[Samples], most: int) -> list[Samples]:
    """The first rows of the table that together become at most so many series, in all families alike."""
    widths = [
        pl.DataFrame({"row": samples.positions()}).with_columns(series=pl.lit(len(samples.lines), pl.Int64))
        for samples in families
    ]
    rows = pl.concat(widths).group_by("row").agg(pl.col("series").sum()).sort("row")
    beyond = rows.filter(pl.col("series").cum_sum() > most)
    return [samples.before(beyond["row"][0]) for samples in families] if len(beyond) else list(families)


def _around(name: str, label: str, *, labelled: bool) -> tuple[str, str]:
    """What stands before and after a row's labels; the type's own label comes last."""
    if labelled:
        return f"{name}{{", f",{label}}} " if label else "} "
    return (f"{name}{{{label}}} " if label else f"{name} "), ""


def _text(values: pl.Series) -> pl.Series:
    text = to_text(values)
    return text.fill_null(_NAN) if text.null_count() else text


def _without_nulls(values: pl.Series) -> pl.Series:
    return values.cast(pl.Float64).fill_null(float("nan")) if values.null_count() else values


def _total(name: str, kind: pl.DataType, policy: DuplicatePolicy) -> pl.Expr:
    value = pl.col(name)
    if kind.is_integer():
        value = value.cast(pl.Int128)  # 64 bits would overflow unnoticed
    return value.sum() if policy == "sum" else value.max()
