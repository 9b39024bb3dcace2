"""Charts drawn with matplotlib's object interface: no pyplot, no window system, one drawing at a time."""

from __future__ import annotations

import io
import math
import threading
from dataclasses import replace

from webhook.ports import ChartSpec, Series


class MatplotlibCharts:
    """Draws any number of charts from any thread, one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def render(self, spec: ChartSpec) -> bytes:
        """A PNG of about 1000 by 500 pixels or the same as SVG."""
        output = io.BytesIO()
        with self._lock:
            from webhook.adapters.chart_figure import chart_figure  # noqa: PLC0415 - matplotlib takes seconds to load

            figure = chart_figure(_finite(spec))
            # Without a date the same chart is the same file.
            metadata = {"Date": None} if spec.format == "svg" else {}
            figure.savefig(output, format=spec.format, metadata=metadata)
        return output.getvalue()


def _finite(spec: ChartSpec) -> ChartSpec:
    """Without NaN and infinities, which Prometheus knows and paper does not."""
    kept = [(t, v) for t, v in zip(spec.series.times, spec.series.values, strict=True) if math.isfinite(v)]
    series = Series(spec.series.metric, [time for time, _ in kept], [value for _, value in kept])
    return replace(spec, series=series)
