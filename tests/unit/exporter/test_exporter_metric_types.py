"""Each metric type, from rows to lines, and what its configuration must say."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.errors import BudgetExceeded, DuplicateSeries
from exporter.mapping.labels import LONGEST
from exporter.mapping.render import Rendered, render
from exporter.mapping.spec import MetricConfig, SeriesSpec

LATENCY: dict[str, Any] = {
    "prometheus_name": "pay_seconds",
    "type": "histogram",
    "buckets": {"fast": 0.1, "slow": 1},
    "sum": "total",
    "count": "n",
    "labels": ["shop"],
}
STATE: dict[str, Any] = {
    "prometheus_name": "shop_state",
    "type": "stateset",
    "source_field": "state",
    "states": ["open", "closed"],
    "labels": ["shop"],
}


def rendered(rows: list[dict[str, Any]] | pl.DataFrame, *metrics: dict[str, Any], **policies: Any) -> Rendered:
    configs = tuple(MetricConfig(**{"prometheus_name": "shop_value", **metric}) for metric in metrics)
    return render(pl.DataFrame(rows), SeriesSpec(configs, **policies))


def lines(rows: list[dict[str, Any]] | pl.DataFrame, *metrics: dict[str, Any], **policies: Any) -> list[str]:
    return b"".join(family.text for family in rendered(rows, *metrics, **policies).families).decode().splitlines()


def told(result: Rendered) -> list[tuple[str, int, str]]:
    return [(warning.reason, warning.count, warning.detail) for warning in result.warnings]


COUNTER = {"prometheus_name": "pay_total", "type": "counter", "source_field": "n", "labels": ["shop"]}


def test_a_counter_is_the_running_total_and_a_reset_passes_through() -> None:
    assert lines([{"shop": "a", "n": 10}, {"shop": "b", "n": "7"}], COUNTER) == [
        'pay_total{shop="a"} 10', 'pay_total{shop="b"} 7',
    ]  # fmt: skip
    assert lines([{"shop": "a", "n": 0}], COUNTER) == ['pay_total{shop="a"} 0']


def test_what_no_counter_can_be_is_left_out_and_told() -> None:
    result = rendered([{"shop": "a", "n": -1.0}, {"shop": "b", "n": float("nan")}, {"shop": "c", "n": 2.0}], COUNTER)
    assert result.families[0].text == b'pay_total{shop="c"} 2.0\n'
    assert told(result) == [("bad_counter", 2, "field n: -1.0 is no running total; a counter is 0 or more")]


def test_a_histogram_has_cumulative_buckets_up_to_infinity_then_sum_and_count() -> None:
    wanted = [
        'pay_seconds_bucket{shop="a",le="0.1"} 2',
        'pay_seconds_bucket{shop="a",le="1.0"} 5',
        'pay_seconds_bucket{shop="a",le="+Inf"} 6',
        'pay_seconds_sum{shop="a"} 3.5',
        'pay_seconds_count{shop="a"} 6',
    ]
    cumulative = {"shop": "a", "fast": 2, "slow": 5, "n": 6, "total": 3.5}
    assert lines([cumulative], LATENCY) == wanted
    assert lines([cumulative | {"slow": 3}], LATENCY | {"cumulative": False}) == wanted
    with_infinity = LATENCY | {"buckets": {"fast": 0.1, "slow": 1, "more": "+Inf"}}
    assert lines([cumulative | {"more": 6}], with_infinity) == wanted
    del with_infinity["count"]
    assert lines([cumulative | {"slow": 3, "more": 1}], with_infinity | {"cumulative": False}) == wanted
    milliseconds = LATENCY | {"parse": "duration", "unit": "ms"}
    assert lines([cumulative | {"total": 3500}], milliseconds) == wanted


def test_a_histogram_without_labels_and_without_sum_is_its_buckets() -> None:
    bare = {"prometheus_name": "pay_seconds", "type": "histogram", "buckets": {"big": 1e6, "all": "+Inf"}}
    assert lines([{"big": 1, "all": 2}], bare) == [
        'pay_seconds_bucket{le="1e+06"} 1', 'pay_seconds_bucket{le="+Inf"} 2',
    ]  # fmt: skip
    assert lines([{"big": 1, "all": 2}], bare, labels={"env": "p"})[0] == 'pay_seconds_bucket{env="p",le="1e+06"} 1'


GOOD = {"shop": "good", "fast": 1, "slow": 2, "n": 2, "total": 1.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fast": 3}, "slow is less than fast"),
        ({"n": 1}, "n is less than slow"),
        ({"fast": -1}, "fast is no count"),
        ({"fast": 0.5}, "fast is no count"),
        ({"slow": float("inf"), "n": float("inf")}, "slow is no count"),
        ({"total": -0.5}, "total is less than 0 or no number"),
        ({"total": float("nan")}, "total is less than 0 or no number"),
        ({"slow": None}, "some of its columns are null"),
    ],
)
def test_a_row_that_is_no_histogram_is_left_out_counted_and_named(change: dict[str, Any], reason: str) -> None:
    frame = pl.DataFrame([GOOD, GOOD | {"shop": "bad"} | change], strict=False, infer_schema_length=None)
    result = rendered(frame, LATENCY)
    assert b"bad" not in result.families[0].text
    assert result.series == 5
    assert told(result) == [("bad_histogram", 1, f'pay_seconds: no histogram, such as {{shop="bad"}}: {reason}')]


def test_a_count_that_disagrees_with_the_last_bucket_is_no_histogram() -> None:
    with_infinity = LATENCY | {"buckets": {"fast": 0.1, "slow": "+Inf"}}
    result = rendered([GOOD | {"n": 3}], with_infinity)
    assert result.series == 0
    assert told(result)[0][2].endswith(": n is not the count of all buckets")


def test_a_histogram_of_nulls_follows_the_null_policy() -> None:
    empty = GOOD | {"shop": "empty", "fast": None, "slow": None, "n": None, "total": None}
    assert told(rendered([GOOD, empty], LATENCY)) == []
    assert rendered([GOOD, empty], LATENCY).series == 5
    assert 'pay_seconds_count{shop="empty"} 0' in lines([GOOD, empty], LATENCY | {"null": "zero"})


def test_a_histogram_with_a_value_that_is_no_number_is_left_out_once() -> None:
    frame = pl.DataFrame([GOOD | {"fast": "1"}, GOOD | {"shop": "bad", "fast": "?"}])
    result = rendered(frame, LATENCY)
    assert (result.series, told(result)) == (5, [("not_a_number", 1, "field fast: '?' is no number")])


@given(st.lists(st.lists(st.integers(0, 2**62), min_size=3, max_size=3), min_size=1, max_size=5))
def test_per_bucket_counts_are_summed_up_without_overflow(rows: list[list[int]]) -> None:
    names = ["b0", "b1", "b2"]
    metric = LATENCY | {"buckets": dict(zip(names, [0.1, 1, "+Inf"], strict=True)), "cumulative": False}
    metric = {key: value for key, value in metric.items() if key not in ("sum", "count")}
    frame = [{"shop": str(i), **dict(zip(names, row, strict=True))} for i, row in enumerate(rows)]
    found = [int(line.rsplit(" ", 1)[1]) for line in lines(frame, metric)]
    assert found == [total for row in rows for total in itertools.accumulate(row)]


def test_histograms_of_the_same_labels_are_added_up() -> None:
    assert lines([GOOD, GOOD], LATENCY, duplicates="sum") == [
        'pay_seconds_bucket{shop="good",le="0.1"} 2', 'pay_seconds_bucket{shop="good",le="1.0"} 4',
        'pay_seconds_bucket{shop="good",le="+Inf"} 4', 'pay_seconds_sum{shop="good"} 2.0',
        'pay_seconds_count{shop="good"} 4',
    ]  # fmt: skip


def test_an_info_is_its_labels_and_alike_rows_are_one() -> None:
    info = {"prometheus_name": "shop_info", "type": "info", "labels": ["shop", "plan"]}
    rows = [{"shop": "a", "plan": "pro"}, {"shop": "b", "plan": None}, {"shop": "a", "plan": "pro"}]
    for policy in ("error", "sum"):
        result = rendered(rows, info, duplicates=policy)
        assert result.families[0].text == b'shop_info{shop="a",plan="pro"} 1\nshop_info{shop="b",plan=""} 1\n'
        assert result.warnings == ()


def test_a_state_set_has_a_sample_for_each_state() -> None:
    rows = [{"shop": "a", "state": "open"}, {"shop": "b", "state": "on fire"}, {"shop": "c", "state": None}]
    result = rendered(rows, STATE)
    assert result.families[0].text.decode().splitlines() == [
        'shop_state{shop="a",shop_state="open"} 1', 'shop_state{shop="a",shop_state="closed"} 0',
        'shop_state{shop="b",shop_state="open"} 0', 'shop_state{shop="b",shop_state="closed"} 0',
    ]  # fmt: skip
    assert told(result) == [("unknown_state", 1, "field state: 'on fire' is none of `states`")]
    assert rendered(rows, STATE | {"null": "zero"}).series == 6


def test_states_of_rows_with_the_same_labels() -> None:
    rows = [{"shop": "a", "state": "open"}, {"shop": "a", "state": "closed"}]
    with pytest.raises(DuplicateSeries, match=r'such as shop_state\{shop="a"\}'):
        rendered(rows, STATE)
    for policy, wanted in {"first": "10", "last": "01", "max": "11", "sum": "11"}.items():
        assert "".join(line[-1] for line in lines(rows, STATE, duplicates=policy)) == wanted


ROWS = [GOOD | {"shop": str(i), "value": i} for i in range(4)]
VALUE = {"source_field": "value", "labels": ["shop"]}


def test_more_series_than_allowed_are_cut_in_whole_rows_and_told() -> None:
    result = rendered(ROWS, VALUE, LATENCY, max_series=14, over_budget="truncate")
    assert [family.series for family in result.families] == [2, 10]
    detail = "12 of 24 series are left out (max_series 14): only the first rows are served"
    assert told(result) == [("series_truncated", 12, detail)]
    assert rendered(ROWS, VALUE, LATENCY, max_series=24, over_budget="truncate").warnings == ()
    assert rendered(ROWS, VALUE, LATENCY, max_series=5, over_budget="truncate").series == 0
    with pytest.raises(BudgetExceeded, match=r"24 series are more than max_series \(23\)"):
        rendered(ROWS, VALUE, LATENCY, max_series=23)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 9), st.none() | st.integers(0, 9))),
    st.integers(1, 12),
    st.sampled_from(["first", "last", "sum"]),
)
def test_a_cut_serves_a_beginning_of_what_would_be_served(
    rows: list[tuple[str, int | None, int | None]], most: int, policy: str
) -> None:
    schema = {"shop": pl.String, "x": pl.Int64, "y": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    metrics = [{"prometheus_name": f"shop_{name}", "source_field": name, "labels": ["shop"]} for name in "xy"]
    whole = rendered(frame, *metrics, duplicates=policy)
    part = rendered(frame, *metrics, duplicates=policy, max_series=most, over_budget="truncate")
    assert part.series <= most
    assert (part.series == whole.series) == (whole.series <= most)
    for cut, full in zip(part.families, whole.families, strict=True):
        assert full.text.startswith(cut.text)
    if whole.series > most:
        assert part.series > most - len(metrics), "no more rows are cut than must be"


def test_labels_of_any_column_type_are_stable_text() -> None:
    frame = pl.DataFrame(
        {
            "float": [17.0, None, 0.5, 1e300, float("nan"), float("-inf"), 2.0**60],
            "date": [date(2026, 1, 2)] * 7,
            "naive": pl.Series([datetime(2026, 1, 2, 3, 4, 5, 120000, UTC)] * 7).dt.replace_time_zone(None),
            "zoned": pl.Series([datetime(2026, 1, 2, 3, tzinfo=UTC)] * 7).dt.convert_time_zone("Asia/Kathmandu"),
            "bool": [True] * 7,
            "decimal": pl.Series([Decimal("1.50"), Decimal("100.00"), Decimal("0.05")] + [Decimal(7)] * 4),
            "bytes": [b"ok", b"\xff", None, b"", b"a\0", "é".encode(), b"x"],
            "value": range(7),
        }
    )
    for name, wanted in {
        "float": ["17", "", "0.5", "1e+300", "NaN", "-Inf", "1.152921504606847e+18"],
        "date": ["2026-01-02"] * 7,
        "naive": ["2026-01-02T03:04:05.120"] * 7,
        "zoned": ["2026-01-02T03:00:00Z"] * 7,
        "bool": ["true"] * 7,
        "decimal": ["1.5", "100", "0.05", "7", "7", "7", "7"],
        "bytes": ["ok", "\ufffd", "", "", "a\ufffd", "é", "x"],
    }.items():
        result = rendered(frame, {"source_field": "value", "labels": {"x": name}}, duplicates="last")
        found = dict.fromkeys(line.split('"')[1] for line in result.families[0].text.decode().splitlines())
        assert set(found) == set(wanted), name
        cleaned = [warning.count for warning in result.warnings if warning.reason == "label_cleaned"]
        assert cleaned == ([2] if name == "bytes" else [])


def test_a_long_label_value_is_cut_and_two_of_them_stay_two() -> None:
    rows = [{"shop": "é" * LONGEST, "value": 1}, {"shop": "é" * LONGEST + "a", "value": 2}]
    rows += [{"shop": "é" * LONGEST + "b", "value": 3}]
    result = rendered(rows, VALUE)
    first, *others = [line.split('"')[1] for line in result.families[0].text.decode().splitlines()]
    assert first == "é" * LONGEST
    assert len(set(others)) == 2
    assert all(len(value) == LONGEST and value.startswith("é" * 900) for value in others)
    assert told(result) == [("label_shortened", 2, f"label shop: a value of more than {LONGEST} characters is cut")]


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ({}, "source_field is missing: a metric of type gauge"),
        ({"source_field": "a", "type": "counter"}, "must end in _total: shop_value_total"),
        ({"source_field": "a", "type": "counter", "prometheus_name": "_total"}, "must end in _total"),
        ({"type": "info", "labels": ["a"]}, "must end in _info: shop_value_info"),
        ({"type": "info", "prometheus_name": "shop_info"}, "labels is missing"),
        ({"type": "info", "prometheus_name": "shop_info", "labels": ["a"], "source_field": "b"},
         "source_field has no meaning for type info: remove it, or set type: gauge or counter or stateset"),
        ({"type": "info", "prometheus_name": "up_info", "labels": ["a"]}, "would also be up, which is reserved"),
        ({"type": "histogram"}, "buckets is missing"),
        ({"type": "histogram", "buckets": {"a": 1}}, "count is missing"),
        ({"type": "histogram", "buckets": {"a": 1, "b": 1.0}, "count": "n"}, "no two to the same"),
        ({"type": "histogram", "buckets": {"a": "nan"}, "count": "n"}, "upper bound"),
        ({"type": "histogram", "buckets": {"a": -1}, "count": "n", "sum": "s"}, "a bucket below 0"),
        ({"type": "histogram", "buckets": {"a": 1}, "count": "n", "parse": "bytes"}, "about the sum"),
        ({"type": "histogram", "buckets": {"a": 1}, "count": "n", "labels": ["le"]}, "label le is the histogram's own"),
        ({"type": "histogram", "buckets": {"a": 1}, "count": "n", "prometheus_name": "sentinel_source"}, "reserved"),
        ({"type": "histogram", "buckets": {"a": 1}, "count": "n", "null": "nan"}, "null: nan is for gauges only"),
        ({"type": "stateset", "source_field": "a"}, "states is missing"),
        ({"type": "stateset", "source_field": "a", "states": ["x", "x"]}, "states names one twice"),
        ({"type": "stateset", "source_field": "a", "states": ["x"], "labels": {"shop_value": "b"}}, "stateset's own"),
        ({"source_field": "a", "states": ["x"]}, "no meaning for type gauge: remove it, or set type: stateset"),
        ({"source_field": "a", "type": "counter", "prometheus_name": "n_total", "map": {"x": -1}}, "from 0"),
    ],
)  # fmt: skip
def test_metrics_that_make_no_sense(metric: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MetricConfig(**{"prometheus_name": "shop_value", **metric})
    assert words in str(caught.value)
