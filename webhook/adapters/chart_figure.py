"""The figure of one chart. Not for several threads at once.

1000 by 560 pixels. What has to be read in a chat's thumbnail, 360 pixels wide, is 19 points high or more. Nothing is
told by colour alone: the threshold is dashed, the usual level dotted, and each has its name beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from webhook.adapters.chart_words import extreme_of, subject, window_words
from webhook.domain.evaluation import COMPARISONS
from webhook.domain.limit import is_reached, threshold_words
from webhook.domain.metric import Unit, format_threshold, format_value, metric_words
from webhook.ports import ChartSpec

WIDTH, HEIGHT = 1000, 560
_DPI = 100
_RIGHT, _BOTTOM, _TOP = 0.965, 0.105, 0.72
_SMALL, _MIDDLE, _LARGE = 17, 19, 25  # points
_CHARACTER = 0.62 * _MIDDLE * _DPI / 72  # pixels of one at `_MIDDLE`, more than most take
_MARK = 12  # pixels between the axes and their marks
_ABOVE = 3  # pixels between a line and its label
_LABEL = 36  # pixels that a label beside a line takes, with its distance
_NAME_LENGTH = 30
_LOWEST_TOP = {Unit.SHARE: 0.001, Unit.COUNT: 1.0}  # an axis for zeros alone
_ROOM_ABOVE = 1.2
_CLOSE = {False: 0.3, True: 0.05}  # of the highest value; shares are shown from 0 on, but where that hides all
_MOST_DIGITS = 8
_ROOM_BELOW, _ROOM_BESIDE = 0.25, 0.45  # of what is between lowest and highest
_DAY, _MOST_TICKS = 86400, 5
_TICKS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, _DAY, 2 * _DAY, 7 * _DAY)  # seconds
_GAP = 1.5  # steps without a value that interrupt the line


@dataclass(frozen=True, slots=True)
class _Theme:
    background: str
    ink: str
    quiet: str
    grid: str
    line: str
    alarm: str
    window: str
    usual: str


_THEMES = {
    "light": _Theme("#ffffff", "#16202c", "#515d6b", "#e3e8ee", "#1d5fe0", "#c8281c", "#fdeae7", "#c9d1da"),
    "dark": _Theme("#12181f", "#f2f5f8", "#a5b1be", "#2a343f", "#74adff", "#ff7b6e", "#3b2023", "#3d4956"),
}


def chart_figure(spec: ChartSpec) -> Figure:
    """A figure to be saved; the values of the series have to be finite."""
    theme = _THEMES[spec.theme]
    figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor=theme.background)
    _heading(figure, spec, theme)
    if spec.series.values:
        scale = _Scale.of(spec)
        axes = figure.add_axes((scale.left, _BOTTOM, _RIGHT - scale.left, _TOP - _BOTTOM))
        _axes(axes, scale, theme)
        _window(figure, axes, spec, scale, theme)
        _usual(axes, spec, theme)
        _metric(axes, spec, scale, theme)
        _threshold(axes, spec, theme)
        _labels(axes, spec, scale, theme)
    else:
        words = "No values were recorded in this time"
        figure.text(0.5, 0.4, words, color=theme.quiet, size=_MIDDLE, ha="center", va="center")
    return figure


@dataclass(frozen=True, slots=True)
class _Scale:
    """Times and values that the axes show, their marks, and where the axes begin."""

    first: float
    last: float
    bottom: float
    top: float
    values: Sequence[float]
    words: Sequence[str]
    left: float

    @classmethod
    def of(cls, spec: ChartSpec) -> _Scale:
        metric, unit = spec.series.metric, metric_words(spec.series.metric).unit
        first = min(_x(spec.series.times[0]), _x(spec.alert_start))
        last = max(_x(spec.series.times[-1]), _x(spec.alert_end or spec.alert_start), first + 60)
        bottom, top = _span(spec, unit)
        marks = MaxNLocator(nbins=4, integer=unit is Unit.COUNT, min_n_ticks=2).tick_values(bottom, top)
        values = [float(mark) for mark in marks if bottom <= mark <= top]
        words = _ticks(metric, values, top)
        left = (max(map(len, words)) * _CHARACTER + 34) / WIDTH
        return cls(first, last + (last - first) * 0.012, bottom, top, values, words, left)

    @property
    def pixels(self) -> tuple[float, float]:
        return (_RIGHT - self.left) * WIDTH, (_TOP - _BOTTOM) * HEIGHT

    def across(self, x: float) -> float:
        """Where a time is, as a share of the figure's width."""
        return self.left + (_RIGHT - self.left) * (x - self.first) / (self.last - self.first)

    def up(self, value: float) -> float:
        """Where a value is, in pixels above the axis."""
        return (value - self.bottom) / (self.top - self.bottom) * self.pixels[1]


def _heading(figure: Figure, spec: ChartSpec, theme: _Theme) -> None:
    _text(figure.text(0.03, 0.91, _drawable(_short(spec.merchant)), color=theme.ink, size=_LARGE, weight="bold"))
    _text(figure.text(0.03, 0.84, _drawable(subject(spec)), color=theme.quiet, size=_MIDDLE))
    if spec.series.values:
        name, extreme = extreme_of(spec)
        grave = spec.threshold is not None and is_reached(spec.operator, extreme, spec.threshold)
        number = format_value(spec.series.metric, extreme, digits=1)
        colour = theme.alarm if grave else theme.ink
        figure.text(_RIGHT, 0.9, number, color=colour, size=_LARGE + 3, weight="bold", ha="right")
        figure.text(_RIGHT, 0.84, name, color=theme.quiet, size=_MIDDLE, ha="right")


def _window(figure: Figure, axes: Axes, spec: ChartSpec, scale: _Scale, theme: _Theme) -> None:
    """The time of the alert, shaded, and its name above: within the picture wherever it lies."""
    start = _x(spec.alert_start)
    end = max(_x(spec.alert_end), start) if spec.alert_end else scale.last
    axes.axvspan(start, end, color=theme.window, lw=0, zorder=0)
    axes.axvline(start, color=theme.alarm, lw=2, zorder=2)
    if spec.alert_end:
        axes.axvline(end, color=theme.alarm, lw=2, dashes=(1, 2), zorder=2)
    words = window_words(spec)
    half = len(words) * _CHARACTER / WIDTH / 2
    middle = (scale.across(start) + scale.across(end)) / 2
    at = min(max(middle, 0.03 + half), _RIGHT - half)
    at, side = (_RIGHT, "right") if at >= _RIGHT - half else (at, "center")
    figure.text(at, _TOP + 0.022, words, color=theme.alarm, size=_MIDDLE, weight="bold", ha=side)


def _usual(axes: Axes, spec: ChartSpec, theme: _Theme) -> None:
    if spec.usual is None:
        return
    times = [_x(time) for time in spec.usual.times]
    gap = _longest(spec, times)
    x, low = _with_gaps(times, spec.usual.low, gap)
    _, middle = _with_gaps(times, spec.usual.middle, gap)
    _, high = _with_gaps(times, spec.usual.high, gap)
    axes.fill_between(x, low, high, color=theme.usual, alpha=0.6, lw=0, zorder=1)
    axes.plot(x, middle, color=theme.quiet, lw=2.6, ls=(0, (0.2, 1.8)), dash_capstyle="round", zorder=3)


def _metric(axes: Axes, spec: ChartSpec, scale: _Scale, theme: _Theme) -> None:
    times = [_x(time) for time in spec.series.times]
    x, y = _with_gaps(times, spec.series.values, _longest(spec, times))
    alone = np.isfinite(y) & ~np.isfinite(np.append(y[1:], np.nan)) & ~np.isfinite(np.insert(y[:-1], 0, np.nan))
    if scale.bottom <= 0:  # an area that does not begin at 0 would show an amount that is not there
        axes.fill_between(x, y, 0, color=theme.line, alpha=0.09, lw=0, zorder=1)
    axes.plot(x, y, color=theme.line, lw=3.4, solid_capstyle="round", solid_joinstyle="round", zorder=5)
    axes.plot(x[alone], y[alone], "o", color=theme.line, ms=5, zorder=5)
    axes.plot(x[-1:], y[-1:], "o", color=theme.line, ms=10, zorder=6)
    if spec.threshold is None or spec.operator not in COMPARISONS:
        return
    reached = COMPARISONS[spec.operator](y, spec.threshold) & np.isfinite(y)
    if spec.operator in ("==", "!="):
        axes.plot(x[reached], y[reached], "o", color=theme.alarm, ms=5, zorder=5)
    else:
        axes.fill_between(
            x, y, spec.threshold, where=reached, interpolate=True, color=theme.alarm, alpha=0.25, lw=0, zorder=4
        )


def _threshold(axes: Axes, spec: ChartSpec, theme: _Theme) -> None:
    if spec.threshold is not None:
        axes.axhline(spec.threshold, color=theme.alarm, lw=2.4, dashes=(5, 3), zorder=4)


def _labels(axes: Axes, spec: ChartSpec, scale: _Scale, theme: _Theme) -> None:
    """Names on the lines of threshold and usual level, at the left, one above the other but never over another."""
    taken: list[tuple[float, float]] = []
    if spec.threshold is not None:
        above = scale.up(spec.threshold)
        taken.append((above, above + _LABEL))
        words = threshold_words(spec.series.metric, spec.operator, spec.threshold)
        _tag(axes, words, (0.012, above + _ABOVE), scale, theme, colour=theme.alarm, size=_MIDDLE)
    if spec.usual is not None:
        words = f"usual, {spec.usual.days} days"
        wide = len(words) * _CHARACTER / scale.pixels[0]
        low, high = _extent(spec, scale, wide)
        places = [(0.012, high), (0.012, low - _LABEL), (0.3, _extent(spec, scale, wide, 0.3)[1])]
        free = [place for place in places if place[1] >= 0 and not any(_meet(place[1], part) for part in taken)]
        at, height = free[0] if free else places[-1]
        _tag(axes, words, (at, height + _ABOVE), scale, theme, colour=theme.quiet, size=_SMALL)


def _extent(spec: ChartSpec, scale: _Scale, wide: float, at: float = 0.0) -> tuple[float, float]:
    """Lowest and highest pixel of metric and usual level in a part of the time, both as shares of the width."""
    span = scale.last - scale.first
    first, last = scale.first + at * span, scale.first + (at + wide) * span
    lines: list[tuple[Sequence[datetime], Sequence[float]]] = [(spec.series.times, spec.series.values)]
    if spec.usual is not None:
        lines += [(spec.usual.times, spec.usual.low), (spec.usual.times, spec.usual.high)]
    found = [
        scale.up(value)
        for times, values in lines
        for time, value in zip(times, values, strict=True)
        if first <= _x(time) <= last
    ] or [0.0]
    return min(found), max(found)


def _meet(bottom: float, other: tuple[float, float]) -> bool:
    return bottom < other[1] and other[0] < bottom + _LABEL


def _tag(
    axes: Axes, words: str, at: tuple[float, float], scale: _Scale, theme: _Theme, *, colour: str, size: float
) -> None:
    """A label at a share of the width and so many pixels above the axis."""
    across, height = at
    axes.text(
        across,
        height / scale.pixels[1],
        words,
        transform=axes.transAxes,
        color=colour,
        size=size,
        weight="bold",
        va="bottom",
        bbox={"facecolor": theme.background, "edgecolor": "none", "alpha": 0.72, "pad": 1},
        zorder=7,
    )


def _axes(axes: Axes, scale: _Scale, theme: _Theme) -> None:
    """Lines and marks by hand: the library's own, for axes that move, take a third of all the time."""
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    axes.set_ylim(scale.bottom, scale.top)
    axes.set_xlim(scale.first, scale.last)
    axes.hlines(scale.values, scale.first, scale.last, color=theme.grid, lw=1.2, zorder=0)
    marks: dict[str, Any] = {"color": theme.quiet, "size": _MIDDLE}
    wide, high = scale.pixels
    for value, words in zip(scale.values, scale.words, strict=True):
        axes.text(
            -_MARK / wide, scale.up(value) / high, words, transform=axes.transAxes, ha="right", va="center", **marks
        )
    step = next((step for step in _TICKS if (scale.last - scale.first) / step <= _MOST_TICKS), _TICKS[-1])
    pattern = "%d %b" if step >= _DAY else "%H:%M"
    half = _CHARACTER * len("00:00" if step < _DAY else "00 Mmm") / 2 / WIDTH
    ticks = [n * step for n in range(math.ceil(scale.first / step), math.floor(scale.last / step) + 1)]
    for tick in ticks:
        if scale.left <= scale.across(tick) - half and scale.across(tick) + half < 1:
            across = (tick - scale.first) / (scale.last - scale.first)
            words = f"{datetime.fromtimestamp(tick, UTC):{pattern}}"
            axes.text(across, -_MARK / high, words, transform=axes.transAxes, ha="center", va="top", **marks)


def _span(spec: ChartSpec, unit: Unit) -> tuple[float, float]:
    """From 0 on, unless all that is shown is so close together that its changes could not be seen."""
    usual = spec.usual.middle if spec.usual else ()
    shown = (*spec.series.values, *usual, *(() if spec.threshold is None else (spec.threshold,)))
    low, high = min(shown), max(shown)
    spread = high - low
    if low > 0 and 0 < spread < _CLOSE[unit is Unit.SHARE] * high:
        return max(0.0, low - spread * _ROOM_BELOW), high + spread * _ROOM_BESIDE
    top = max(high, 0.0 if low < 0 else _LOWEST_TOP.get(unit, 0.01))
    return min(low, 0.0) * _ROOM_ABOVE, top * _ROOM_ABOVE


def _ticks(metric: str, values: Sequence[float], top: float) -> list[str]:
    """Short enough to stand beside the axis: millions are written as such, with as many digits as the marks need."""
    sizes = ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))
    size, sign = next(((size, sign) for least, size, sign in sizes if top >= least), (1.0, ""))
    if metric_words(metric).unit is Unit.SHARE or not sign:
        return [format_threshold(metric, value) for value in values]
    digits = next(n for n in range(3, 16) if all(_is_exact(value / size, n) for value in values) or n == _MOST_DIGITS)
    return [f"{value / size:,.{digits}g}{sign if value else ''}" for value in values]


def _is_exact(value: float, digits: int) -> bool:
    return math.isclose(float(f"{value:.{digits}g}"), value, rel_tol=1e-9)


def _x(time: datetime) -> float:
    return time.timestamp()


def _longest(spec: ChartSpec, times: Sequence[float]) -> float:
    """Seconds between two values that still belong together."""
    if spec.step is not None:
        return spec.step.total_seconds() * _GAP
    return float(np.median(np.diff(times))) * _GAP if len(times) > 1 else 0.0


def _with_gaps(
    times: Sequence[float], values: Sequence[float], longest: float
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Times and values with a break where values are missing, so that no line bridges them."""
    x, y = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
    after = np.flatnonzero(np.diff(x) > longest) + 1
    return np.insert(x, after, (x[after - 1] + x[after]) / 2), np.insert(y, after, np.nan)


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
