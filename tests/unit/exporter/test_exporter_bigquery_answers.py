from __future__ import annotations

from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.collectors.bigquery_answers import (
    Estimate,
    Field,
    empty_frame,
    failure,
    frame_of_batch,
    nested_fields,
    within_budget,
)
from exporter.errors import BadAnswer, BudgetExceeded, QueryRefused
from exporter.mapping.numbers import read_numbers
from exporter.mapping.spec import MetricConfig

QUERY = "SELECT account_id,\n  rat\nFROM shop.payments"


def metric(field: str, **labels: str) -> MetricConfig:
    return MetricConfig.model_validate(
        {"source_field": field, "prometheus_name": f"sentinel_{field}", "labels": labels}
    )


def batch(kind: pa.DataType, values: list[Decimal | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(values, kind)], names=["value"])


def decimals(digits: int, places: int) -> st.SearchStrategy[list[Decimal | None]]:
    """Columns of numbers with up to that many digits, of which `places` stand after the point."""
    cells = st.integers(-(10**digits) + 1, 10**digits - 1).map(lambda number: Decimal(f"{number}E-{places}"))
    return st.lists(st.none() | cells, min_size=1, max_size=6)


@settings(max_examples=40)
@given(decimals(37, 9))
def test_numeric_keeps_every_digit(values: list[Decimal | None]) -> None:
    found = frame_of_batch(batch(pa.decimal128(38, 9), values), ["value"])["value"].to_list()
    assert [None if text is None else Decimal(text) for text in found] == values
    assert not any(text.endswith(".") or ("." in text and text.endswith("0")) for text in found if text is not None)


@settings(max_examples=40)
@given(decimals(76, 38))
def test_bignumeric_keeps_every_digit(values: list[Decimal | None]) -> None:
    found = frame_of_batch(batch(pa.decimal256(76, 38), values), ["value"])["value"].to_list()
    assert [None if text is None else Decimal(text) for text in found] == values


@settings(max_examples=40)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6))
def test_whole_decimals_become_whole_numbers(values: list[int]) -> None:
    decimals: list[Decimal | None] = [Decimal(value) for value in values]
    for kind in (pa.decimal128(38, 9), pa.decimal256(76, 38)):
        numbers = read_numbers(frame_of_batch(batch(kind, decimals), ["value"])["value"])
        assert (numbers.dtype, numbers.to_list()) == (pl.Int64, values)


def test_columns_that_nobody_reads_are_left_out_whatever_they_hold() -> None:
    table = pa.table({"rate": [0.5], "parts": [{"a": 1}], "list": [[1]]})
    assert frame_of_batch(table.to_batches()[0], ["rate", "gone", "rate"]).to_dicts() == [{"rate": 0.5}]
    assert empty_frame(["rate", "parts"], ["gone", "rate"]).columns == ["rate"]


def test_a_nested_column_is_told_and_fails_only_when_nothing_else_is_left() -> None:
    fields = [
        Field("rate", "FLOAT", "NULLABLE"),
        Field("parts", "RECORD", "NULLABLE"),
        Field("ids", "INTEGER", "REPEATED"),
    ]
    assert nested_fields(fields, [metric("rate")]) is None
    told = nested_fields(fields, [metric("rate"), metric("parts")])
    assert told is not None
    assert "'parts' is a nested STRUCT" in told
    assert "parts.part AS parts" in told
    with pytest.raises(BadAnswer, match=r"'ids' is a nested ARRAY.*UNNEST\(ids\)"):
        nested_fields(fields, [metric("rate", account_id="ids")])


def test_the_line_of_the_query_is_quoted() -> None:
    error = failure(
        {"reason": "invalidQuery", "message": "Unrecognized name: rat; Did you mean rate? at [2:3]"}, 400, QUERY
    )
    assert isinstance(error, QueryRefused)
    assert str(error).endswith("at [2:3] (line 2 of the query: 'rat')")
    assert "line" not in str(failure({"reason": "invalidQuery", "message": "at [9:1]"}, 400, QUERY))


@settings(max_examples=40)
@given(
    st.dictionaries(st.sampled_from(["reason", "message", "location"]), st.none() | st.text() | st.integers()),
    st.none() | st.integers(0, 999),
)
def test_whatever_is_said_becomes_one_short_line(said: dict[str, object], status: int | None) -> None:
    text = str(failure(said, status, QUERY))
    assert len(text) < 700
    assert "\n" not in text


@given(st.integers(0, 2**60), st.integers(10 * 1024**2, 2**60))
def test_the_budget_is_exact_and_its_two_numbers_differ_in_words(size: int, budget: int) -> None:
    estimate = Estimate(size, "SELECT", None, ())
    if size <= budget:
        within_budget(estimate, budget)
        return
    with pytest.raises(
        BudgetExceeded, match=r"would read (.*), more than max_bytes \((.*)\), and was not run"
    ) as caught:
        within_budget(estimate, budget)
    found = caught.match(r"would read (.*), more than max_bytes \((.*)\), and")
    assert found
