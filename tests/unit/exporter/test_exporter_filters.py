"""Which rows a source's filters keep."""

from __future__ import annotations

import operator
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.collectors.columns import column
from exporter.errors import BadAnswer, FieldMissing
from exporter.mapping.render import Rendered, render
from exporter.mapping.spec import FilterConfig, MetricConfig, SeriesSpec

METRIC = MetricConfig(source_field="value", prometheus_name="shop_value", labels=["row"])


def filtered(values: Any, *filters: dict[str, Any]) -> Rendered:
    series = values if isinstance(values, pl.Series) else column("status", values)
    rows = range(len(series))
    frame = pl.DataFrame([series.alias("status"), pl.Series("row", rows), pl.Series("value", rows)])
    conditions = tuple(FilterConfig(**{"field": "status", **condition}) for condition in filters)
    return render(frame, SeriesSpec((METRIC,), filters=conditions))


def kept(values: Any, *filters: dict[str, Any]) -> list[int]:
    return [int(line.rsplit(" ", 1)[1]) for line in filtered(values, *filters).families[0].text.decode().splitlines()]


STATES = ["active", "closed", None, "active 2"]


@pytest.mark.parametrize(
    ("values", "condition", "wanted"),
    [
        (STATES, {"operator": "==", "value": "active"}, [0]),
        (STATES, {"operator": "!=", "value": "active"}, [1, 3]),
        (STATES, {"operator": "in", "values": ["closed", "active"]}, [0, 1]),
        (STATES, {"operator": "not_in", "values": ["closed", "active"]}, [3]),
        (STATES, {"operator": "contains", "value": "active"}, [0, 3]),
        (STATES, {"operator": "regex", "value": r"^\w+ \d$"}, [3]),
        (STATES, {"operator": "is_null"}, [2]),
        (STATES, {"operator": "not_null"}, [0, 1, 3]),
        (["9", "10", "x", None, "10.0"], {"operator": ">=", "value": 10}, [1, 4]),
        (["9", "10", "10.0"], {"operator": "==", "value": "10"}, [1]),
        ([9, 10, 11], {"operator": "=", "value": "10"}, [1]),
        ([9, 10, 11], {"operator": "<>", "value": 10}, [0, 2]),
        ([9, 10, 11], {"operator": "in", "values": [10, 10.5, 11]}, [1, 2]),
        ([9.5, 10.0], {"operator": "in", "values": [10]}, [1]),
        (pl.Series([0, 2**64 - 1], dtype=pl.UInt64), {"operator": ">", "value": -1}, [0, 1]),
        (pl.Series([0, 1], dtype=pl.Int8), {"operator": "<", "value": 1000}, [0, 1]),
        ([True, 1, 0], {"operator": "!=", "value": False}, [0, 1]),
        (pl.Series([date(2026, 1, 1)]), {"operator": "==", "value": True}, []),
        ([2**60, 2**60 + 1], {"operator": "in", "values": [2**60 + 1]}, [1]),
        (["yes", "no", True], {"operator": "==", "value": True}, [0, 2]),
        (["2026-01-02T00:00:00+02:00", "2026-01-02"], {"operator": ">=", "value": date(2026, 1, 2)}, [1]),
        (
            pl.Series([date(2026, 1, 1), date(2026, 1, 3)]),
            {"operator": "<", "value": datetime(2026, 1, 2, tzinfo=UTC)},
            [0],
        ),
        (pl.Series([datetime(2026, 1, 1, 1, tzinfo=UTC)]), {"operator": "==", "value": "2026-01-01T01:00:00Z"}, [0]),
        ([None, None], {"operator": "!=", "value": "x"}, []),
        ([None, None], {"operator": "in", "values": [1]}, []),
    ],
)
def test_comparisons_are_of_the_values_type(values: Any, condition: dict[str, Any], wanted: list[int]) -> None:
    assert kept(values, condition) == wanted


def test_all_filters_must_hold_and_rows_are_those_kept() -> None:
    result = filtered([1, 5, 9], {"operator": ">", "value": 1}, {"operator": "<", "value": 9})
    assert (result.rows, result.series, result.warnings) == (1, 1, ())


def test_a_value_that_cannot_be_compared_is_told() -> None:
    (warning,) = filtered([1, "many"], {"operator": ">", "value": 0}).warnings
    assert (warning.reason, warning.count, warning.detail) == ("not_a_number", 1, "field status: 'many' is no number")


def test_a_missing_field_is_an_error_that_names_the_filter() -> None:
    with pytest.raises(FieldMissing, match=r"filters\[0\]: the result has no field 'statu'; did you mean 'status'\?"):
        filtered(STATES, {"field": "statu", "operator": "is_null"})
    with pytest.raises(BadAnswer, match=r"filters\[1\]: field 'status' holds List"):
        filtered(pl.Series([["a"]]), {"operator": "not_null"}, {"operator": "==", "value": "a"})


ORDERS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


@given(st.lists(st.integers(-9, 9)), st.sampled_from(list(ORDERS)), st.integers(-9, 9))
def test_numbers_compare_as_numbers_also_when_they_are_text(values: list[int], name: str, value: int) -> None:
    wanted = [row for row, number in enumerate(values) if ORDERS[name](number, value)]
    assert kept(values, {"operator": name, "value": value}) == wanted
    assert kept(list(map(str, values)), {"operator": name, "value": value}) == wanted


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"operator": "in", "value": 1}, "needs values"),
        ({"operator": "=="}, "needs value"),
        ({"operator": "==", "values": [1]}, "needs value"),
        ({"operator": "is_null", "value": 1}, "compares with nothing"),
        ({"operator": "in", "values": [1, "a"]}, r"several kinds \(number, text\)"),
        ({"operator": "contains", "value": 5}, "in quotes"),
        ({"operator": "regex", "value": "("}, "no regular expression"),
        ({"operator": ">", "value": True}, "cannot compare true and false"),
        ({"operator": "==", "value": 2**70}, "64 bits"),
        ({"operator": "~", "value": 1}, "operator"),
    ],
)
def test_filters_that_make_no_sense(condition: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FilterConfig(field="status", **condition)
