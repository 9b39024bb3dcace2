"""Metrics in people's words and units: the source's 0.3503 is told as 35.03 %, its 1234 as 1,234."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import pairwise


class Unit(Enum):
    SHARE = "share"  # 0..1, told as percent
    COUNT = "count"
    PER_SECOND = "per second"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class MetricWords:
    """How a metric is called in a table (`label`) and what it measures in a sentence (`phrase`).

    A `calculated` one exists in a rule's expression alone, so that Prometheus keeps no history of it.
    """

    label: str
    phrase: str
    unit: Unit
    calculated: bool = False


_KNOWN = {
    "block_rate": MetricWords("Block rate", "the share of blocked transactions", Unit.SHARE),
    "failed_auth_rate": MetricWords("Failed authorisations", "the share of failed authorisations", Unit.SHARE),
    "transaction_count": MetricWords("Transactions", "the number of transactions", Unit.COUNT),
    "transaction_rate": MetricWords("Transaction rate", "the transaction rate", Unit.PER_SECOND),
    "unique_card_count": MetricWords("Distinct cards", "the number of distinct cards", Unit.COUNT),
    "unusual_spend_rate": MetricWords("Unusual spending", "the share of unusually large payments", Unit.SHARE),
    "chargeback_rate": MetricWords("Chargeback rate", "the chargeback rate", Unit.SHARE),
    "chargeback_count": MetricWords("Chargebacks", "the number of chargebacks", Unit.COUNT),
    "unique_card_ratio": MetricWords("Cards per transaction", "cards per transaction", Unit.SHARE, calculated=True),
    "block_rate_deviation": MetricWords(
        "Deviations above usual",
        "the distance to the usual block rate in standard deviations",
        Unit.NUMBER,
        calculated=True,
    ),
    "average_block_rate": MetricWords("Usual block rate", "the usual block rate", Unit.SHARE, calculated=True),
    "block_rate_surge": MetricWords(
        "Times the hour before", "the block rate against the hour before", Unit.NUMBER, calculated=True
    ),
    "past_hour_block_rate": MetricWords(
        "Block rate, past hour", "the block rate of the past hour", Unit.SHARE, calculated=True
    ),
    "previous_hour_block_rate": MetricWords(
        "Block rate, hour before", "the block rate of the hour before", Unit.SHARE, calculated=True
    ),
}


def metric_words(name: str) -> MetricWords:
    """Words for a metric named without its `sentinel_` prefix; unknown names are read by their ending."""
    if name in _KNOWN:
        return _KNOWN[name]
    plain = name.replace("_", " ").strip()
    if name.endswith(("_rate", "_ratio", "_share")):
        unit = Unit.SHARE
    elif name.endswith(("_count", "_total")) or name.startswith("total_"):
        unit = Unit.COUNT
    else:
        unit = Unit.NUMBER
    return MetricWords(plain[:1].upper() + plain[1:], plain, unit)


def format_value(name: str, value: float, *, digits: int = 2) -> str:
    """`digits` after the point for shares and plain numbers; whole counts stay exact."""
    if not math.isfinite(value):
        return "no value"
    unit = metric_words(name).unit
    if unit is Unit.SHARE:
        return f"{_decimal(value * 100, digits)} %"
    if unit is Unit.PER_SECOND:
        return f"{_decimal(value, digits)}/s"
    if value == int(value):
        return f"{int(value):,}"
    return _decimal(value, digits)


def format_threshold(name: str, value: float) -> str:
    """As `format_value`, without the zeros that a chosen number does not have: 20 %, 2.5 %."""
    text = format_value(name, value, digits=4)
    return re.sub(r"\.(\d*?)0+(?!\d)", lambda match: f".{match[1]}" if match[1] else "", text)


_MOST_PLACES = 8


def _decimal(value: float, digits: int) -> str:
    """`digits` after the point; of a number too small for that its first two digits that are not zero."""
    if 10**-_MOST_PLACES <= abs(value) < 10**-digits:
        digits = min(_MOST_PLACES, 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def format_duration(duration: timedelta) -> str:
    """The two largest units: 45 s, 12 min 5 s, 2 h 5 min, 3 d."""
    seconds = max(0, round(duration.total_seconds()))
    for (size, unit), (smaller, rest_unit) in pairwise(_SPANS):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {unit} {rest} {rest_unit}" if rest else f"{seconds // size} {unit}"
    return f"{seconds} s"


def format_time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
