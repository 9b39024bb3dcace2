"""The history in Prometheus and the live metrics have one meaning: Polars and SQL agree at every instant."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.metrics import FAMILIES, window_metrics
from demo.payments import (
    CHARGEBACK_SCHEMA,
    TRANSACTION_COLUMNS,
    PaymentsStore,
    insert_chargebacks,
    insert_merchants,
    insert_transactions,
    load_settings,
    save_settings,
)
from demo.rolling import rolling_metrics

ACCOUNTS = ("acc_001", "acc_002", "acc_003")
KINDS = {
    "id": pl.Int64,
    "account_id": pl.String,
    "card_id": pl.String,
    "amount": pl.Float64,
    "status": pl.String,
    "new_device": pl.Boolean,
    "amount_ratio": pl.Float64,
    "is_fraud": pl.Boolean,
    "created_at": pl.Float64,
    "source_time": pl.Float64,
}

moments = st.one_of(st.integers(0, 600).map(float), st.floats(0, 600, allow_nan=False))
payments = st.fixed_dictionaries(
    {
        "account_id": st.sampled_from(ACCOUNTS),
        "card_id": st.sampled_from(["a", "b", "c", None]),
        "amount": st.one_of(st.none(), st.floats(0.5, 100)),
        "status": st.sampled_from(["approved", "blocked", "declined", None]),
        "amount_ratio": st.one_of(st.none(), st.sampled_from([0.5, 2.999, 3.0, 8.0])),
        "created_at": moments,
    }
)


def transactions(rows: list[dict[str, Any]]) -> pl.DataFrame:
    full = [dict.fromkeys(TRANSACTION_COLUMNS) | row | {"id": number} for number, row in enumerate(rows, 1)]
    return pl.DataFrame(full, schema=KINDS)


def chargebacks(reported: list[tuple[str, float]]) -> pl.DataFrame:
    rows = [(number, account, at) for number, (account, at) in enumerate(reported, 1)]
    return pl.DataFrame(rows, schema=CHARGEBACK_SCHEMA, orient="row")


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(payments, max_size=30),
    reported=st.lists(st.tuples(st.sampled_from(ACCOUNTS), moments), max_size=8),
    window=st.sampled_from([45.0, 60.0, 120.0, 150.0]),
    speed=st.sampled_from([1.0, 2880.0]),
)
def test_rolling_metrics_equal_the_sql_definition(
    rows: list[dict[str, Any]], reported: list[tuple[str, float]], window: float, speed: float
) -> None:
    store = PaymentsStore("sqlite://")
    store.create(window=window)
    spent, back = transactions(rows), chargebacks(reported)
    with store.write() as connection:
        names = {"account_id": ACCOUNTS, "merchant_name": ACCOUNTS}
        insert_merchants(connection, pl.DataFrame(names).with_columns(region=pl.lit("EU"), tx_per_minute=pl.lit(1.0)))
        insert_transactions(connection, spent)
        insert_chargebacks(connection, back)
        save_settings(connection, {"speed": speed})
        rolled = rolling_metrics(spent, back, first=0.0, step=60.0, count=12, window=window, speed=speed)
        seen = 0
        for at in (60.0 * k for k in range(12)):
            expected = window_metrics(connection, at - window, at)
            actual = rolled.filter(pl.col("at") == at).sort("account_id").to_dicts()
            assert [row["account_id"] for row in actual] == [row["account_id"] for row in expected]
            for mine, theirs in zip(actual, expected, strict=True):
                for name in FAMILIES:
                    assert mine[name] == pytest.approx(theirs[name]), (name, at)
            seen += len(expected)
        assert seen == rolled.height
    store.close()


def test_a_metric_is_null_where_the_columns_do_not_allow_it() -> None:
    store = PaymentsStore("sqlite://")
    store.create()
    with store.write() as connection:
        insert_merchants(
            connection,
            pl.DataFrame({"account_id": ["m"], "merchant_name": ["M"], "region": ["EU"], "tx_per_minute": [1.0]}),
        )
        insert_transactions(connection, transactions([{"account_id": "m", "created_at": 5.0}] * 4))
        save_settings(connection, {"chargebacks_known": 0})
        (row,) = window_metrics(connection, 0.0, 10.0)
        assert load_settings(connection)["mode"] == "simulated"
    assert row["transaction_count"] == 4
    assert math.isclose(row["transaction_rate"], 0.4)
    unknown = set(FAMILIES) - {"transaction_count", "transaction_rate"}
    assert {name for name in FAMILIES if row[name] is None} == unknown
    store.close()
