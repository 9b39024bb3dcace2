"""What stands on a chart in words, and what is read to those who do not see it."""

from __future__ import annotations

from datetime import UTC, datetime

from webhook.domain.limit import falls, threshold_words
from webhook.domain.message import one_line
from webhook.domain.metric import (
    Unit,
    format_duration,
    format_time,
    format_value,
    metric_words,
)
from webhook.ports import ChartSpec

_UNITS = {Unit.SHARE: "%", Unit.COUNT: "number", Unit.PER_SECOND: "per second"}
_LABEL_LENGTH = 26


def subject(spec: ChartSpec) -> str:
    """`Block rate (%), 21 Nov 2025, UTC`."""
    words = metric_words(spec.series.metric)
    unit = f" ({_UNITS[words.unit]})" if words.unit in _UNITS else ""
    return f"{one_line(words.label, _LABEL_LENGTH)}{unit}, {spec.alert_start.astimezone(UTC):%d %b %Y}, UTC"


def window_words(spec: ChartSpec) -> str:
    """`alert 10:30 to 10:42 (12 min)`, or how long it has gone on."""
    start = _clock(spec.alert_start, spec.alert_start)
    lasted = format_duration((spec.alert_end or spec.now) - spec.alert_start)
    if spec.alert_end is None:
        return f"alert since {start}, {lasted} so far"
    return f"alert {start} to {_clock(spec.alert_end, spec.alert_start)} ({lasted})"


def _clock(time: datetime, beside: datetime) -> str:
    time, beside = time.astimezone(UTC), beside.astimezone(UTC)
    return f"{time:%H:%M}" if time.date() == beside.date() else f"{time:%d %b %H:%M}"


def title(spec: ChartSpec) -> str:
    return f"{metric_words(spec.series.metric).label}: {spec.merchant}"


def extreme_of(spec: ChartSpec) -> tuple[str, float]:
    """The value that tells most, and what it is: `highest`, of a metric that must not fall `lowest`."""
    values = spec.series.values
    if spec.operator in ("==", "!="):
        return "last", values[-1]
    return ("lowest", min(values)) if falls(spec.operator) else ("highest", max(values))


def threshold_told(spec: ChartSpec) -> str:
    words = threshold_words(spec.series.metric, spec.operator, spec.threshold or 0.0)
    return words.replace("threshold ", "Threshold: ") if words.startswith("threshold") else words.capitalize()


def description(spec: ChartSpec) -> str:
    """All that the drawing shows, in sentences."""
    metric, values = spec.series.metric, spec.series.values
    if not values:
        return "No values were recorded in this time."
    name, extreme = extreme_of(spec)
    shown = f"From {format_time(spec.series.times[0])} to {format_time(spec.series.times[-1])}"
    told = [f"{shown}: {name} {format_value(metric, extreme)}, last {format_value(metric, values[-1])}."]
    if spec.threshold is not None:
        told.append(f"{threshold_told(spec)}.")
    ended = f"ended {format_time(spec.alert_end)}" if spec.alert_end else "goes on"
    told.append(f"The alert began {format_time(spec.alert_start)} and {ended}.")
    if spec.usual is not None:
        lowest, highest = min(spec.usual.middle), max(spec.usual.middle)
        told.append(
            f"Usual at these hours, by the {spec.usual.days} days before: "
            f"{format_value(metric, lowest)} to {format_value(metric, highest)}."
        )
    return " ".join(told)
