"""The chart of an alert: which time it shows, and drawing it from the metric's history, once for all who ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Literal, Protocol

import structlog

from webhook.domain.usual import DAYS, Usual, usual
from webhook.pipeline.shared import SharedResults
from webhook.ports import (
    ChartRenderer,
    ChartSpec,
    HistoryUnavailable,
    MetricHistory,
    Panels,
    PanelUnavailable,
    PastDays,
)

BEFORE = timedelta(hours=1)
"""What is shown before the attack at least, so that the usual level can be seen."""

FRESH, SETTLED = timedelta(seconds=15), timedelta(minutes=5)
"""How long a chart is not drawn anew: while its time goes on, and once all of it has passed."""

KEPT = 16 * 1024 * 1024
"""Bytes of charts that a process keeps: a few hundred."""

_POINTS = 240
_STEPS = tuple(timedelta(seconds=s) for s in (5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600))

log = structlog.get_logger(__name__)


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


class ChartMeter(Protocol):
    """Where drawings are counted: by `grafana`, or `local` and why."""

    def drawn(self, by: str, why: str, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that a chart depends on, but for the time."""

    metric: str
    threshold: float | None
    account_id: str
    merchant: str
    start: datetime
    end: datetime | None
    theme: Literal["light", "dark"] = "light"
    image_format: Literal["png", "svg"] = "png"
    alert_type: str = ""
    operator: str = ">"


@dataclass(frozen=True, slots=True)
class AlertChart:
    """Draws charts, by Grafana where there are `panels`; raises HistoryUnavailable when the history cannot be read.

    Without `past` no usual level is shown. The same chart is drawn once, however many ask at the same time.
    """

    history: MetricHistory
    renderer: ChartRenderer
    past: PastDays | None = None
    panels: Panels | None = None
    meter: ChartMeter | None = None
    _shared: SharedResults = field(default_factory=lambda: SharedResults(KEPT))

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
        alert_type: str = "",
        operator: str = ">",
    ) -> bytes:
        wanted = Wanted(metric, threshold, account_id, merchant, start, end, theme, image_format, alert_type, operator)
        return self._shared.get((wanted, _moment(wanted, now)), lambda: self._draw(wanted, now))

    def _draw(self, wanted: Wanted, now: datetime) -> bytes:
        began, by, why = monotonic(), "local", "no_grafana"
        if wanted.image_format == "svg":
            why = "svg"
        elif self.panels is not None:
            try:
                return self._panel(self.panels, wanted, now, began)
            except PanelUnavailable as error:
                why = error.why
                log.warning("grafana_chart_refused", why=str(error), alert_type=wanted.alert_type)
        image = self._local(wanted, now)
        if self.meter is not None:
            self.meter.drawn(by, why, monotonic() - began)
        return image

    def _panel(self, panels: Panels, wanted: Wanted, now: datetime, began: float) -> bytes:
        first, last, _ = chart_range(wanted.start, wanted.end, now)
        image = panels.render(wanted.alert_type, wanted.account_id, first, last, wanted.theme)
        if self.meter is not None:
            self.meter.drawn("grafana", "", monotonic() - began)
        return image

    def _local(self, wanted: Wanted, now: datetime) -> bytes:
        first, last, step = chart_range(wanted.start, wanted.end, now)
        return self.renderer.render(
            ChartSpec(
                series=self.history.range(wanted.metric, wanted.account_id, first, last, step),
                threshold=wanted.threshold,
                merchant=wanted.merchant,
                alert_start=wanted.start,
                alert_end=wanted.end,
                now=now,
                theme=wanted.theme,
                format=wanted.image_format,
                usual=self._usual(wanted, first, last, step),
                step=step,
                operator=wanted.operator,
            )
        )

    def _usual(self, wanted: Wanted, first: datetime, last: datetime, step: timedelta) -> Usual | None:
        """Left out where it cannot be had: the attack can be seen without."""
        if self.past is None:
            return None
        try:
            days = self.past.past_days(wanted.metric, wanted.account_id, first, last, step, days=DAYS)
        except HistoryUnavailable as error:
            log.warning("usual_level_left_out", error=str(error))
            return None
        return usual(days, wanted.start)


def _moment(wanted: Wanted, now: datetime) -> int:
    """The same number for as long as a chart need not be drawn anew."""
    last = chart_range(wanted.start, wanted.end, now)[1]
    fresh = FRESH if last >= now else SETTLED
    return int(now.timestamp() // fresh.total_seconds())
