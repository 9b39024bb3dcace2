"""Some fifty invented merchants with their regions, tempo and habits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from demo.errors import DemoError

Floats = npt.NDArray[np.float64]

REGIONS = ("AP", "EU", "US")
_REGION_HOURS = {"AP": 8.0, "EU": 1.0, "US": -5.0}
_NAMES = (
    "Harbour Coffee Roasters",
    "Northwind Outdoor",
    "Lotus Garden Kitchen",
    "Pixel & Pine",
    "Bluebird Books",
    "Atlas Travel",
    "Golden Gate Games",
    "Marina Electronics",
    "Juniper Apparel",
    "Cobalt Cycles",
    "Sakura Stationery",
    "Riverside Pharmacy",
    "Summit Ski Hire",
    "Velvet Cinema",
    "Oakridge Furniture",
    "Paper Crane Gifts",
    "Silverline Airlines",
    "Corner Bakery",
    "Kangaroo Sports",
    "Opal Jewellers",
    "Metro Parking",
    "Greenfield Grocers",
    "Luna Cosmetics",
    "Tidewater Hotels",
    "Redwood Hardware",
    "Echo Music Store",
    "Mango Mobile",
    "Polar Ice Cream",
    "Quartz Watches",
    "Sunrise Fitness",
    "Tulip Flowers",
    "Umbra Lighting",
    "Vista Optics",
    "Willow Pet Care",
    "Xenon Auto Parts",
    "Yellow Cab Rides",
    "Zephyr Sailing",
    "Amber Antiques",
    "Birch Toys",
    "Cedar Saunas",
    "Delta Car Hire",
    "Ember Grill",
    "Fjord Fishmongers",
    "Granite Gym",
    "Hazel Tea House",
    "Ivory Dental",
    "Jade Noodle Bar",
    "Koala Kids",
    "Lagoon Diving",
    "Maple Donations",
)

# Transactions a minute of the smallest and the busiest of 50 merchants that make 8 transactions a second together.
_SLOWEST, _BUSIEST = 2.0, 60.0
_REFERENCE_MEAN = 8.0 * 60.0 / 50.0
_TRANSACTIONS_PER_CARD_AND_DAY = 6.0


@dataclass(frozen=True)
class Population:
    """All merchants and cards as arrays; one entry per merchant, `card_means` one per card over all merchants.

    The cards of merchant i are numbered `card_starts[i] : card_starts[i] + card_counts[i]`.
    """

    frame: pl.DataFrame  # columns of the merchants table
    utc_offsets: Floats  # hours
    block_rates: Floats
    decline_rates: Floats
    card_starts: npt.NDArray[np.int64]
    card_counts: npt.NDArray[np.int64]
    card_means: Floats  # currency units

    @property
    def rates(self) -> Floats:
        """Transactions per second, daily average."""
        return self.frame["tx_per_minute"].to_numpy() / 60.0

    def index_of(self, account_id: str) -> int:
        return int(self.frame["account_id"].to_list().index(account_id))


def card_names(numbers: npt.NDArray[np.int64]) -> pl.Series:
    """Ids like `card_0001234`."""
    return pl.select(
        pl.concat_str(pl.lit("card_"), pl.Series(numbers).cast(pl.String).str.zfill(7)).alias("card_id")
    ).to_series()


def make_population(count: int, total_rate: float, seed: int) -> Population:
    """The same arguments give the same merchants. `total_rate`: transactions per second over all of them."""
    if count < 1 or not total_rate > 0:
        raise DemoError("the simulator needs at least one merchant and a rate above 0 transactions a second")
    rng = np.random.default_rng(seed)
    per_minute = _spread(rng, count, total_rate)
    regions = [REGIONS[i % len(REGIONS)] for i in range(count)]
    cards = np.maximum(150, per_minute * 1440.0 / _TRANSACTIONS_PER_CARD_AND_DAY).astype(np.int64)
    starts = np.concatenate(([0], np.cumsum(cards)[:-1]))
    usual = rng.lognormal(np.log(45.0), 0.6, count)  # what a purchase costs there
    frame = pl.DataFrame(
        {
            "account_id": [f"acc_{i + 1:03d}" for i in range(count)],
            "merchant_name": [_name(i) for i in range(count)],
            "region": regions,
            "tx_per_minute": per_minute,
        }
    )
    return Population(
        frame=frame,
        utc_offsets=np.array([_REGION_HOURS[region] for region in regions]),
        block_rates=rng.uniform(0.03, 0.06, count),
        decline_rates=rng.uniform(0.04, 0.08, count),
        card_starts=starts,
        card_counts=cards,
        card_means=np.repeat(usual, cards) * rng.lognormal(0.0, 0.5, int(cards.sum())),
    )


def _name(index: int) -> str:
    name, branch = _NAMES[index % len(_NAMES)], index // len(_NAMES)
    return f"{name} {branch + 1}" if branch else name


def _spread(rng: np.random.Generator, count: int, total_rate: float) -> Floats:
    """Log-normal tempos within the bounds that add up to `total_rate` (to a few per cent)."""
    mean = total_rate * 60.0 / count
    scale = mean / _REFERENCE_MEAN
    tempos = rng.lognormal(0.0, 0.8, count)
    for _ in range(8):  # clipping moves the sum, scaling moves the bounds: a few rounds settle it
        tempos = np.clip(tempos * (mean / tempos.mean()), _SLOWEST * scale, _BUSIEST * scale)
    return np.asarray(tempos, dtype=np.float64)
