"""What each merchant metric means, written once as SQL for the view and for the metric platform.

All metrics look at the transactions with `since < created_at <= until`. Rates are 0..1, `transaction_rate` is per
second of data time. A metric is NULL where the columns of the data do not allow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

UNUSUAL_RATIO = 3.0
"""An amount this many times the card's own earlier average is unusual."""

VIEW = "merchant_metrics"


@dataclass(frozen=True)
class MetricFamily:
    """One metric: `column` in the view and in the platform's answer, `name` in Prometheus."""

    column: str
    labels: tuple[str, ...] = ("account_id", "merchant_name")
    aggregation: str = "avg"  # how it comes about over the window: avg of 0/1 outcomes, or a sum

    @property
    def name(self) -> str:
        return f"sentinel_{self.column}"


FAMILIES: dict[str, MetricFamily] = {
    family.column: family
    for family in (
        MetricFamily("block_rate", labels=("account_id", "merchant_name", "region")),
        MetricFamily("failed_auth_rate"),
        MetricFamily("transaction_count", aggregation="sum"),
        MetricFamily("transaction_rate"),
        MetricFamily("unique_card_count", aggregation="sum"),
        MetricFamily("unusual_spend_rate"),
        MetricFamily("chargeback_rate"),
        MetricFamily("chargeback_count", aggregation="sum"),
    )
}

PLATFORM_ONLY = "failed_auth_rate"
"""Served by the metric platform, not by the payments database."""

VIEW_COLUMNS = ("account_id", "merchant_name", "region", *(name for name in FAMILIES if name != PLATFORM_ONLY))

_CLOCK = {
    # SQLite's clock counts milliseconds and stands still within a statement.
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "CAST(EXTRACT(EPOCH FROM statement_timestamp()) AS DOUBLE PRECISION)",
}


def _number(setting: str) -> str:
    return f"(SELECT CAST(value AS DOUBLE PRECISION) FROM settings WHERE name = '{setting}')"  # noqa: S608 - names are constants below


def definition(*, since: str, until: str, seconds: str) -> str:
    """The metrics of every merchant with a transaction in (since, until], one row each.

    `since`, `until` (epoch seconds) and `seconds` (length in data time) are SQL expressions.
    """
    return f"""
WITH bounds AS (SELECT {since} AS since, {until} AS until, {seconds} AS seconds),
in_window AS (
    SELECT account_id,
        COUNT(*) AS total,
        COUNT(status) AS judged,
        SUM(CASE WHEN status = 'blocked' THEN 1 ELSE 0 END) AS blocked,
        SUM(CASE WHEN status IN ('blocked', 'declined') THEN 1 ELSE 0 END) AS failed,
        COUNT(card_id) AS carded,
        COUNT(DISTINCT card_id) AS cards,
        COUNT(amount) AS priced,
        SUM(CASE WHEN amount_ratio >= {UNUSUAL_RATIO} THEN 1 ELSE 0 END) AS unusual
    FROM transactions
    WHERE created_at > (SELECT since FROM bounds) AND created_at <= (SELECT until FROM bounds)
    GROUP BY account_id
),
reported AS (
    SELECT account_id, COUNT(*) AS total
    FROM chargebacks
    WHERE created_at > (SELECT since FROM bounds) AND created_at <= (SELECT until FROM bounds)
    GROUP BY account_id
)
SELECT m.account_id, m.merchant_name, m.region,
    CAST(t.blocked AS DOUBLE PRECISION) / NULLIF(t.judged, 0) AS block_rate,
    CAST(t.failed AS DOUBLE PRECISION) / NULLIF(t.judged, 0) AS failed_auth_rate,
    t.total AS transaction_count,
    CAST(t.total AS DOUBLE PRECISION) / (SELECT seconds FROM bounds) AS transaction_rate,
    CASE WHEN t.carded > 0 THEN t.cards END AS unique_card_count,
    CASE WHEN t.carded > 0 AND t.priced > 0
        THEN CAST(t.unusual AS DOUBLE PRECISION) / t.total END AS unusual_spend_rate,
    CASE WHEN {_number("chargebacks_known")} > 0
        THEN CAST(COALESCE(c.total, 0) AS DOUBLE PRECISION) / t.total END AS chargeback_rate,
    CASE WHEN {_number("chargebacks_known")} > 0 THEN COALESCE(c.total, 0) END AS chargeback_count
FROM in_window t
JOIN merchants m ON m.account_id = t.account_id
LEFT JOIN reported c ON c.account_id = t.account_id
"""  # noqa: S608 - every piece is a constant or a bound parameter


def view_ddl(dialect: str) -> str:
    """CREATE VIEW over the last `rate_window` seconds (wall clock) of the `settings` table."""
    clock, window = _CLOCK[dialect], _number("rate_window")
    body = definition(since=f"{clock} - {window}", until=clock, seconds=f"{window} * {_number('speed')}")
    return f"CREATE VIEW {VIEW} AS SELECT {', '.join(VIEW_COLUMNS)} FROM ({body}) AS metrics"  # noqa: S608 - constants


def window_metrics(connection: sa.Connection, since: float, until: float) -> list[dict[str, Any]]:
    """The metrics over (since, until] in epoch seconds of the wall clock, one dict per merchant, by account id."""
    body = definition(
        since="CAST(:since AS DOUBLE PRECISION)",
        until="CAST(:until AS DOUBLE PRECISION)",
        seconds=f"CAST(:seconds AS DOUBLE PRECISION) * {_number('speed')}",
    )
    rows = connection.execute(
        sa.text(body + "ORDER BY m.account_id"), {"since": since, "until": until, "seconds": until - since}
    )
    return [dict(row) for row in rows.mappings()]
