from __future__ import annotations

import math
import operator
import re
import subprocess
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.collectors.columns import column, frame_of_rows
from exporter.errors import BadAnswer, BudgetExceeded, DuplicateSeries, FieldMissing
from exporter.exposition import Family
from exporter.mapping.render import Rendered, render
from exporter.mapping.spec import MetricConfig, SeriesSpec


def metric(source_field: str = "value", name: str = "sentinel_value", **options: Any) -> MetricConfig:
    options.setdefault("labels", ["account_id"])
    return MetricConfig(source_field=source_field, prometheus_name=name, **options)


def rendered(rows: Sequence[tuple[Any, Any]], policy: SeriesSpec | None = None) -> Rendered:
    frame = frame_of_rows(["account_id", "value"], rows, ["account_id", "value"])
    return render(frame, policy or SeriesSpec((metric(),)))


def samples(text: bytes) -> list[tuple[dict[str, str], float]]:
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    ]


def values(result: Rendered) -> dict[str, float]:
    return {labels["account_id"]: value for labels, value in samples(result.families[0].text)}


def reasons(result: Rendered) -> dict[str, int]:
    return {warning.reason: warning.count for warning in result.warnings}


NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity|nan)", re.ASCII | re.IGNORECASE)
plain_text = st.text(st.characters(exclude_categories=["Cc", "Z"]))
numbers_as_text = st.one_of(
    st.floats().map(str), st.integers(-(10**30), 10**30).map(str), st.sampled_from(["1e5", " 2 ", "TRUE", "false"])
)
cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**300), 10**300),
    st.floats(),
    st.decimals(),
    numbers_as_text,
    plain_text,
    st.binary(),
)


def expected(cell: object) -> float | None:
    """The plain reading of one value, one at a time; None where there is no sample."""
    match cell:
        case None:
            return None
        case bytes():
            return expected(cell.decode("utf-8", "replace"))
        case str():
            text = cell.strip().lower()
            if text in ("true", "false"):
                return float(text == "true")
            return _not_too_large(text) if NUMBER.fullmatch(text) else None
        case Decimal() if cell.is_snan():
            return None
        case bool() | int() | float() | Decimal():
            return _not_too_large(str(cell)) if isinstance(cell, Decimal) else float(cell)
    raise AssertionError(cell)


def _not_too_large(text: str) -> float | None:
    number = float(text)
    return None if math.isinf(number) and any(map(str.isdigit, text)) else number


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


@given(st.lists(cells, max_size=8))
@example([1, 2.5, Decimal("0.1"), None, True, "x"])
@example([2**63, 1])
@example(["\ud800"])
def test_every_value_of_a_mixed_column_arrives_exactly(column_values: list[object]) -> None:
    result = rendered([(str(i), value) for i, value in enumerate(column_values)])
    arrived = values(result)
    for position, value in enumerate(column_values):
        want = expected(value)
        if want is None:
            assert str(position) not in arrived
        else:
            assert same(arrived[str(position)], want)
    refused = sum(value is not None and expected(value) is None for value in column_values)
    assert reasons(result).get("not_a_number", 0) == refused


def digits(number: str) -> str:
    """What is left of a number without its sign, point and exponent."""
    return number.lower().lstrip("+-").partition("e")[0].replace(".", "").strip("0")


@given(st.lists(st.floats(), min_size=1, max_size=8))
@example([1e-05, 5e-324, 1.7976931348623157e308, 1e16, 0.1, -0.0, math.nan, math.inf, -math.inf])
def test_floats_are_shortest_and_read_back_the_same(floats: list[float]) -> None:
    text = rendered([(str(i), value) for i, value in enumerate(floats)]).families[0].text.decode()
    for line, value in zip(text.splitlines(), floats, strict=True):
        written = line.rpartition(" ")[2]
        assert same(float(written), value)
        assert digits(written) == digits(repr(value))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8))
def test_integers_are_written_digit_by_digit(integers: list[int]) -> None:
    text = rendered([(str(i), value) for i, value in enumerate(integers)]).families[0].text.decode()
    assert [line.rpartition(" ")[2] for line in text.splitlines()] == list(map(str, integers))


@given(st.lists(st.text(max_size=8), unique=True, min_size=1, max_size=8))
@example(['\\"', "\n", "a\0b", "\ud83d", "💳 é", "", "\\n", "}", '",x="', "\r", "\u2028", "a\x85b"])
def test_any_label_value_arrives(texts: list[str]) -> None:
    frame = pl.DataFrame(
        [column("text", texts), column("row", list(range(len(texts)))), column("v", [1.0] * len(texts))]
    )
    result = render(frame, SeriesSpec((metric("v", labels=["text", "row"]),)))
    arrived = {labels["row"]: labels["text"] for labels, _ in samples(result.families[0].text)}
    for position, text in enumerate(texts):
        clean = text.replace("\0", "\ufffd")
        assert arrived[str(position)] == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in clean)
    bad = sum(any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text) for text in texts)
    assert reasons(result).get("label_cleaned", 0) == bad


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(-9, 9)))),
    st.sampled_from(["first", "last", "sum", "max"]),
)
def test_rows_with_the_same_labels_are_merged_as_told(rows: list[tuple[str, int | None]], policy: Any) -> None:
    result = rendered(rows, SeriesSpec((metric(),), duplicates=policy))
    wanted: dict[str, float] = {}
    take = {
        "first": lambda *both: both[0],
        "last": lambda *both: both[1],
        "sum": operator.add,
        "max": max,
    }[policy]
    given_rows = [(key, value) for key, value in rows if value is not None]
    for key, value in given_rows:
        wanted[key] = take(wanted[key], value) if key in wanted else value
    assert values(result) == wanted
    assert reasons(result).get("duplicates_merged", 0) == len(given_rows) - len(wanted)


def test_sum_of_large_integers_does_not_wrap() -> None:
    result = rendered([("a", 2**62), ("a", 2**62), ("a", 2**62)], SeriesSpec((metric(),), duplicates="sum"))
    assert result.families[0].text == b'sentinel_value{account_id="a"} %d\n' % (3 * 2**62)


def test_duplicates_refuse_the_collection_unless_told_otherwise() -> None:
    with pytest.raises(DuplicateSeries, match=r'2 rows .* sentinel_value\{account_id="acc_1"\}'):
        rendered([("acc_1", 1), ("acc_2", 1), ("acc_1", 2)])


def test_a_row_without_value_is_no_duplicate() -> None:
    assert values(rendered([("acc_1", None), ("acc_1", 5)])) == {"acc_1": 5}


@pytest.mark.parametrize(("null", "want"), [("skip", {"b": 1.0}), ("zero", {"a": 0.0, "b": 1.0})])
def test_null_policy(null: str, want: dict[str, float]) -> None:
    assert values(rendered([("a", None), ("b", 1)], SeriesSpec((metric(null=null),)))) == want


def test_null_policy_nan() -> None:
    result = rendered([("a", None), ("b", 7)], SeriesSpec((metric(null="nan"),)))
    assert result.families[0].text == b'sentinel_value{account_id="a"} NaN\nsentinel_value{account_id="b"} 7\n'


def test_a_value_that_is_no_number_is_left_out_and_counted_whatever_the_null_policy() -> None:
    result = rendered([("a", "n/a"), ("b", "12.5")], SeriesSpec((metric(null="zero"),)))
    assert values(result) == {"b": 12.5}
    (warning,) = result.warnings
    assert (warning.reason, warning.count) == ("not_a_number", 1)
    assert "'n/a'" in warning.detail
    assert "value" in warning.detail


def test_a_number_that_is_too_large_is_none_and_infinity_is_a_word() -> None:
    huge = ["1" + "0" * 400, "-1e999", "inf", "-Infinity", "2"]
    result = rendered([(str(position), cell) for position, cell in enumerate(huge)])
    assert values(result) == {"2": math.inf, "3": -math.inf, "4": 2}
    assert reasons(result) == {"not_a_number": 2}


def test_a_column_of_dates_has_no_numbers() -> None:
    frame = pl.DataFrame({"account_id": ["a"], "value": pl.Series(["2026-01-01"]).str.to_date()})
    result = render(frame, SeriesSpec((metric(),)))
    assert (result.series, reasons(result)) == (0, {"not_a_number": 1})


def test_decimal_columns_of_arrow_sources_are_exact() -> None:
    frame = pl.DataFrame({"account_id": ["a"], "value": pl.Series([Decimal("0.35038363171355497")])})
    assert values(render(frame, SeriesSpec((metric(),)))) == {"a": 0.35038363171355497}


def test_label_defaults_and_static_labels() -> None:
    spec = SeriesSpec((metric(),), labels={"env": 'p"1'}, label_defaults={"account_id": "unknown"})
    frame = pl.DataFrame({"account_id": [None, "a"], "value": [1, 2]})
    assert samples(render(frame, spec).families[0].text) == [
        ({"env": 'p"1', "account_id": "unknown"}, 1),
        ({"env": 'p"1', "account_id": "a"}, 2),
    ]
    frame = pl.DataFrame({"account_id": ["", "a"], "value": [1, 2]})
    assert samples(render(frame, spec).families[0].text)[0][0]["account_id"] == "unknown"


def test_labels_may_have_other_names_than_their_columns() -> None:
    frame = pl.DataFrame({"metadata.region": ["EU"], "value": [1]})
    result = render(frame, SeriesSpec((metric(labels={"region": "metadata.region"}),)))
    assert result.families[0].text == b'sentinel_value{region="EU"} 1\n'


def test_metric_without_labels() -> None:
    frame = pl.DataFrame({"value": [1.5]})
    assert render(frame, SeriesSpec((metric(labels=[]),))).families[0].text == b"sentinel_value 1.5\n"
    with_static = render(frame, SeriesSpec((metric(labels=[]),), labels={"env": "p"}))
    assert with_static.families[0].text == b'sentinel_value{env="p"} 1.5\n'


def test_a_missing_field_is_named_with_what_there_is() -> None:
    frame = pl.DataFrame({"account_id": ["a"], "vale": [1]})
    with pytest.raises(FieldMissing, match=r"no field 'value'; did you mean 'vale'\? It has: account_id, vale"):
        render(frame, SeriesSpec((metric(),)))
    with pytest.raises(FieldMissing, match="no field 'account'"):
        render(frame, SeriesSpec((metric("vale", labels=["account"]),)))


def test_a_list_is_no_label() -> None:
    frame = pl.DataFrame({"account_id": [["a"]], "value": [1]})
    with pytest.raises(BadAnswer, match="field 'account_id' cannot be a label"):
        render(frame, SeriesSpec((metric(),)))


def test_series_budget_counts_all_families() -> None:
    frame = pl.DataFrame({"account_id": ["a", "b"], "value": [1, 2]})
    two = (metric(), metric(name="sentinel_other"))
    assert render(frame, SeriesSpec(two, max_series=4)).series == 4
    with pytest.raises(BudgetExceeded, match=r"max_series \(3\)"):
        render(frame, SeriesSpec(two, max_series=3))


def test_no_rows_are_no_series() -> None:
    assert rendered([]).families[0].text == b""
    assert render(pl.DataFrame(), SeriesSpec((metric(),))).series == 0


def test_two_columns_of_one_name_are_ambiguous() -> None:
    frame = frame_of_rows(["account_id", "value", "value"], [("a", 1, 2)], ["account_id", "value"])
    with pytest.raises(BadAnswer, match="more than one column 'value': give each its own name, in SQL with AS"):
        render(frame, SeriesSpec((metric(),)), ["account_id", "value", "value"])


A, B = metric("a", name="sentinel_a"), metric("b", name="sentinel_b", labels=["account_id", "region"])


@pytest.mark.parametrize(
    ("names", "rows", "reason", "words"),
    [
        (["account_id", "region", "a"], [("x", "EU", 1)], "missing_field", "no field 'b'"),
        (["account_id", "a", "b"], [("x", 1, 2)], "missing_field", "no field 'region'"),
        (["account_id", "a", "b"], [], "missing_field", "no field 'region'"),
        (["account_id", "region", "a", "b", "b"], [("x", "EU", 1, 2, 2)], "bad_answer", "more than one column 'b'"),
        (["account_id", "region", "a", "b"], [("x", "EU", 1, 2), ("x", "EU", None, 3)], "duplicates", "2 rows"),
    ],
)
def test_a_metric_that_cannot_be_served_harms_no_other(
    names: list[str], rows: list[Any], reason: str, words: str
) -> None:
    frame = frame_of_rows(names, rows, ["a", "b", "account_id", "region"])
    for metrics in ((A, B), (B, A)):
        result = render(frame, SeriesSpec(metrics), names)
        (family,) = result.families
        assert (family.name, family.series) == ("sentinel_a", len(rows) and 1)
        (warning,) = result.warnings
        assert (warning.reason, warning.count, warning.metric) == (reason, 1, "sentinel_b")
        assert words in warning.detail


def test_metrics_that_all_cannot_be_served_are_a_failure_that_names_each() -> None:
    frame = frame_of_rows(["account_id", "aa"], [("x", 1)], ["a", "b", "account_id", "region"])
    for fields in (["account_id", "aa"], []):
        with pytest.raises(FieldMissing, match=r"no field 'a'.*sentinel_b \(missing_field\)"):
            render(frame if fields else pl.DataFrame(), SeriesSpec((A, B)), fields)


def test_real_promtool_accepts_what_is_rendered() -> None:
    nasty = ["plain", 'quo"te', "back\\slash", "new\nline", "n\0ul", "💳", "\ud800", "", "}{,="]
    result = rendered([(text, i / 7) for i, text in enumerate(nasty)])
    header = Family("sentinel_value", "gauge", 'Share, with "quotes", \\ and\nnewline.').header("text")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=header + result.families[0].text, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_field_that_resembles_none_is_told_in_whole_sentences() -> None:
    assert str(FieldMissing("v", ["rate", "id"])) == "the result has no field 'v'. It has: rate, id."


@pytest.mark.parametrize("rows", [0, 1, 4096, 4097, 9000])
def test_lines_are_the_same_in_however_many_pieces_they_are_made(rows: int) -> None:
    frame = pl.DataFrame({"account_id": [f"a{row}" for row in range(rows)], "value": range(rows)})
    (family,) = render(frame, SeriesSpec((metric(),))).families
    expected = [f'sentinel_value{{account_id="a{row}"}} {row}\n' for row in range(rows)]
    pieces = list(family.pieces())
    assert b"".join(pieces).decode() == "".join(expected)
    assert max(map(len, pieces), default=0) < 200_000
