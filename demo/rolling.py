"""The metrics of `demo.metrics` at many instants at once, in Polars. A test holds the two definitions together."""

from __future__ import annotations

import math

import polars as pl

from demo.metrics import UNUSUAL_RATIO


def rolling_metrics(
    transactions: pl.DataFrame,
    chargebacks: pl.DataFrame,
    *,
    first: float,
    step: float,
    count: int,
    window: float,
    speed: float = 1.0,
) -> pl.DataFrame:
    """Metrics over (at - window, at] for at = first + step·k, k in 0..count-1 (epoch seconds).

    Args:
        transactions: account_id, card_id, amount, status, amount_ratio, created_at
        chargebacks: account_id, created_at
        first: earliest instant, epoch seconds
        step: seconds between instants
        count: number of instants
        window: seconds of wall clock
        speed: data seconds per second of wall clock

    Returns:
        account_id, at, and the metric columns; one row per merchant and instant with a transaction in the window,
        ordered by both.
    """
    paid = _per_instant(transactions, first, step, count, window).group_by("account_id", "at")
    rows = paid.agg(*_of_payments(window * speed))
    reported = (
        _per_instant(chargebacks, first, step, count, window)
        .group_by("account_id", "at")
        .agg(pl.len().cast(pl.Int64).alias("chargeback_count"))
    )
    total = pl.col("chargeback_count").fill_null(0)
    return (
        rows.join(reported, on=["account_id", "at"], how="left")
        .with_columns((total / pl.col("transaction_count")).alias("chargeback_rate"), total)
        .sort("account_id", "at")
    )


def _of_payments(seconds: float) -> list[pl.Expr]:
    """What the payments of a window make, `seconds` its length in data time."""
    judged = pl.col("status").count()
    has_cards = pl.col("card_id").count() > 0
    has_amounts = pl.col("amount").count() > 0
    blocked = (pl.col("status") == "blocked").sum()
    failed = pl.col("status").is_in(["blocked", "declined"]).sum()
    unusual = (pl.col("amount_ratio") >= UNUSUAL_RATIO).sum()
    some = judged > 0
    return [
        pl.when(some).then(blocked / judged).alias("block_rate"),
        pl.when(some).then(failed / judged).alias("failed_auth_rate"),
        pl.len().cast(pl.Int64).alias("transaction_count"),
        (pl.len() / seconds).alias("transaction_rate"),
        pl.when(has_cards).then(pl.col("card_id").drop_nulls().n_unique().cast(pl.Int64)).alias("unique_card_count"),
        pl.when(has_cards & has_amounts).then(unusual / pl.len()).alias("unusual_spend_rate"),
    ]


def _per_instant(rows: pl.DataFrame, first: float, step: float, count: int, window: float) -> pl.DataFrame:
    """Each row once for every instant `at` whose window holds it."""
    slot = ((pl.col("created_at") - first) / step).floor().cast(pl.Int64)
    at = first + step * pl.col("slot")
    created_at = pl.col("created_at")
    inside = pl.col("slot").is_between(0, count - 1) & (created_at <= at) & (created_at > at - window)
    frames = [
        rows.with_columns((slot + later).alias("slot")).filter(inside).with_columns(at.alias("at"))
        for later in range(math.ceil(window / step) + 2)
    ]
    return pl.concat(frames)
