"""Somebody's own transactions, brought into the shape of the payments store, and what they do not allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from demo.cards import with_amount_ratio
from demo.columns import Choice, choose_columns, flags, numbers, read_table, statuses, times
from demo.errors import DemoError

_REGION = "unknown"

_MISSING = {
    "status": (
        "no status column: block_rate and failed_auth_rate cannot be computed, "
        "so the card testing and block rate rules cannot fire"
    ),
    "card": (
        "no card column: unique_card_count and unusual_spend_rate cannot be computed, "
        "so the velocity and unusual spend rules cannot fire"
    ),
    "amount": "no amount column: unusual_spend_rate cannot be computed, so unusual spend rules cannot fire",
    "chargeback": (
        "no chargeback column: chargeback_rate and chargeback_count cannot be computed, so chargeback rules cannot fire"
    ),
    "label": "no fraud label column: the report cannot say which alerts had a fraud behind them",
}


@dataclass(frozen=True)
class DatasetOptions:
    """What the person says about the file. `columns`: role → column or `none`; delay in data seconds."""

    columns: Mapping[str, str] = field(default_factory=dict)
    status_values: Mapping[str, str] = field(default_factory=dict)
    merchant_group: int | None = None  # the merchant is id // merchant_group
    chargeback_delay: float = 7 * 86_400.0


@dataclass(frozen=True)
class Dataset:
    """`rows` in order of time: id, account_id, card_id, amount, status, amount_ratio, is_fraud, source_time, ….

    `chargebacks`: transaction_id, account_id, reported_at (data time). `notes`: plain sentences for the person.
    """

    name: str
    rows: pl.DataFrame
    merchants: pl.DataFrame
    chargebacks: pl.DataFrame
    choices: dict[str, Choice]
    notes: tuple[str, ...]

    @property
    def start(self) -> float:
        return float(self.rows["source_time"][0])

    @property
    def end(self) -> float:
        return float(self.rows["source_time"][-1])

    def has(self, role: str) -> bool:
        return self.choices[role].column is not None


def load_dataset(path: Path, options: DatasetOptions) -> Dataset:
    """Raises DemoError where the file or the options do not fit."""
    table = read_table(path)
    if table.is_empty():
        raise DemoError(f"{path} has no rows")
    choices = choose_columns(table, options.columns, options.status_values)
    merchant = _merchant_columns(table, choices["merchant"], options.merchant_group)
    rows = merchant.with_columns(
        _column(table, choices, "card", pl.String()).cast(pl.String).alias("card_id"),
        numbers(_column(table, choices, "amount", pl.Float64())).alias("amount"),
        statuses(_column(table, choices, "status", pl.String()), options.status_values).alias("status"),
        _flags(table, choices, "label").alias("is_fraud"),
        _flags(table, choices, "chargeback").alias("charged_back"),
        times(_column(table, choices, "time", pl.String())).alias("source_time"),
    )
    rows, dropped = _in_order(rows)
    if rows.is_empty():
        raise DemoError(f"{path} has no row with a time and a merchant")
    rows = with_amount_ratio(rows).with_columns(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("id"),
        pl.lit(None, dtype=pl.Boolean).alias("new_device"),
    )
    charged_back = rows.filter(pl.col("charged_back").fill_null(value=False))
    reported = charged_back.select(
        pl.col("id").alias("transaction_id"),
        "account_id",
        (pl.col("source_time") + options.chargeback_delay).alias("reported_at"),
    )
    return Dataset(
        name=path.name,
        rows=rows.drop("merchant_name", "charged_back"),
        merchants=_merchants(rows),
        chargebacks=reported,
        choices=choices,
        notes=_notes(rows, choices, dropped, reported),
    )


def choice_table(dataset: Dataset) -> str:
    """A small table: which column was taken for what, and why."""
    lines = [(c.role, c.column or "-", c.why) for c in dataset.choices.values()]
    widths = [max(len(line[i]) for line in (*lines, ("what", "column", ""))) for i in (0, 1)]
    header = f"  {'what':<{widths[0]}}  {'column':<{widths[1]}}  why"
    return "\n".join([header, *(f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in lines)])


def _column(table: pl.DataFrame, choices: Mapping[str, Choice], role: str, empty: pl.DataType) -> pl.Series:
    column = choices[role].column
    return pl.Series([None], dtype=empty).new_from_index(0, table.height) if column is None else table[column]


def _flags(table: pl.DataFrame, choices: Mapping[str, Choice], role: str) -> pl.Series:
    if choices[role].column is None:
        return _column(table, choices, role, pl.Boolean())
    return flags(_column(table, choices, role, pl.Boolean()))


def _merchant_columns(table: pl.DataFrame, choice: Choice, group: int | None) -> pl.DataFrame:
    """account_id and merchant_name of every row."""
    assert choice.column is not None
    ids = table[choice.column]
    if group is None:
        text = ids.cast(pl.String).str.strip_chars()
        text = text.set(text == "", None)
        return pl.DataFrame({"account_id": text, "merchant_name": text})
    if group < 1:
        raise DemoError("--merchant-group must be at least 1")
    whole = ids.cast(pl.Int64, strict=False)
    if whole.null_count() > ids.null_count():
        odd = ids.filter(whole.is_null() & ids.is_not_null())[0]
        raise DemoError(f"--merchant-group needs whole numbers; {choice.column} has {odd!r}")
    number = pl.col("group")
    return pl.DataFrame({"group": whole // group}).select(
        pl.format("acc_{}", number.cast(pl.String).str.zfill(3)).alias("account_id"),
        pl.format("{} {}-{}", pl.lit(choice.column), number * group, number * group + group - 1).alias("merchant_name"),
    )


def _in_order(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    known = rows.filter(pl.col("source_time").is_finite() & pl.col("account_id").is_not_null())
    return known.sort("source_time", maintain_order=True), rows.height - known.height


def _merchants(rows: pl.DataFrame) -> pl.DataFrame:
    minutes = max(1.0, (rows["source_time"][-1] - rows["source_time"][0]) / 60.0)
    return (
        rows.group_by("account_id")
        .agg(pl.col("merchant_name").first(), (pl.len() / minutes).alias("tx_per_minute"))
        .with_columns(pl.lit(_REGION).alias("region"))
        .sort("account_id")
    )


def _notes(rows: pl.DataFrame, choices: Mapping[str, Choice], dropped: int, reported: pl.DataFrame) -> tuple[str, ...]:
    notes = [sentence for role, sentence in _MISSING.items() if choices[role].column is None]
    if dropped:
        notes.append(f"{dropped:,} rows without a time or a merchant are left out")
    for role, column in (("status", "status"), ("amount", "amount"), ("label", "is_fraud")):
        empty = rows[column].null_count()
        if choices[role].column is not None and empty:
            notes.append(f"{empty:,} rows have no {role} that can be understood; they count without one")
    late = reported.filter(pl.col("reported_at") > rows["source_time"][-1]).height
    if late:
        notes.append(f"{late:,} of {reported.height:,} chargebacks fall after the end of the data and are left out")
    return tuple(notes)
