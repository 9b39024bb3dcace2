"""The amount ratio compares with the card's earlier amounts only, in bulk and one by one alike."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.cards import HABIT, CardBook, with_amount_ratio

spendings = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.floats(0.01, 1000)), max_size=40)


def naive(rows: list[tuple[str, float]]) -> list[float | None]:
    ratios: list[float | None] = []
    for number, (card, amount) in enumerate(rows):
        earlier = [spent for other, spent in rows[:number] if other == card]
        ratios.append(amount / (sum(earlier) / len(earlier)) if len(earlier) >= HABIT else None)
    return ratios


def frame(rows: list[tuple[str, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"card_id": pl.String, "amount": pl.Float64}, orient="row")


@settings(deadline=None)
@given(spendings, st.integers(0, 40))
def test_bulk_and_running_ratios_are_amount_over_earlier_average(rows: list[tuple[str, float]], cut: int) -> None:
    book = CardBook()
    running = [*book.record(frame(rows[:cut]))["amount_ratio"], *book.record(frame(rows[cut:]))["amount_ratio"]]
    for ratios in (with_amount_ratio(frame(rows))["amount_ratio"].to_list(), running):
        assert ratios == [pytest.approx(ratio) for ratio in naive(rows)]


def test_a_missing_amount_or_card_has_no_ratio_and_counts_for_none() -> None:
    cards = ["a", "a", "a", None, "a", "a", None]
    rows = pl.DataFrame({"card_id": cards, "amount": [10.0, 10.0, None, 5.0, 10.0, 40.0, 5.0]})
    assert with_amount_ratio(rows)["amount_ratio"].to_list() == [None, None, None, None, None, 4.0, None]
