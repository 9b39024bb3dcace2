"""Writes what happened since the last step. Driven by `now`: a late tick is caught up, tests need not sleep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import sqlalchemy as sa

from demo.attacks import Attack, Target, attack_traffic, chargeback_burst, running
from demo.cards import CardBook
from demo.errors import DemoError
from demo.merchants import Population, make_population
from demo.payments import (
    CHARGEBACK_SCHEMA,
    PaymentsStore,
    chargebacks,
    insert_chargebacks,
    insert_merchants,
    insert_transactions,
    load_merchants,
    load_settings,
    merchants,
    next_transaction_id,
    purge,
    save_settings,
    transactions,
)
from demo.traffic import CHARGEBACK_SHARE, ordinary

CATCH_UP = 600.0
"""Seconds that are filled in after a pause; a longer outage stays a gap, in the store as in Prometheus."""
_PURGE_EVERY = 60.0


@dataclass(frozen=True)
class SimulatorConfig:
    merchants: int = 50
    rate: float = 8.0  # transactions per second over all merchants
    seed: int = 7
    history: float = 86_400.0  # seconds kept


class Simulator:
    """Ordinary traffic and the attacks of the store, up to the `now` of each step."""

    def __init__(self, store: PaymentsStore, config: SimulatorConfig, now: float) -> None:
        self._store = store
        self._config = config
        self.population = prepare(store, config)
        # A restart goes on with other traffic than the last start did; the same moment and seed give the same.
        self._rng = np.random.default_rng([config.seed, int(now)])
        with store.read() as connection:
            self._book = CardBook.load(connection)
            newest = connection.execute(sa.select(sa.func.max(transactions.c.created_at))).scalar_one()
            self._next_id = next_transaction_id(connection)
        self._clock = now if newest is None else min(now, max(newest, now - CATCH_UP))
        self._purged_at = now

    def typical_merchant(self) -> str:
        """Account id of the merchant with the median tempo: an attack stands out there at once."""
        by_tempo = self.population.frame.sort("tx_per_minute")
        return str(by_tempo["account_id"][by_tempo.height // 2])

    def step(self, now: float) -> int:
        """Write everything since the last step in one database transaction; returns the number of payments."""
        since = max(self._clock, now - CATCH_UP)
        if now <= since:
            return 0
        with self._store.read() as connection:
            attacks = running(connection, since)
        frame = self._book.record(self._traffic(attacks, since, now)).with_columns(
            pl.int_range(self._next_id, self._next_id + pl.len(), dtype=pl.Int64).alias("id"),
            pl.lit(None, dtype=pl.Float64).alias("source_time"),
        )
        with self._store.write() as connection:
            insert_transactions(connection, frame)
            for attack in attacks:
                insert_chargebacks(connection, chargeback_burst(connection, self._rng, attack, since, now))
            insert_chargebacks(connection, self._ordinary_chargebacks(connection, int((~frame["is_fraud"]).sum()), now))
            save_settings(connection, {"heartbeat": now})
            if now - self._purged_at >= _PURGE_EVERY:
                purge(connection, now - self._config.history)
                self._purged_at = now
        self._next_id += frame.height
        self._clock = now
        return frame.height

    def _traffic(self, attacks: list[Attack], since: float, until: float) -> pl.DataFrame:
        frames = [ordinary(self._rng, self.population, since, until)]
        for attack in attacks:
            target = Target(self.population, self.population.index_of(attack.account_id), self._book)
            frames.append(attack_traffic(self._rng, target, attack, since, until))
        return pl.concat(frames).sort("created_at")

    def _ordinary_chargebacks(self, connection: sa.Connection, written: int, now: float) -> pl.DataFrame:
        """Now and then a bank reports some earlier transaction of some merchant."""
        count = int(self._rng.poisson(CHARGEBACK_SHARE * written))
        oldest = connection.execute(sa.select(sa.func.min(transactions.c.id))).scalar_one()
        if not count or oldest is None or oldest >= self._next_id:
            return pl.DataFrame(schema=CHARGEBACK_SCHEMA)
        drawn = np.unique(self._rng.integers(oldest, self._next_id, count))
        reported = sa.select(chargebacks.c.transaction_id).where(chargebacks.c.transaction_id.in_(drawn.tolist()))
        query = sa.select(transactions.c.id.label("transaction_id"), transactions.c.account_id).where(
            transactions.c.id.in_(drawn.tolist()),
            transactions.c.id.not_in(reported),
            transactions.c.status == "approved",
        )
        rows = connection.execute(query).all()
        return pl.DataFrame(
            [(*row, now) for row in rows],
            schema=CHARGEBACK_SCHEMA,
            orient="row",
        )


def prepare(store: PaymentsStore, config: SimulatorConfig) -> Population:
    """Enter the merchants of `config` where the store has none. Raises DemoError when it holds other ones."""
    population = make_population(config.merchants, config.rate, config.seed)
    with store.write() as connection:
        if load_settings(connection).get("mode") == "replay":
            raise DemoError("this store holds a replayed file: use another PAYMENTS_DATABASE_URL for the simulator")
        known = load_merchants(connection)
        if not known:
            insert_merchants(connection, population.frame)
            return population
        if {m["account_id"] for m in known} != set(population.frame["account_id"]):
            raise DemoError(
                f"this store has {len(known)} merchants, not {config.merchants}: "
                "give their number, or use another PAYMENTS_DATABASE_URL"
            )
        tempo = sa.update(merchants).where(merchants.c.account_id == sa.bindparam("key"))
        connection.execute(
            tempo.values(tx_per_minute=sa.bindparam("tempo")),
            [{"key": m["account_id"], "tempo": m["tx_per_minute"]} for m in population.frame.iter_rows(named=True)],
        )
    return population
