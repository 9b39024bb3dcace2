"""One metric's samples, before they are text: for each row its labels, and a number for each line that it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO

import polars as pl

from exporter.errors import DuplicateSeries
from exporter.mapping.numbers import to_text
from exporter.mapping.spec import DuplicatePolicy

_LINES_AT_ONCE = 32_768  # few enough that their text, held three times over while it is joined, is no burden
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

    def text(self) -> bytes:
        """The exposition lines, those of one row together."""
        out = BytesIO()
        for part in self._parts():
            out.write(part)
        return out.getvalue()

    def _parts(self) -> Iterator[bytes]:
        """Text of some rows at a time, so that only little of it is held more than once."""
        if not len(self.labels):
            return
        labelled = bool(self.labels[0])
        columns = ["labels", *map(str, range(len(self.values)))]
        pieces: list[pl.Expr] = []
        for line, column in zip(self.lines, columns[1:], strict=True):
            pieces += _line(self.name + line.suffix, line.label, column, labelled=labelled)
        step = max(1, _LINES_AT_ONCE // len(self.lines))
        for start in range(0, len(self.labels), step):
            texts = (_text(values.slice(start, step)) for values in self.values)
            parts = [self.labels.slice(start, step), *texts]
            frame = pl.DataFrame(dict(zip(columns, parts, strict=True)))
            yield str(frame.select(pl.concat_str(pieces).str.join("")).item()).encode()

    def _alike(self) -> DuplicateSeries:
        repeated = self.labels.filter(self.labels.is_duplicated())
        example = f"{self.name}{{{repeated[0]}}}" if repeated[0] else self.name
        return DuplicateSeries(
            f"{len(repeated)} rows give {repeated.n_unique()} series of {self.name} more than once, such as "
            f"{example}: make labels differ, aggregate in the query, or set `duplicates`"
        )


def cut(families: Sequence[Samples], most: int) -> list[Samples]:
    """The first rows of the table that together become at most so many series, in all families alike."""
    widths = [
        pl.DataFrame({"row": samples.positions()}).with_columns(series=pl.lit(len(samples.lines), pl.Int64))
        for samples in families
    ]
    rows = pl.concat(widths).group_by("row").agg(pl.col("series").sum()).sort("row")
    beyond = rows.filter(pl.col("series").cum_sum() > most)
    return [samples.before(beyond["row"][0]) for samples in families] if len(beyond) else list(families)


def _line(name: str, label: str, value: str, *, labelled: bool) -> list[pl.Expr]:
    """The pieces of a line; a row's labels stand first, the type's own label last."""
    if labelled:
        start, end = f"{name}{{", f",{label}}} " if label else "} "
        return [pl.lit(start), pl.col("labels"), pl.lit(end), pl.col(value), pl.lit("\n")]
    return [pl.lit(f"{name}{{{label}}} " if label else f"{name} "), pl.col(value), pl.lit("\n")]


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
