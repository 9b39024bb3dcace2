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
from webhook.domain.usual import Usual, usual
from webhook.ports import ChartSpec, Series

SVG = "{http://www.w3.org/2000/svg}"


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
    charts = MatplotlibCharts()
    charts.warm_up()
    return charts


def size(png: bytes) -> tuple[int, ...]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB\x60\x82")
    return struct.unpack(">II", png[16:24])


def pixels(png: bytes, tmp_path: Any) -> Any:
    path = tmp_path / "chart.png"
    path.write_bytes(png)
    return imread(path)


def test_a_png_of_the_promised_size(charts: MatplotlibCharts) -> None:
    assert size(charts.render(spec())) == (1000, 560)


def usual_level(days: int = 7) -> Usual | None:
    past = {day: [(time, 0.02 + day / 1000) for time in series().times] for day in range(1, days + 1)}
    return usual(past, NOW - timedelta(minutes=12))


def words_of(svg: bytes) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def test_an_svg_says_in_words_what_it_shows(charts: MatplotlibCharts) -> None:
    svg = charts.render(spec(format="svg", usual=usual_level(), merchant="<b>Söhne & Co</b>"))
    root = ET.fromstring(svg)

    assert {
        "<b>Söhne & Co</b>",
        "Block rate (%), 21 Nov 2025, UTC",
        "threshold 20 %",
        "usual, 7 days",
        "41.0 %",
        "alert since 10:30, 12 min so far",
    } <= set(words_of(svg))
    title, description = root[0], root[1]
    assert (title.tag, description.tag) == (f"{SVG}title", f"{SVG}desc")
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert title.text == "Block rate: <b>Söhne & Co</b>"
    for told in ("highest 41.00 %", "Threshold: 20 %", "goes on", "by the 7 days before: 2.40 %"):
        assert told in (description.text or "")


def test_an_svg_is_as_large_as_the_page_wants_it(charts: MatplotlibCharts) -> None:
    root = ET.fromstring(charts.render(spec(format="svg")))
    assert root.get("viewBox")
    assert root.get("width") is None
    assert root.get("height") is None


def test_an_alert_that_ended_says_when(charts: MatplotlibCharts) -> None:
    words = words_of(charts.render(spec(format="svg", alert_end=NOW - timedelta(minutes=5))))
    assert "alert 10:30 to 10:37 (7 min)" in words


def test_without_enough_days_there_is_no_usual_level(charts: MatplotlibCharts) -> None:
    assert usual_level(2) is None
    assert not [word for word in words_of(charts.render(spec(format="svg"))) if "usual" in word]


def test_what_is_missing_stays_missing(charts: MatplotlibCharts, tmp_path: Any) -> None:
    """A quarter of the time before the attack is left out: nothing is drawn there."""
    whole = series()
    kept = [(t, v) for n, (t, v) in enumerate(zip(whole.times, whole.values, strict=True)) if not 60 <= n < 120]
    gap = Series("block_rate", [time for time, _ in kept], [0.3 for _ in kept])
    image = pixels(charts.render(spec(series=gap, step=timedelta(seconds=15), threshold=None)), tmp_path)
    blue = (image[:, :, 2] > image[:, :, 0] + 0.3).any(axis=0)
    assert blue[180]
    assert not blue[330:480].any()
    assert blue[600]


def test_light_and_dark_differ_where_the_page_shines_through(charts: MatplotlibCharts, tmp_path: Any) -> None:
    light = pixels(charts.render(spec()), tmp_path)[2, 2, :3]
    dark = pixels(charts.render(spec(theme="dark")), tmp_path)[2, 2, :3]
    assert light.min() > 0.95
    assert dark.max() < 0.15


def test_the_attack_is_shaded_and_the_time_before_is_not(charts: MatplotlibCharts, tmp_path: Any) -> None:
    image = pixels(charts.render(spec()), tmp_path)
    row = image[170, :, :3]  # above all values
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
        {"usual": usual({day: [(NOW, 0.1)] for day in range(1, 8)}, NOW + timedelta(1)), "threshold": 0.1},
        {"usual": usual({day: [(NOW, 1e6)] for day in range(1, 8)}, NOW + timedelta(1))},
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
        assert size(image) == (1000, 560)
    else:
        ET.fromstring(image)


def test_an_empty_series_says_so(charts: MatplotlibCharts) -> None:
    svg = charts.render(spec(series=Series("block_rate", [], []), format="svg"))
    assert "No values were recorded in this time" in words_of(svg)


def test_the_same_chart_is_the_same_file_from_any_thread(charts: MatplotlibCharts) -> None:
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda n: charts.render(spec(format=("png", "svg")[n % 2])), range(8)))
    assert len(set(images[::2])) == len(set(images[1::2])) == 1


def around(normal: float, attack: float, metric: str = "transaction_count") -> Series:
    times = series().times
    return Series(metric, times, [normal if time < NOW - timedelta(minutes=12) else attack for time in times])


def test_a_metric_that_must_not_fall_is_told_and_shaded_below_its_threshold(
    charts: MatplotlibCharts, tmp_path: Any
) -> None:
    falling: dict[str, Any] = {"series": around(1000, 50), "threshold": 300.0, "operator": "<"}
    svg = charts.render(spec(**falling, format="svg"))
    assert {"50", "lowest", "alert below 300"} <= set(words_of(svg))
    told = ET.fromstring(svg)[1].text or ""
    assert "lowest 50, last 50." in told
    assert "Alert below 300." in told

    shaded = pixels(charts.render(spec(**falling)), tmp_path)
    plain = pixels(charts.render(spec(**falling | {"operator": ">"})), tmp_path)
    differs = np.abs(shaded[160:500] - plain[160:500]).max(axis=2) > 0.02
    assert differs[:, 880:955].any(), "during the attack, below the threshold"
    assert differs[:, 200:600].any(), "before it nothing is alarming: above is what is wanted"
    before, during = shaded[300, 400, :3], shaded[460, 920, :3]
    assert before[2] > before[0], "the line's own blue"
    assert during[0] > during[2] + 0.15, "the alarm's red"


@pytest.mark.parametrize(
    ("shown", "threshold", "from_zero"),
    [
        (around(10_000, 9_850), 9_900.0, False),
        (around(9_800, 10_050), 9_900.0, False),
        (around(1_000, 50), 300.0, True),
        (around(0.04, 0.41, "block_rate"), 0.2, True),
        (around(0.5, 0.6, "approval_rate"), 0.55, True),
        (around(0.96, 0.93, "approval_rate"), 0.94, False),
        (around(-5, 3, "odd_balance"), 0.0, True),
    ],
)
def test_the_axis_begins_at_0_unless_that_hides_everything(
    charts: MatplotlibCharts, shown: Series, threshold: float, from_zero: bool
) -> None:
    words = words_of(charts.render(spec(series=shown, threshold=threshold, format="svg")))
    assert bool({"0", "0 %"} & set(words)) == from_zero


def test_marks_of_a_close_axis_say_exactly_where_they_are(charts: MatplotlibCharts) -> None:
    words = words_of(charts.render(spec(series=around(9_800, 10_050), threshold=9_900.0, format="svg")))
    marks = sorted(float(word[:-1]) for word in words if word.endswith("k"))
    assert len(marks) > 2
    assert np.ptp(np.diff(marks)) < 1e-9, "evenly apart"


def test_a_line_just_above_its_threshold_stands_apart_from_it(charts: MatplotlibCharts, tmp_path: Any) -> None:
    """10,000 and 9,900 are a hundredth of the axis apart where it begins at 0."""
    image = pixels(charts.render(spec(series=around(10_000, 9_850), threshold=9_900.0, operator="<")), tmp_path)
    column = image[160:500, 500, :3]
    blue, red = (np.flatnonzero(column[:, one] > column[:, other] + 0.3) for one, other in ((2, 0), (0, 2)))
    assert red.mean() - blue.mean() > 50


@pytest.mark.parametrize(
    ("operator", "words"),
    [("==", "alert at 0"), ("!=", "alert if not 0"), ("<=", "alert at 0 or less"), (">=", "threshold 0")],
)
def test_each_operator_has_its_words(charts: MatplotlibCharts, operator: str, words: str) -> None:
    gates = around(2, 0, "open_gates")
    assert words in words_of(charts.render(spec(series=gates, threshold=0.0, operator=operator, format="svg")))
    charts.render(spec(series=gates, threshold=None, operator="not_in"))
