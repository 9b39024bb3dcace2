"""The four attacks: what each sends, and how one is started and stopped in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import sqlalchemy as sa

from demo.cards import CardBook
from demo.errors import DemoError
from demo.merchants import Population, card_names
from demo.payments import CHARGEBACK_SCHEMA, attacks, chargebacks, load_merchants, load_settings, transactions
from demo.traffic import SCHEMA, STATUSES

CHARGEBACK = "chargeback"
_BURST = 8.0  # chargebacks that a bank reports at once, on average
_LATEST = 5000  # a burst is drawn from this many of the merchant's latest transactions
_VELOCITY_CARDS = 25


@dataclass(frozen=True)
class Attack:
    id: int
    account_id: str
    type: str
    started_at: float
    ends_at: float | None
    intensity: float  # transactions (chargebacks) per second

    def overlap(self, since: float, until: float) -> tuple[float, float] | None:
        """The part of [since, until) in which this attack runs."""
        start = max(since, self.started_at)
        stop = until if self.ends_at is None else min(until, self.ends_at)
        return (start, stop) if stop > start else None


@dataclass(frozen=True)
class Target:
    """What an attacker has at hand: the merchant's number in the population, and what its cards spent."""

    population: Population
    merchant: int
    book: CardBook


@dataclass(frozen=True)
class AttackType:
    """`intensity` per second unless another is asked for; `send` makes the transactions (none: chargebacks)."""

    intensity: float
    about: str
    send: Callable[[np.random.Generator, Target, Attack, int], dict[str, Any]] | None


def _card_testing(rng: np.random.Generator, target: Target, attack: Attack, count: int) -> dict[str, Any]:  # noqa: ARG001 - one signature for all
    """Stolen numbers tried once or twice with a trifle; nine in ten fail."""
    numbers = rng.integers(9_000_000, 9_900_000, count)
    status = rng.choice(STATUSES, count, p=[0.10, 0.68, 0.22])
    return {
        "card_id": card_names(numbers),
        "amount": rng.uniform(0.5, 3.0, count).round(2),
        "status": status,
        "new_device": rng.random(count) < 0.9,  # noqa: PLR2004 - share of unknown devices
    }


def _velocity(rng: np.random.Generator, target: Target, attack: Attack, count: int) -> dict[str, Any]:
    """A script hammers the same few cards."""
    first = 9_900_000 + (attack.id * _VELOCITY_CARDS) % 90_000
    average = float(target.population.card_means[target.population.card_starts[target.merchant]])
    return {
        "card_id": card_names(first + rng.integers(0, _VELOCITY_CARDS, count)),
        "amount": (average * rng.uniform(0.8, 1.2, count)).round(2),
        "status": rng.choice(STATUSES, count, p=[0.85, 0.06, 0.09]),
        "new_device": np.zeros(count, dtype=bool),
    }


def _account_takeover(rng: np.random.Generator, target: Target, attack: Attack, count: int) -> dict[str, Any]:  # noqa: ARG001 - one signature for all
    """The merchant's own customers, from devices never seen, spending 5 to 8 times what they use to."""
    start, pool = (int(of[target.merchant]) for of in (target.population.card_starts, target.population.card_counts))
    drawn = start + rng.integers(0, pool, 20 * count)
    known = np.array([target.book.average(card) is not None for card in card_names(drawn)], dtype=bool)
    numbers = np.concatenate((drawn[known], drawn[~known]))[:count]  # customers that have been there, if there are
    cards = card_names(numbers)
    usual = [
        target.book.average(card) or mean
        for card, mean in zip(cards, target.population.card_means[numbers], strict=True)
    ]
    return {
        "card_id": cards,
        "amount": (np.array(usual, dtype=np.float64) * rng.uniform(5.0, 8.0, count)).round(2),
        "status": rng.choice(STATUSES, count, p=[0.86, 0.06, 0.08]),
        "new_device": np.ones(count, dtype=bool),
    }


ATTACK_TYPES: dict[str, AttackType] = {
    "card_testing": AttackType(20.0, "many stolen cards, tiny amounts, nine in ten fail", _card_testing),
    "velocity": AttackType(300.0, "hundreds of transactions a second on a few cards", _velocity),
    "account_takeover": AttackType(1.5, "known cards, new devices, amounts 5 to 8 times the usual", _account_takeover),
    CHARGEBACK: AttackType(0.5, "banks report earlier transactions back, in bursts", None),
}


def attack_traffic(
    rng: np.random.Generator, target: Target, attack: Attack, since: float, until: float
) -> pl.DataFrame:
    """What `attack` sends in [since, until). Columns: SCHEMA; empty for a chargeback attack."""
    send = ATTACK_TYPES[attack.type].send
    span = attack.overlap(since, until)
    if send is None or span is None:
        return pl.DataFrame(schema=SCHEMA)
    count = int(rng.poisson(attack.intensity * (span[1] - span[0])))
    columns = send(rng, target, attack, count)
    columns |= {
        "account_id": [attack.account_id] * count,
        "is_fraud": np.ones(count, dtype=bool),
        "created_at": rng.uniform(*span, count),
    }
    return pl.DataFrame({name: pl.Series(name, columns[name], dtype=kind) for name, kind in SCHEMA.items()})


def chargeback_burst(
    connection: sa.Connection, rng: np.random.Generator, attack: Attack, since: float, until: float
) -> pl.DataFrame:
    """Chargebacks that `attack` has reported in [since, until). Columns of the chargebacks table."""
    span = attack.overlap(since, until)
    if attack.type != CHARGEBACK or span is None:
        return pl.DataFrame(schema=CHARGEBACK_SCHEMA)
    bursts = rng.poisson(attack.intensity * (span[1] - span[0]) / _BURST)
    wanted = int(rng.poisson(_BURST, bursts).sum())
    if not wanted:
        return pl.DataFrame(schema=CHARGEBACK_SCHEMA)
    reported = sa.select(chargebacks.c.transaction_id).where(chargebacks.c.account_id == attack.account_id)
    candidates = (
        sa.select(transactions.c.id)
        .where(
            transactions.c.account_id == attack.account_id,
            transactions.c.status == "approved",
            transactions.c.created_at < since,
            transactions.c.id.not_in(reported),
        )
        .order_by(transactions.c.created_at.desc())
        .limit(_LATEST)
    )
    ids = np.array(connection.execute(candidates).scalars().all(), dtype=np.int64)
    chosen = rng.choice(ids, min(wanted, len(ids)), replace=False)
    return pl.DataFrame(
        {"transaction_id": chosen, "account_id": [attack.account_id] * len(chosen), "created_at": span[1]},
        schema=CHARGEBACK_SCHEMA,
    )


def find_merchant(connection: sa.Connection, wanted: str) -> dict[str, Any]:
    """By account id, or by a part of the name that fits one merchant. Raises DemoError listing what exists."""
    known = load_merchants(connection)
    exact = [m for m in known if wanted.lower() in (m["account_id"].lower(), m["merchant_name"].lower())]
    fits = exact or [m for m in known if wanted.lower() in m["merchant_name"].lower()]
    if len(fits) == 1:
        return fits[0]
    listed = ", ".join(f"{m['account_id']} {m['merchant_name']}" for m in fits or known)
    if fits:
        raise DemoError(f"merchant {wanted!r} fits several: {listed}")
    raise DemoError(f"no merchant {wanted!r}; there are: {listed}" if known else "there are no merchants yet")


def start_attack(
    connection: sa.Connection,
    merchant: str,
    kind: str,
    now: float,
    *,
    minutes: float | None = None,
    intensity: float | None = None,
) -> Attack:
    """Enter an attack from `now` on. Raises DemoError for an unknown merchant or type."""
    if kind not in ATTACK_TYPES:
        raise DemoError(f"no attack type {kind!r}; there are: {', '.join(ATTACK_TYPES)}")
    if load_settings(connection).get("mode") == "replay":
        raise DemoError("this store replays a file: attacks are for simulated traffic only")
    account_id = find_merchant(connection, merchant)["account_id"]
    if any(attack.type == kind for attack in running(connection, now) if attack.account_id == account_id):
        raise DemoError(f"{account_id} is under a {kind} attack already")
    if (minutes is not None and not minutes > 0) or (intensity is not None and not intensity > 0):
        raise DemoError("minutes and intensity must be above 0")
    values = {
        "account_id": account_id,
        "type": kind,
        "started_at": now,
        "ends_at": None if minutes is None else now + minutes * 60.0,
        "intensity": ATTACK_TYPES[kind].intensity if intensity is None else intensity,
    }
    key = connection.execute(sa.insert(attacks).returning(attacks.c.id), values).scalar_one()
    return Attack(id=key, **values)


def stop_attacks(
    connection: sa.Connection, now: float, *, merchant: str | None = None, kind: str | None = None
) -> list[Attack]:
    """End what runs now; of one merchant or type only where given. Returns the attacks that were stopped."""
    if kind is not None and kind not in ATTACK_TYPES:
        raise DemoError(f"no attack type {kind!r}; there are: {', '.join(ATTACK_TYPES)}")
    account_id = None if merchant is None else find_merchant(connection, merchant)["account_id"]
    stopped = [
        attack
        for attack in running(connection, now)
        if account_id in (None, attack.account_id) and kind in (None, attack.type)
    ]
    if stopped:
        ids = [attack.id for attack in stopped]
        connection.execute(sa.update(attacks).where(attacks.c.id.in_(ids)).values(ends_at=now))
    return stopped


def running(connection: sa.Connection, since: float) -> list[Attack]:
    """Attacks that have not ended by `since`, oldest first."""
    alive = sa.or_(attacks.c.ends_at.is_(None), attacks.c.ends_at > since)
    rows = connection.execute(sa.select(attacks).where(alive).order_by(attacks.c.id))
    return [Attack(**row) for row in rows.mappings()]


def latest(connection: sa.Connection, limit: int = 20) -> list[Attack]:
    rows = connection.execute(sa.select(attacks).order_by(attacks.c.id.desc()).limit(limit))
    return [Attack(**row) for row in rows.mappings()]
