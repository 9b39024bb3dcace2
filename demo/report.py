"""What the rules made of a replay: alerts of the webhook's database against the labels of the replayed data.

A transaction is inside an alert when it is of the same merchant and its time lies in [fired - window, ended] of
one of the alert's firings, in data time. `ended` is when Prometheus said so, else when the firing was last heard of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
import sqlalchemy as sa

from demo.errors import DemoError
from demo.payments import PaymentsStore, load_settings, transactions
from demo.replay import ReplayClock, day

Interval = tuple[float, float]

_ALERTS = """
SELECT a.id AS alert_id, a.account_id, a.merchant_name, a.alert_type, d.current_severity AS severity,
       d.first_triggered_at, d.last_triggered_at,
       t.fingerprint, t.starts_at, t.ends_at, t.status AS trigger_status, t.created_at AS heard_at
FROM alert a
JOIN alert_dynamic d ON d.alert_id = a.id
LEFT JOIN alert_trigger_log t ON t.alert_id = a.id AND t.starts_at IS NOT NULL
WHERE a.alert_type <> 'OPERATIONS' -- of the stack itself, about no merchant
ORDER BY d.first_triggered_at, a.id, t.created_at
"""


@dataclass(frozen=True)
class AlertSpans:
    """One alert and its firings, in epoch seconds of the wall clock, before the rate window is added."""

    account_id: str
    merchant_name: str
    alert_type: str
    severity: str
    firings: tuple[Interval, ...]


@dataclass(frozen=True)
class AlertScore:
    """One alert in data time. `frauds` is None where the data has no labels."""

    alert: AlertSpans
    since: float
    until: float
    transactions: int
    frauds: int | None


@dataclass(frozen=True)
class Score:
    """Totals count each transaction once, however many alerts it is in."""

    alerts: tuple[AlertScore, ...]
    transactions: int
    frauds: int | None
    inside: int
    frauds_inside: int


def load_alerts(url: str) -> list[AlertSpans]:
    """All alerts of the webhook's database, oldest first. Raises DemoError when it cannot be read."""
    try:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            rows = [dict(row) for row in connection.execute(sa.text(_ALERTS)).mappings()]
        engine.dispose()
    except (sa.exc.ArgumentError, sa.exc.DBAPIError) as error:
        raise DemoError(f"the webhook's database cannot be read: {str(error).splitlines()[0]}") from error
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(str(row["alert_id"]), []).append(row)
    return [_alert(rows) for rows in grouped.values()]


def _alert(rows: list[dict[str, Any]]) -> AlertSpans:
    firings: dict[tuple[str, float], float] = {}
    for row in rows:
        if row["starts_at"] is None:
            continue
        key = (row["fingerprint"], _epoch(row["starts_at"]))
        resolved = row["trigger_status"].lower() == "resolved" and row["ends_at"] is not None
        heard = _epoch(row["ends_at"] if resolved else row["heard_at"])
        # What was heard while it fired is no later than its end.
        firings[key] = heard if resolved else max(heard, firings.get(key, key[1]))
    head = rows[0]
    spans = [(start, max(start, end)) for (_, start), end in firings.items()]
    whole = (_epoch(head["first_triggered_at"]), _epoch(head["last_triggered_at"]))
    return AlertSpans(
        account_id=head["account_id"],
        merchant_name=head["merchant_name"],
        alert_type=head["alert_type"],
        severity=head["severity"],
        firings=tuple(sorted(spans)) or (whole,),
    )


def _epoch(value: datetime | str) -> float:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).timestamp()


def load_replayed(store: PaymentsStore) -> tuple[pl.DataFrame, ReplayClock]:
    """account_id, source_time, is_fraud of what was replayed so far. Raises DemoError when nothing was."""
    with store.read() as connection:
        settings = load_settings(connection)
        if settings.get("mode") != "replay":
            raise DemoError("no file was replayed into this store, so there is nothing to report on")
        query = sa.select(transactions.c.account_id, transactions.c.source_time, transactions.c.is_fraud)
        rows = [tuple(row) for row in connection.execute(query)]
    kinds = {"account_id": pl.String, "source_time": pl.Float64, "is_fraud": pl.Boolean}
    return pl.DataFrame(rows, schema=kinds, orient="row"), ReplayClock.loads(settings["replay"])


def score(alerts: list[AlertSpans], replayed: pl.DataFrame, clock: ReplayClock) -> Score:
    """Alerts whose last firing ended before the replay began belong to another run and are left out."""
    labelled = clock.plan.labelled
    scored: list[AlertScore] = []
    inside = pl.Series([False]).new_from_index(0, replayed.height)
    fraud = replayed["is_fraud"].fill_null(value=False)
    for alert in alerts:
        spans = _data_spans(alert, clock)
        if not spans:
            continue
        mask = _mask(replayed, alert.account_id, spans)
        inside |= mask
        scored.append(
            AlertScore(
                alert=alert,
                since=spans[0][0],
                until=max(end for _, end in spans),
                transactions=int(mask.sum()),
                frauds=int((mask & fraud).sum()) if labelled else None,
            )
        )
    return Score(
        alerts=tuple(scored),
        transactions=replayed.height,
        frauds=int(fraud.sum()) if labelled else None,
        inside=int(inside.sum()),
        frauds_inside=int((inside & fraud).sum()),
    )


def _data_spans(alert: AlertSpans, clock: ReplayClock) -> list[Interval]:
    return [
        (clock.data_time(start) - clock.plan.window, clock.data_time(end))
        for start, end in alert.firings
        if end >= clock.start
    ]


def _mask(replayed: pl.DataFrame, account_id: str, spans: list[Interval]) -> pl.Series:
    at = replayed["source_time"]
    mask = pl.Series([False]).new_from_index(0, replayed.height)
    for since, until in spans:
        mask |= (at >= since) & (at <= until)
    return mask & (replayed["account_id"] == account_id)


def render(result: Score) -> str:
    """The report as plain text."""
    if not result.alerts:
        return f"no alerts; {result.transactions:,} transactions replayed so far" + (
            f", {result.frauds:,} of them labelled fraud" if result.frauds is not None else ""
        )
    names = [f"{entry.alert.merchant_name} ({entry.alert.account_id})" for entry in result.alerts]
    width = max(len(name) for name in names)
    kind = max(len(entry.alert.alert_type) for entry in result.alerts)
    lines = [
        f"{name:<{width}}  {entry.alert.alert_type:<{kind}}  {entry.alert.severity}  "
        f"{day(entry.since)} to {day(entry.until)}  {entry.transactions:>7,} transactions"
        + ("" if entry.frauds is None else f"  {entry.frauds:>5,} frauds")
        for name, entry in zip(names, result.alerts, strict=True)
    ]
    return "\n".join([*lines, "", *_totals(result)])


def _totals(result: Score) -> list[str]:
    merchants = len({entry.alert.account_id for entry in result.alerts})
    share = result.inside / max(1, result.transactions)
    lines = [
        f"{len(result.alerts):,} alerts on {merchants:,} merchants",
        f"inside them: {result.inside:,} of {result.transactions:,} transactions ({share:.1%})",
    ]
    if result.frauds is None:
        return [*lines, "the data has no fraud labels, so nothing can be said about right and wrong"]
    covered = result.frauds_inside / max(1, result.frauds)
    empty = sum(1 for entry in result.alerts if not entry.frauds)
    return [
        *lines,
        f"labelled frauds covered: {result.frauds_inside:,} of {result.frauds:,} ({covered:.1%})",
        f"chance level: spans with that share of the transactions, laid at random, would cover {share:.1%}",
        f"alerts with no labelled fraud inside: {empty:,} of {len(result.alerts):,}",
    ]
