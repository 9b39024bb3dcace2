"""Ordinary card traffic of a population of merchants, vectorised: a tick of a second or a day of history alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from demo.merchants import Floats, Population, card_names

SCHEMA: dict[str, pl.DataType] = {
    "account_id": pl.String(),
    "card_id": pl.String(),
    "amount": pl.Float64(),
    "status": pl.String(),
    "new_device": pl.Boolean(),
    "is_fraud": pl.Boolean(),
    "created_at": pl.Float64(),
}
"""Columns of generated traffic; id and amount_ratio come when it is written."""

STATUSES = np.array(["approved", "blocked", "declined"])
CHARGEBACK_SHARE = 0.002
"""Of approved ordinary transactions, how many are charged back some hours later."""

_BIN = 60.0
_RHYTHM = 0.6  # how far the evening is above, and the night below, the daily mean
_NEW_DEVICE_SHARE = 0.03


def rhythm(at: Floats, utc_offsets: Floats) -> Floats:
    """Factor on the daily mean, peaking at 17:00 local time. Shapes: (bins,), (merchants,) → (merchants, bins)."""
    local_hours = at[None, :] / 3600.0 + utc_offsets[:, None]
    return np.asarray(1.0 + _RHYTHM * np.cos((local_hours - 17.0) * np.pi / 12.0), dtype=np.float64)


def ordinary(rng: np.random.Generator, population: Population, since: float, until: float) -> pl.DataFrame:
    """Transactions of all merchants in [since, until), in order of time. Columns: SCHEMA."""
    edges = np.append(np.arange(since, until, _BIN), until)
    widths = np.diff(edges)
    expected = population.rates[:, None] * rhythm(edges[:-1], population.utc_offsets) * widths[None, :]
    counts = rng.poisson(expected)
    merchant, bin_index = (np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices(counts.shape))
    created_at = edges[bin_index] + rng.random(len(merchant)) * widths[bin_index]
    cards = _pick_cards(rng, population, merchant)
    amounts = population.card_means[cards] * rng.lognormal(-0.05, 0.33, len(merchant))
    frame = pl.DataFrame(
        {
            "account_id": population.frame["account_id"].gather(merchant),
            "card_id": card_names(cards),
            "amount": np.maximum(0.5, amounts).round(2),
            "status": _statuses(rng, population, merchant),
            "new_device": rng.random(len(merchant)) < _NEW_DEVICE_SHARE,
            "is_fraud": np.zeros(len(merchant), dtype=bool),
            "created_at": created_at,
        },
        schema=SCHEMA,
    )
    return frame.sort("created_at")


def _pick_cards(
    rng: np.random.Generator, population: Population, merchant: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """A few regulars come often, most cards seldom."""
    within = (population.card_counts[merchant] * rng.random(len(merchant)) ** 1.6).astype(np.int64)
    return np.asarray(population.card_starts[merchant] + within, dtype=np.int64)


def _statuses(rng: np.random.Generator, population: Population, merchant: npt.NDArray[np.int64]) -> pl.Series:
    draw = rng.random(len(merchant))
    blocked = population.block_rates[merchant]
    declined = population.decline_rates[merchant]
    kind = np.where(draw < blocked, 1, np.where(draw < blocked + declined, 2, 0))
    return pl.Series(STATUSES).gather(kind)
