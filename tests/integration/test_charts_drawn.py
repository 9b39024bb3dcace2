"""Charts as images: real PNG and SVG, from any thread, whatever the data or the name."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from notes import NOW

from webhook.adapters.charts import MatplotlibCharts
from webhook.ports import ChartSpec, Series


def series(count: int = 240, metric: str = "block_rate") -> Series:
    times = [NOW - timedelta(seconds=15 * n) for n in reversed(range(count))]
    return Series(metric, times, [0.03 if n < count * 0.8 else 0.41 for n in range(count)])


def spec(**changes: Any) -> ChartSpec:
    values: dict[str, Any] = {
        "series": series(),
        "threshold": 0.2,
        "merchant": "Northwind Books",
        "alert_start": NOW - timedelta(minutes=12),
        "alert_end": None,
        "now": NOW,
    }
    return ChartSpec(**{**values, **changes})


@pytest.fixture(scope="module")
def charts() -> MatplotlibCharts:
    return MatplotlibCharts()


def size(png: bytes) -> tuple[int, ...]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB\x60\x82")
    return struct.unpack(">II", png[16:24])


def pixels(png: bytes, tmp_path: Any) -> Any:
    path = tmp_path / "chart.png"
    path.write_bytes(png)
    return imread(path)


def test_a_png_of_the_promised_size(charts: MatplotlibCharts) -> None:
    assert size(charts.render(spec())) == (1000, 500)


def test_an_svg_names_merchant_and_threshold(charts: MatplotlibCharts) -> None:
    svg = charts.render(spec(format="svg")).decode()
    assert ET.fromstring(svg).tag.endswith("svg")
    for words in ("Northwind Books", "threshold 20 %", "Block rate"):
        assert f"<!-- {words}" in svg


def test_light_and_dark_differ_where_the_page_shines_through(charts: MatplotlibCharts, tmp_path: Any) -> None:
    light = pixels(charts.render(spec()), tmp_path)[2, 2, :3]
    dark = pixels(charts.render(spec(theme="dark")), tmp_path)[2, 2, :3]
    assert light.min() > 0.95
    assert dark.max() < 0.15


def test_the_attack_is_shaded_and_the_time_before_is_not(charts: MatplotlibCharts, tmp_path: Any) -> None:
    image = pixels(charts.render(spec()), tmp_path)
    row = image[130, :, :3]  # above all values
    assert np.allclose(row[300], 1.0), "before the attack: paper"
    assert row[930][0] > row[930][1] + 0.03, "during the attack: reddish"


@pytest.mark.parametrize(
    "changes",
    [
        {"series": Series("block_rate", [], [])},
        {"series": Series("block_rate", [NOW], [0.0])},
        {"series": series(3), "threshold": None},
        {"series": series(240, "transaction_count"), "threshold": 5000.0},
        {"alert_end": NOW - timedelta(minutes=5)},
        {"alert_start": NOW + timedelta(minutes=1)},
        {"alert_start": NOW - timedelta(days=9)},
        {"merchant": "Café $1 & <b> 東京 🛍 \\frac{1}{2} $x$"},
        {"merchant": "a very long name " * 20},
        {"merchant": ""},
        {"series": Series("block_rate", [NOW - timedelta(minutes=1), NOW], [float("nan"), float("inf")])},
        {"series": Series("block_rate", [NOW - timedelta(minutes=1), NOW], [0.2, float("nan")])},
        {"series": Series("odd_metric", [NOW - timedelta(days=3), NOW], [1e-7, 1e9])},
    ],
)
@pytest.mark.parametrize("image_format", ["png", "svg"])
def test_any_data_gives_a_drawing(charts: MatplotlibCharts, changes: dict[str, Any], image_format: str) -> None:
    image = charts.render(spec(**changes, format=image_format))
    if image_format == "png":
        assert size(image) == (1000, 500)
    else:
        ET.fromstring(image)


def test_an_empty_series_says_so(charts: MatplotlibCharts) -> None:
    svg = charts.render(spec(series=Series("block_rate", [], []), format="svg")).decode()
    assert "No values were recorded in this time" in svg


def test_the_same_chart_is_the_same_file_from_any_thread(charts: MatplotlibCharts) -> None:
    with ThreadPoolExecutor(4) as pool:
        images = set(pool.map(lambda _: charts.render(spec()), range(8)))
    assert len(images) == 1
