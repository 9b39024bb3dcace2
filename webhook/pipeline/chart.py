"""The chart of an alert: which time it shows, and drawing it from the metric's history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from webhook.ports import ChartRenderer, ChartSpec, MetricHistory

BEFORE = timedelta(hours=1)
"""What is shown before the attack at least, so that the usual level can be seen."""

_POINTS = 240
_STEPS = tuple(timedelta(seconds=s) for s in (5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600))


def chart_range(start: datetime, end: datetime | None, now: datetime) -> tuple[datetime, datetime, timedelta]:
    """First and last time of the chart and the step between points (at most 240 but for very long attacks).

    As much time is shown before the attack as it lasted (1 h at least, 24 h at most), and a tenth after it.
    """
    until = min(now, end or now)
    lasted = max(until - start, timedelta(0))
    first = start - min(max(lasted, BEFORE), timedelta(hours=24))
    last = min(now, until + max(lasted / 10, timedelta(minutes=5)))
    step = next((step for step in _STEPS if (last - first) / step <= _POINTS), (last - first) / _POINTS)
    return first, last, step


@dataclass(frozen=True, slots=True)
class AlertChart:
    """Draws charts; raises HistoryUnavailable when the history cannot be read."""

    history: MetricHistory
    renderer: ChartRenderer

    def draw(
        self,
        *,
        metric: str,
        threshold: float | None,
        account_id: str,
        merchant: str,
        start: datetime,
        end: datetime | None,
        now: datetime,
        theme: Literal["light", "dark"] = "light",
        image_format: Literal["png", "svg"] = "png",
    ) -> bytes:
        first, last, step = chart_range(start, end, now)
        series = self.history.range(metric, account_id, first, last, step)
        return self.renderer.render(
            ChartSpec(
                series=series,
                threshold=threshold,
                merchant=merchant,
                alert_start=start,
                alert_end=end,
                now=now,
                theme=theme,
                format=image_format,
            )
        )
