"""A day of ordinary transactions before the first start: charts and long rules have something to look at."""

from __future__ import annotations

import numpy as np
import polars as pl
import sqlalchemy as sa

from demo.cards import with_amount_ratio
from demo.payments import (
    CHARGEBACK_SCHEMA,
    PaymentsStore,
    insert_chargebacks,
    insert_transactions,
    save_settings,
    transactions,
)
from demo.progress import ProgressLine
from demo.simulator import SimulatorConfig, prepare
from demo.traffic import CHARGEBACK_SHARE, ordinary

_CHUNK = 100_000
_CHARGEBACK_DELAY = 3 * 3600.0  # seconds, mean


def write_history(store: PaymentsStore, config: SimulatorConfig, until: float, progress: ProgressLine) -> int:
    """Fill an empty store with `config.history` seconds that end at `until`; returns the number of transactions.

    A store that has transactions is left as it is (0).
    """
    population = prepare(store, config)
    with store.read() as connection:
        if connection.execute(sa.select(transactions.c.id).limit(1)).first() is not None:
            progress.done("there already")
            return 0
    rng = np.random.default_rng([config.seed, int(until)])
    frame = with_amount_ratio(ordinary(rng, population, until - config.history, until)).with_columns(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("id"),
        pl.lit(None, dtype=pl.Float64).alias("source_time"),
    )
    with store.write() as connection:  # all or nothing: a start that was interrupted begins anew
        for start in range(0, frame.height, _CHUNK):
            insert_transactions(connection, frame[start : start + _CHUNK])
            progress.update(min(1.0, (start + _CHUNK) / frame.height), f"{frame.height:,} transactions")
        insert_chargebacks(connection, _chargebacks(rng, frame, until))
        save_settings(connection, {"history_until": until})
    progress.done(f"{frame.height:,} transactions of {population.frame.height} merchants")
    return frame.height


def _chargebacks(rng: np.random.Generator, frame: pl.DataFrame, until: float) -> pl.DataFrame:
    approved = frame.filter(pl.col("status") == "approved")
    chosen = approved.filter(pl.Series(rng.random(approved.height) < CHARGEBACK_SHARE))
    delays = pl.Series(rng.exponential(_CHARGEBACK_DELAY, chosen.height))
    reported = chosen.select(pl.col("id").alias("transaction_id"), "account_id", pl.col("created_at") + delays)
    return reported.filter(pl.col("created_at") <= until).cast(dict(CHARGEBACK_SCHEMA))  # type: ignore[arg-type]  # a plain mapping
