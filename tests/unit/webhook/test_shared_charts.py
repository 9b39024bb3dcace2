"""A chart is drawn once: for those who wait while it is, and for those who ask later."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from webhook.domain.usual import DAYS
from webhook.pipeline.chart import AlertChart
from webhook.pipeline.shared import SharedResults
from webhook.ports import ChartSpec, HistoryUnavailable, Series

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
LONG = 60  # seconds, for what a test waits for


class Past:
    """A metric's past; `away` where Prometheus does not answer, `old_away` only for the days before."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = self.old_away = False

    def range(self, metric: str, _account: str, start: datetime, end: datetime, _step: timedelta) -> Series:
        self.asked += 1
        if self.away:
            raise HistoryUnavailable
        return Series(metric, [start, end], [0.1, 0.4])

    def past_days(
        self, _metric: str, _account: str, start: datetime, end: datetime, _step: timedelta, *, days: int
    ) -> dict[int, list[tuple[datetime, float]]]:
        if self.old_away:
            raise HistoryUnavailable
        return {day: [(start, day / 100), (end, day / 100)] for day in range(1, days + 1)}


class Drawing:
    """Notes what it was given."""

    def __init__(self) -> None:
        self.specs: list[ChartSpec] = []

    def render(self, spec: ChartSpec) -> bytes:
        self.specs.append(spec)
        return f"picture {len(self.specs)}".encode()


@pytest.fixture
def past() -> Past:
    return Past()


@pytest.fixture
def drawing() -> Drawing:
    return Drawing()


@pytest.fixture
def chart(past: Past, drawing: Drawing) -> AlertChart:
    return AlertChart(past, drawing, past)


def draw(chart: AlertChart, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "metric": "block_rate",
        "threshold": 0.2,
        "account_id": "acc_017",
        "merchant": "Northwind Books",
        "start": NOW - timedelta(minutes=12),
        "end": None,
        "now": NOW,
    }
    return chart.draw(**{**values, **changes})


def test_many_readers_at_once_share_one_drawing() -> None:
    shared, begun, go_on = SharedResults(1000), threading.Event(), threading.Event()
    made: list[int] = []

    def make() -> bytes:
        begun.set()
        assert go_on.wait(LONG)
        made.append(1)
        return b"picture"

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(shared.get, "key", make)]
        assert begun.wait(LONG)
        waiting += [pool.submit(shared.get, "key", make) for _ in range(7)]
        go_on.set()
        assert {future.result(LONG) for future in waiting} == {b"picture"}
    assert made == [1]


def test_what_failed_is_told_and_tried_again() -> None:
    shared = SharedResults(1000)

    def fail() -> bytes:
        raise HistoryUnavailable("away")

    with pytest.raises(HistoryUnavailable):
        shared.get("key", fail)
    assert shared.get("key", lambda: b"picture") == b"picture"


def test_what_is_kept_is_bounded_by_its_bytes() -> None:
    shared = SharedResults(100)
    for key in range(5):
        shared.get(key, lambda: b"x" * 40)
    assert shared.get(4, lambda: b"anew") == b"x" * 40
    assert shared.get(0, lambda: b"anew") == b"anew"
    assert shared.get("large", lambda: b"x" * 101) == b"x" * 101


def test_a_chart_is_drawn_anew_when_its_time_has_gone_on(chart: AlertChart, past: Past) -> None:
    assert draw(chart) == draw(chart, now=NOW + timedelta(seconds=10)) == b"picture 1"
    assert draw(chart, now=NOW + timedelta(seconds=16)) == b"picture 2"
    assert past.asked == 2


def test_a_chart_of_the_past_is_kept_for_longer(chart: AlertChart) -> None:
    end = NOW - timedelta(hours=2)
    ended: dict[str, Any] = {"start": end - timedelta(hours=1), "end": end}
    assert draw(chart, **ended) == draw(chart, **ended, now=NOW + timedelta(minutes=4)) == b"picture 1"


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": "failed_auth_rate"},
        {"threshold": 0.3},
        {"operator": "<"},
        {"account_id": "acc_018"},
        {"merchant": "Renamed"},
        {"end": NOW},
        {"theme": "dark"},
        {"image_format": "svg"},
    ],
)
def test_another_chart_is_another_drawing(chart: AlertChart, changes: dict[str, Any]) -> None:
    assert draw(chart) != draw(chart, **changes)


def test_a_history_that_is_away_is_not_remembered(chart: AlertChart, past: Past) -> None:
    past.away = True
    with pytest.raises(HistoryUnavailable):
        draw(chart)
    past.away = False
    assert draw(chart) == b"picture 1"


def test_the_usual_level_is_of_the_days_before(chart: AlertChart, drawing: Drawing) -> None:
    draw(chart)
    (spec,) = drawing.specs
    assert spec.usual is not None
    assert spec.usual.middle[0] == 0.04
    assert spec.usual.days == DAYS


def test_without_the_days_before_the_attack_is_drawn_all_the_same(
    chart: AlertChart, past: Past, drawing: Drawing
) -> None:
    past.old_away = True
    draw(chart)
    assert drawing.specs[0].usual is None
