"""The figure of one chart. Not for several threads at once.

1000 by 500 pixels, with lettering large enough to be read in a chat's thumbnail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from webhook.domain.metric import Unit, format_duration, format_threshold, format_value, metric_words
from webhook.ports import ChartSpec

_INCHES, _DPI = (10.0, 5.0), 100
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.1, 0.965, 0.115, 0.765
_NAME_LENGTH = 38
_LOWEST_TOP = {Unit.SHARE: 0.001, Unit.COUNT: 1.0}  # an axis for zeros alone
_DAY, _MOST_TICKS = 86400, 7
_TICKS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, _DAY, 2 * _DAY, 7 * _DAY)  # seconds
_GAP = 2.5  # steps without a value that interrupt the line


@dataclass(frozen=True, slots=True)
class _Theme:
    background: str
    ink: str
    quiet: str
    grid: str
    line: str
    alarm: str
    window: str


_THEMES = {
    "light": _Theme("#ffffff", "#16202c", "#5b6775", "#e6eaef", "#2563eb", "#d92d20", "#fdecea"),
    "dark": _Theme("#12181f", "#f2f5f8", "#9aa7b5", "#2a343f", "#6ea8ff", "#ff6b5e", "#3a1f22"),
}


def chart_figure(spec: ChartSpec) -> Figure:
    """A figure to be saved; the values of the series have to be finite."""
    theme = _THEMES[spec.theme]
    figure = Figure(figsize=_INCHES, dpi=_DPI, facecolor=theme.background)
    axes = figure.add_axes((_LEFT, _BOTTOM, _RIGHT - _LEFT, _TOP - _BOTTOM))
    axes.set_facecolor(theme.background)
    _heading(figure, spec, theme)
    if spec.series.values:
        _plot(axes, spec, theme)
        _axes(axes, spec, theme)
    else:
        _nothing_to_show(axes, theme)
    return figure


def _heading(figure: Figure, spec: ChartSpec, theme: _Theme) -> None:
    words = metric_words(spec.series.metric)
    start = spec.alert_start.astimezone(UTC)
    told = f"{words.label} · alert began {start:%d %b %Y, %H:%M} UTC"
    if spec.alert_end is not None:
        told += f", lasted {format_duration(spec.alert_end - spec.alert_start)}"
    _text(figure.text(0.03, 0.915, _drawable(_short(spec.merchant)), color=theme.ink, size=21, weight="bold"))
    _text(figure.text(0.03, 0.845, _drawable(told), color=theme.quiet, size=14.5))
    if spec.series.values:
        peak = max(spec.series.values)
        grave = spec.threshold is not None and peak > spec.threshold
        number = format_value(spec.series.metric, peak, digits=1)
        colour = theme.alarm if grave else theme.ink
        figure.text(0.965, 0.905, number, color=colour, size=25, weight="bold", ha="right")
        figure.text(0.965, 0.845, "highest", color=theme.quiet, size=14.5, ha="right")


def _plot(axes: Axes, spec: ChartSpec, theme: _Theme) -> None:
    times, values = _with_gaps([_x(time) for time in spec.series.times], spec.series.values)
    start = _x(spec.alert_start)
    end = max(_x(spec.alert_end or spec.series.times[-1]), start)
    axes.axvspan(start, end, color=theme.window, lw=0, zorder=0)
    axes.axvline(start, color=theme.alarm, lw=1.6, zorder=2)
    axes.fill_between(times, values, 0, color=theme.line, alpha=0.10, lw=0, zorder=1)
    axes.plot(times, values, color=theme.line, lw=2.6, solid_capstyle="round", solid_joinstyle="round", zorder=4)
    axes.plot(times[-1], values[-1], "o", color=theme.line, ms=7, zorder=5)
    if spec.threshold is not None:
        above = [value > spec.threshold for value in values]
        axes.fill_between(
            times, values, spec.threshold, where=above, interpolate=True, color=theme.alarm, alpha=0.25, lw=0, zorder=3
        )
        axes.axhline(spec.threshold, color=theme.alarm, lw=1.8, dashes=(5, 3), zorder=3)
        label = f"threshold {format_threshold(spec.series.metric, spec.threshold)}"
        _tag(axes, label, (0.012, spec.threshold), theme)


def _tag(axes: Axes, label: str, at: tuple[float, float], theme: _Theme) -> None:
    """A label on the threshold line, at a share of the width and a value."""
    axes.annotate(
        label,
        at,
        xytext=(0, 6),
        textcoords="offset points",
        xycoords=axes.get_yaxis_transform(),
        color=theme.alarm,
        size=14.5,
        weight="bold",
        bbox={"facecolor": theme.background, "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
        zorder=6,
    )


def _axes(axes: Axes, spec: ChartSpec, theme: _Theme) -> None:
    metric = spec.series.metric
    counted = metric_words(metric).unit is Unit.COUNT
    top = max(*spec.series.values, spec.threshold or 0, _LOWEST_TOP.get(metric_words(metric).unit, 0.01)) * 1.18
    axes.set_ylim(0, top)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=counted, min_n_ticks=2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(metric, value, top)))
    first = min(_x(spec.series.times[0]), _x(spec.alert_start))
    last = max(_x(spec.series.times[-1]), _x(spec.alert_end or spec.alert_start), first + 60)
    axes.set_xlim(first, last + (last - first) * 0.012)
    step = next((step for step in _TICKS if (last - first) / step <= _MOST_TICKS), _TICKS[-1])
    ticks = [tick * step for tick in range(math.ceil(first / step), math.floor(last / step) + 1)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    pattern = "%d %b" if step >= _DAY else "%H:%M"
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: datetime.fromtimestamp(x, UTC).strftime(pattern)))
    axes.tick_params(colors=theme.quiet, labelsize=14, length=0, pad=7)
    axes.grid(axis="y", color=theme.grid, lw=1, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.grid)


def _tick(metric: str, value: float, top: float) -> str:
    """Short enough to stand beside the axis: millions are written as such."""
    for least, size, sign in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if top >= least and metric_words(metric).unit is not Unit.SHARE:
            return f"{value / size:,.3g}{sign if value else ''}"
    return format_threshold(metric, value)


def _nothing_to_show(axes: Axes, theme: _Theme) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "No values were recorded in this time", color=theme.quiet, size=20, ha="center", va="center")


def _x(time: datetime) -> float:
    return time.timestamp()


def _with_gaps(times: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Times and values with a break where values are missing, so that no line bridges them."""
    steps = [later - earlier for earlier, later in pairwise(times)]
    longest = median(steps) * _GAP if steps else 0
    shown_times, shown_values = [times[0]], [values[0]]
    for step, time, value in zip(steps, times[1:], values[1:], strict=True):
        if step > longest:
            shown_times.append(time - step / 2)
            shown_values.append(math.nan)
        shown_times.append(time)
        shown_values.append(value)
    return shown_times, shown_values


def _text(text: Text) -> None:
    """Text from outside: a dollar sign in a name starts no formula."""
    text.set_parse_math(False)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1].rstrip()}…"


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def _drawable(text: str) -> str:
    """Characters that the font has; others are drawn as one mark instead of a warning and an empty box."""
    return "".join(c if ord(c) in _characters() else "�" for c in text)
