"""Replays a dataset through the payments store: data time is mapped to wall time at a chosen speed.

`wall = start + (t - t0) / speed`. The store's rate window is the data window divided by the speed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import polars as pl

from demo.dataset import Dataset
from demo.errors import DemoError
from demo.payments import (
    PaymentsStore,
    clear,
    insert_chargebacks,
    insert_merchants,
    insert_transactions,
    load_settings,
    save_settings,
    transactions,
)

DAY = 86_400.0
DEFAULT_SPEED = DAY / 30.0
_SHORTEST = 300.0  # wall seconds that a replay lasts by default at least: rules need time to fire
_WANTED = 100  # transactions of the median merchant in the rate window
_WINDOWS = tuple(m * 60.0 for m in (1, 2, 5, 10, 15, 30)) + tuple(
    h * 3600.0 for h in (1, 2, 3, 6, 12, 24, 36, 48, 72, 168, 336, 720)
)
_BATCH = 20_000
_LEAST_WALL_WINDOW = 10.0


@dataclass(frozen=True)
class ReplayPlan:
    """Data times are epoch seconds of the file; `window` is in data seconds, `speed` data seconds a second."""

    file: str
    speed: float
    window: float
    data_start: float
    data_end: float
    labelled: bool

    @property
    def wall_window(self) -> float:
        return self.window / self.speed

    @property
    def wall_seconds(self) -> float:
        return (self.data_end - self.data_start) / self.speed


@dataclass(frozen=True)
class ReplayClock:
    """Where in the data a moment of the wall clock lies; kept in the store for the report."""

    start: float  # wall
    plan: ReplayPlan

    def data_time(self, wall: float) -> float:
        return self.plan.data_start + (wall - self.start) * self.plan.speed

    def dumps(self) -> str:
        return json.dumps({"start": self.start, "plan": asdict(self.plan)})

    @classmethod
    def loads(cls, text: str) -> ReplayClock:
        stored = json.loads(text)
        return cls(start=stored["start"], plan=ReplayPlan(**stored["plan"]))


def plan_replay(dataset: Dataset, *, speed: float | None = None, window: float | None = None) -> ReplayPlan:
    """Speed and window as given, else chosen from the data. Raises DemoError where they are not above 0."""
    span = dataset.end - dataset.start
    if speed is None:
        speed = max(1.0, min(DEFAULT_SPEED, span / _SHORTEST))
    if window is None:
        window = _choose_window(dataset, span)
    if not speed > 0 or not window > 0:
        raise DemoError("speed and window must be above 0")
    return ReplayPlan(dataset.name, speed, window, dataset.start, dataset.end, dataset.has("label"))


def _median_rate(dataset: Dataset, span: float) -> float:
    """Transactions per data second of the median merchant."""
    counts = dataset.rows.group_by("account_id").len()["len"]
    return float(counts.median() or 0) / max(span, 1.0)  # type: ignore[arg-type]  # counts are numbers


def _choose_window(dataset: Dataset, span: float) -> float:
    rate = _median_rate(dataset, span)
    # A hundredth of slack: 24 h with 99.4 transactions need not become 36 h.
    fitting = [window for window in _WINDOWS if rate * window >= _WANTED * 0.99]
    return min(fitting[0] if fitting else _WINDOWS[-1], max(span, _WINDOWS[0]))


def describe(dataset: Dataset, plan: ReplayPlan) -> list[str]:
    """What will happen, and what one should know before judging it; one line each."""
    rate = _median_rate(dataset, plan.data_end - plan.data_start)
    inside = rate * plan.window
    lines = [
        (
            f"{dataset.rows.height:,} transactions of {dataset.merchants.height:,} merchants, "
            f"{day(plan.data_start)} to {day(plan.data_end)}"
        ),
        f"speed {plan.speed:,.0f}: a day takes {length(DAY / plan.speed)}, all of it {length(plan.wall_seconds)}",
        (
            f"rate window {length(plan.window)} of data = {length(plan.wall_window)} on the wall clock, "
            f"with about {inside:,.0f} transactions of the median merchant in it"
        ),
    ]
    if inside < _WANTED * 0.99:
        lines.append(
            "note: so few transactions per merchant make rates jumpy; a longer --window, or --merchant-group "
            "where several ids belong together, gives steadier ones"
        )
    if plan.wall_window < _LEAST_WALL_WINDOW:
        lines.append(
            f"note: a window of {length(plan.wall_window)} is short beside the seconds between two collections; "
            "a lower --speed or a longer --window shows more"
        )
    return lines + [f"note: {note}" for note in dataset.notes]


class Replay:
    """Writes the dataset into the store as wall time passes. Driven by `now`."""

    def __init__(self, store: PaymentsStore, dataset: Dataset, plan: ReplayPlan, start: float) -> None:
        wall = start + (pl.col("source_time") - plan.data_start) / plan.speed
        reported = start + (pl.col("reported_at") - plan.data_start) / plan.speed
        self.clock = ReplayClock(start, plan)
        self._store = store
        self._rows = dataset.rows.with_columns(wall.alias("created_at"))
        self._chargebacks = (
            dataset.chargebacks.filter(pl.col("reported_at") <= plan.data_end)
            .with_columns(reported.alias("created_at"))
            .sort("created_at")
        )
        self._written = 0
        self._reported = 0
        self._prepare(dataset)

    @property
    def finished(self) -> bool:
        return self._written == self._rows.height and self._reported == self._chargebacks.height

    def step(self, now: float) -> int:
        """Write everything due by `now`; returns the number of transactions."""
        due = int(self._rows["created_at"].search_sorted(now, side="right"))
        reported = int(self._chargebacks["created_at"].search_sorted(now, side="right"))
        before = self._written
        while self._written < due:
            upto = min(due, self._written + _BATCH)
            with self._store.write() as connection:
                insert_transactions(connection, self._rows[self._written : upto])
            self._written = upto
        with self._store.write() as connection:
            insert_chargebacks(connection, self._chargebacks[self._reported : reported])
            save_settings(connection, {"heartbeat": now})
        self._reported = max(reported, self._reported)
        return self._written - before

    def progress(self, now: float) -> tuple[float, str]:
        """Share done, and a few words: the day reached and the time left."""
        plan = self.clock.plan
        reached = min(plan.data_end, self.clock.data_time(now))
        share = 1.0 if self.finished else min(1.0, (now - self.clock.start) / max(plan.wall_seconds, 1e-9))
        left = max(0.0, self.clock.start + plan.wall_seconds - now)
        return share, f"{day(reached)}, {self._written:,} transactions, {length(left)} left"

    def _prepare(self, dataset: Dataset) -> None:
        with self._store.write() as connection:
            simulated = load_settings(connection).get("mode") != "replay"
            if simulated and connection.execute(transactions.select().limit(1)).first() is not None:
                raise DemoError("this store holds simulated payments: replay into another PAYMENTS_DATABASE_URL")
            clear(connection)
            insert_merchants(connection, dataset.merchants)
            plan = self.clock.plan
            save_settings(
                connection,
                {
                    "mode": "replay",
                    "rate_window": plan.wall_window,
                    "speed": plan.speed,
                    "chargebacks_known": int(dataset.has("chargeback")),
                    "replay": self.clock.dumps(),
                },
            )


def day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"


def length(seconds: float) -> str:
    """Like `36 h`, `4 min 10 s`, `12.5 s`."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.3g} s"
    parts: list[str] = []
    rest = round(seconds)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
