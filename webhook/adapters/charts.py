"""Charts drawn with matplotlib's object interface: no pyplot, no window system, one drawing at a time."""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape
from time import monotonic
from typing import Any, ClassVar

import structlog

from webhook.adapters.chart_words import description, title
from webhook.ports import ChartSpec, Series

_SVG_SETTINGS: Mapping[Any, str] = {
    "svg.fonttype": "none",  # words stay words: they can be found, read aloud and enlarged
    "svg.hashsalt": "sentinel",  # the same chart is the same file
}
_PNG_EFFORT = 3  # of 9: 6 takes 30 ms longer and saves a tenth of the size
_ROOT = re.compile(r'<svg [^>]*viewBox="([^"]*)"[^>]*>\s*(?:<metadata>.*?</metadata>)?', re.DOTALL)


log = structlog.get_logger(__name__)


class MatplotlibCharts:
    """Draws any number of charts from any thread, one after the other."""

    _lock: ClassVar = threading.Lock()  # of the process, as matplotlib's settings and fonts are

    def render(self, spec: ChartSpec) -> bytes:
        """A PNG of 1000 by 560 pixels, or the same as SVG without a size of its own."""
        spec = _finite(spec)
        output = io.BytesIO()
        with self._lock:
            from matplotlib import rc_context  # noqa: PLC0415 - matplotlib takes seconds to load

            from webhook.adapters.chart_figure import chart_figure  # noqa: PLC0415 - as above

            if spec.format == "png":
                chart_figure(spec).savefig(output, format="png", pil_kwargs={"compress_level": _PNG_EFFORT})
                return output.getvalue()
            with rc_context(dict(_SVG_SETTINGS)):
                chart_figure(spec).savefig(output, format="svg", metadata={"Date": None})
        return _accessible(output.getvalue().decode(), spec).encode()

    def warm_up(self) -> None:
        """Load the library and its fonts, so that the first chart takes no longer than the others."""
        end = datetime(2026, 1, 1, tzinfo=UTC)
        series = Series("block_rate", [end - timedelta(hours=1), end], [0.1, 0.2])
        self.render(ChartSpec(series, 0.1, "Sentinel", end - timedelta(minutes=30), None, end))


def begin_warm_up() -> None:
    """Warm up in a thread of its own; charts that are asked for meanwhile wait for it and are drawn then.

    Not a daemon: the interpreter must not end while it is inside the library, which would abort the process.
    """

    def warm_up() -> None:
        began = monotonic()
        MatplotlibCharts().warm_up()
        log.info("charts_ready", seconds=round(monotonic() - began, 1))

    threading.Thread(target=warm_up, name="warm-up").start()


def _accessible(svg: str, spec: ChartSpec) -> str:
    """With a title and a description, and as large as the page wants it."""
    svg = svg[svg.index("<svg") :]
    return _ROOT.sub(
        lambda found: (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1" '
            f'viewBox="{found[1]}" role="img" aria-labelledby="chart-title chart-description">'
            f'<title id="chart-title">{escape(title(spec))}</title>'
            f'<desc id="chart-description">{escape(description(spec))}</desc>'
        ),
        svg,
        count=1,
    )


def _finite(spec: ChartSpec) -> ChartSpec:
    """Without NaN and infinities, which Prometheus knows and paper does not."""
    kept = [(t, v) for t, v in zip(spec.series.times, spec.series.values, strict=True) if math.isfinite(v)]
    series = Series(spec.series.metric, [time for time, _ in kept], [value for _, value in kept])
    return replace(spec, series=series)
