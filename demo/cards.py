"""How an amount compares with what the same card spent before."""

from __future__ import annotations

import polars as pl
import sqlalchemy as sa

from demo.payments import transactions

HABIT = 3
"""Payments after which a card's average says something: one or two are no habit."""


def with_amount_ratio(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows in order of time, with `amount_ratio`: amount / mean of the card's earlier rows; null before a habit."""
    amount = pl.col("amount")
    earlier_total = amount.fill_null(0.0).cum_sum().shift(1).over("card_id")
    earlier_count = amount.is_not_null().cast(pl.Int64).cum_sum().shift(1).over("card_id")
    ratio = amount * earlier_count / earlier_total
    known = pl.col("card_id").is_not_null() & (earlier_count >= HABIT) & (earlier_total > 0)
    return frame.with_columns(pl.when(known).then(ratio).alias("amount_ratio"))


class CardBook:
    """What each card has spent so far: number of transactions and their total."""

    def __init__(self) -> None:
        self._spent: dict[str, tuple[int, float]] = {}

    @classmethod
    def load(cls, connection: sa.Connection) -> CardBook:
        book = cls()
        query = (
            sa.select(transactions.c.card_id, sa.func.count(), sa.func.sum(transactions.c.amount))
            .where(transactions.c.card_id.is_not(None), transactions.c.amount.is_not(None))
            .group_by(transactions.c.card_id)
        )
        book._spent = {card: (count, float(total)) for card, count, total in connection.execute(query)}
        return book

    def average(self, card_id: str) -> float | None:
        """None before the card has a habit."""
        count, total = self._spent.get(card_id, (0, 0.0))
        return total / count if count >= HABIT else None

    def record(self, frame: pl.DataFrame) -> pl.DataFrame:
        """`frame` (in order of time) with `amount_ratio`; its amounts are remembered."""
        ratios: list[float | None] = []
        for card_id, amount in frame.select("card_id", "amount").iter_rows():
            count, total = self._spent.get(card_id, (0, 0.0))
            ratios.append(amount * count / total if count >= HABIT and total > 0 else None)
            self._spent[card_id] = (count + 1, total + amount)
        return frame.with_columns(pl.Series("amount_ratio", ratios, dtype=pl.Float64))
