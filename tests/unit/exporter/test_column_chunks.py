from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_series_equal

from exporter.collectors import columns
from exporter.collectors.columns import column, frame_of_chunks, frame_of_rows
from exporter.collectors.postgresql_session import _typed
from exporter.mapping.numbers import read_numbers
from exporter.mapping.plain_text import plain_text
from exporter.mapping.render import render
from exporter.mapping.spec import MetricConfig, SeriesSpec

SHORT = st.text(max_size=8) | st.binary(max_size=8)
VALUES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | SHORT


def fetching(rows: Sequence[Sequence[Any]]) -> Callable[[int], Sequence[Sequence[Any]]]:
    rest = list(rows)

    def fetch(count: int) -> list[Sequence[Any]]:
        found, rest[:] = rest[:count], rest[count:]
        return found

    return fetch


@given(values=st.lists(VALUES, max_size=12), size=st.integers(1, 5))
def test_chunks_say_the_same_numbers_as_the_whole(values: list[Any], size: int) -> None:
    rows = [(value,) for value in values]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_ROWS_AT_ONCE", size)
        frame, count = frame_of_chunks(["v"], fetching(rows), ["v"], 1000)
    whole = frame_of_rows(["v"], rows, ["v"])
    assert count == len(frame) == len(rows)
    numbers, expected = read_numbers(frame["v"]), read_numbers(whole["v"])
    assert_series_equal(numbers.cast(pl.Float64), expected.cast(pl.Float64), check_exact=True)  # NaN is as NaN
    assert frame["v"].null_count() == whole["v"].null_count()


@given(size=st.integers(1, 4), limit=st.integers(1, 9))
def test_no_more_rows_are_fetched_than_the_limit(size: int, limit: int) -> None:
    fetch = fetching([(i,) for i in range(6)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_ROWS_AT_ONCE", size)
        frame, count = frame_of_chunks(["v"], fetch, ["v"], limit)
    assert count == len(frame) == min(limit, 6)
    assert len(fetch(100)) == 6 - count


def test_no_rows_have_columns_and_rows_without_a_wanted_column_are_counted() -> None:
    frame, count = frame_of_chunks(["a", "b"], fetching([]), ["b", "c"], 10)
    assert (frame.columns, count) == (["b"], 0)
    frame, count = frame_of_chunks(["a"], fetching([(1,), (2,)]), ["c"], 10)
    assert (frame.width, count) == (0, 2)


def test_half_a_surrogate_pair_in_a_label_is_told() -> None:
    frame = pl.DataFrame([column("id", ["\ud83d\ude00", "a\ud800", "\ufffd"]), column("v", [1, 2, 3])])
    metric = MetricConfig(prometheus_name="m", source_field="v", labels={"id": "id"})
    rendered = render(frame, SeriesSpec((metric,)))
    assert rendered.families[0].text.decode() == 'm{id="\U0001f600"} 1\nm{id="a\ufffd"} 2\nm{id="\ufffd"} 3\n'
    assert [(warning.reason, warning.count) for warning in rendered.warnings] == [("label_cleaned", 1)]


@given(st.lists(st.none() | st.binary(max_size=6) | st.text(max_size=4).map(str.encode)))
def test_bytes_are_text_and_only_bad_ones_are_replaced(values: list[bytes | None]) -> None:
    text = plain_text(pl.Series("data", values, dtype=pl.Binary))
    assert text.to_list() == [None if value is None else value.decode("utf-8", "replace") for value in values]
    written = [None if value is None else r"\x" + value.hex() for value in values]
    frame = pl.DataFrame({"data": pl.Series(written, dtype=pl.String)})
    assert _typed(frame, {"data": 17})["data"].to_list() == text.to_list()
