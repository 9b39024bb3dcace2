"""Rows of each format, read from files on disk as the source reads them, well formed and not."""

from __future__ import annotations

import contextlib
import json
import zlib
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import polars as pl
import pytest
from file_sources import METRIC, ROWS, Source, csv, gzipped, parquet, source
from isal import igzip

from exporter.errors import BadAnswer
from exporter.mapping.render import render

NDJSON = "\n".join(map(json.dumps, ROWS))
PATH_METRIC = {**METRIC, "labels": {"account_id": "account_id", "region": "metadata.region"}}
RATES = {row["account_id"]: row["rate"] for row in ROWS}


def reading(folder: Path, name: str, content: bytes | str, **keys: Any) -> Source:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return source("file", path_pattern=str(path), **keys)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.json", json.dumps(ROWS)),
        ("r.json", json.dumps({"data": ROWS})),
        ("r.ndjson", NDJSON),
        ("r.jsonl", NDJSON.replace("\n", "\r\n\r\n") + "\n"),
        ("r.csv", csv(ROWS)),
        ("r.csv", b"\xef\xbb\xbf" + csv(ROWS).replace(b"\n", b"\r\n")),
        ("r.parquet", parquet(ROWS)),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, content: bytes | str, *, compressed: bool) -> None:
    read = reading(tmp_path, name + ".gz", gzipped(content)) if compressed else reading(tmp_path, name, content)
    rates = read.rates()
    assert {account: float(rate) for account, rate in rates.items()} == RATES
    assert read.last is not None
    assert read.last.fields is not None
    assert set(read.last.fields) == {"account_id", "rate", "region"}
    assert read.last.warnings == []


@pytest.mark.parametrize("name", ["r.json", "r.ndjson", "r.csv"])
def test_gzip_is_known_by_its_first_bytes(tmp_path: Path, name: str) -> None:
    content = {"r.json": json.dumps(ROWS), "r.ndjson": NDJSON, "r.csv": csv(ROWS)}[name]
    assert len(reading(tmp_path, name, gzipped(content)).rates()) == 5


def test_gzip_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    halves = NDJSON[:30], NDJSON[30:]
    assert len(reading(tmp_path, "r.ndjson.gz", b"".join(map(gzipped, halves))).rates()) == 5


def test_rows_are_where_the_expression_says(tmp_path: Path) -> None:
    document = json.dumps({"report": {"hourly": [*ROWS, {"account_id": "old", "rate": None}]}})
    assert reading(tmp_path, "r.json", document, rows="report.hourly[?rate > `0`]").rates().keys() == set(RATES) - {
        "000"
    }


@pytest.mark.parametrize(
    ("keys", "content"),
    [
        ({"csv": {"delimiter": ";"}}, 'account_id;rate\n007;"0,5"\n'),
        ({"csv": {"delimiter": "\t", "quote": ""}}, 'account_id\trate\n007\t"0,5"\n'),
        ({"csv": {"quote": "'"}}, "account_id,rate\n'007','0,5'\n"),
        ({"csv": {"header": False, "columns": ["account_id", "rate"]}}, '007,"0,5"\n'),
        ({"csv": {}}, '\n\naccount_id,rate\n\n007,"0,5"\n\n'),
        ({"csv": {}}, 'x,account_id,rate\n"a\n""b""",007,"0,5"'),
    ],
)
def test_csv_as_it_is_described(tmp_path: Path, keys: dict[str, Any], content: str) -> None:
    ((account, rate),) = reading(tmp_path, "r.csv", content, **keys).rates().items()
    assert (account, rate.strip('"')) == ("007", "0,5")


def test_a_row_whose_values_are_null_is_no_blank_line(tmp_path: Path) -> None:
    content = "day,rate\nmon,\n\ntue,1\n,\n"
    metric = {"source_field": "rate", "prometheus_name": "sentinel_rate", "null": "zero"}
    frame = reading(tmp_path, "r.csv", content, metrics=[metric]).collect()
    assert frame is not None
    assert frame["rate"].to_list() == [None, "1"]


@pytest.mark.parametrize(
    ("content", "count", "words"),
    [
        ("account_id,region,rate\nx,q,1\n\ny,q", 1, "row 2 has 2 fields, and the first line 3"),
        ('account_id,region,rate\r\n"x,\n",q\r\ny\r\nz,q,1\r\n', 2, "row 1 has 2 fields"),
        ("account_id,region,rate\nx,q,\n\n", 0, ""),
        ('account_id,region,rate\n"x\n",q,\n', 0, ""),
    ],
)
def test_lines_with_too_few_fields_are_told(tmp_path: Path, content: str, count: int, words: str) -> None:
    read = reading(tmp_path, "r.csv", content)
    assert read.collect() is not None
    assert read.last is not None
    assert [warning.count for warning in read.last.warnings if warning.reason == "short_row"] == [count] * bool(count)
    assert all(words in warning.detail for warning in read.last.warnings)


def test_columns_without_a_header_have_numbers(tmp_path: Path) -> None:
    metric = {"source_field": "column_2", "prometheus_name": "sentinel_rate", "labels": {"account_id": "column_1"}}
    read = reading(tmp_path, "r.csv", "007,1\n008,2\n", csv={"header": False}, metrics=[metric])
    frame = read.collect()
    assert frame is not None
    assert frame.rows() == [("1", "007"), ("2", "008")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.json", '[{"account_id": "007", "rate": 1, "metadata": {"region": "EU"}}, {"account_id": "8", "rate": 2}]'),
        ("r.ndjson", '{"account_id": "007", "rate": 1, "metadata": {"region": "EU"}}\n{"account_id": "8", "rate": 2}'),
        ("r.ndjson", '{"account_id":"007","rate":1,"metadata":{"region":"EU"}}\n{"account_id":"8","rate":2,"metadata":[]}'),  # noqa: E501 - two lines
        ("r.ndjson", '{"account_id": "007", "rate": 1, "metadata.region": "EU"}\n{"account_id": "8", "rate": 2}'),
        ("r.csv", "account_id,rate,metadata.region\n007,1,EU\n8,2,\n"),
        ("r.parquet", parquet([{"account_id": "007", "rate": 1, "metadata": {"region": "EU"}},
                               {"account_id": "8", "rate": 2, "metadata": {"region": None}}])),
    ],
)  # fmt: skip
def test_a_field_within_an_object_is_a_path(tmp_path: Path, name: str, content: bytes | str) -> None:
    read = reading(tmp_path, name, content, metrics=[PATH_METRIC])
    frame = read.collect()
    assert frame is not None
    assert read.last is not None
    config = read.collector._config  # type: ignore[attr-defined]
    text = render(frame, config.series, read.last.fields).families[0].text.decode()
    assert text == 'sentinel_rate{account_id="007",region="EU"} 1\nsentinel_rate{account_id="8",region=""} 2\n'


def test_parquet_text_that_is_not_marked_as_text(tmp_path: Path) -> None:
    rows = [{"account_id": b"007", "rate": 1.5}]
    assert reading(tmp_path, "r.parquet", parquet(rows)).rates() == {"007": "1.5"}


@pytest.mark.parametrize("name", ["r.json", "r.ndjson", "r.csv", "r.parquet"])
def test_a_renamed_column_is_missing_and_the_others_are_told(tmp_path: Path, name: str) -> None:
    rows = [{"account_id": "1", "rates": 1.0}]
    content = {"r.json": json.dumps(rows), "r.ndjson": json.dumps(rows[0]), "r.csv": csv(rows)}.get(name, parquet(rows))
    read = reading(tmp_path, name, content)
    frame = read.collect()
    assert frame is not None
    assert frame.columns == ["account_id"]
    assert read.last is not None
    assert read.last.fields is not None
    assert list(read.last.fields) == ["account_id", "rates"]


def test_a_field_that_is_null_everywhere_is_there(tmp_path: Path) -> None:
    lines = '{"account_id": "1"}\n{"account_id": "2", "rate": null}\n'
    frame = reading(tmp_path, "r.ndjson", lines).collect()
    assert frame is not None
    assert frame["rate"].to_list() == [None, None]


def test_a_repeated_column_is_ambiguous(tmp_path: Path) -> None:
    read = reading(tmp_path, "r.csv", "account_id,rate,rate\n1,2,3\n")
    frame = read.collect()
    assert read.last is not None
    assert frame is not None
    assert (frame.columns, read.last.fields) == (["account_id"], ["account_id", "rate", "rate"])


@pytest.mark.parametrize("name", ["r.json", "r.ndjson", "r.csv", "r.parquet"])
def test_a_file_may_have_no_rows(tmp_path: Path, name: str) -> None:
    pl.DataFrame(ROWS).head(0).write_parquet(tmp_path / "none")
    content = {"r.json": b"[]", "r.ndjson": b"", "r.csv": b"account_id,rate"}.get(
        name, (tmp_path / "none").read_bytes()
    )
    frame = reading(tmp_path, name, content).collect()
    assert frame is not None
    assert len(frame) == 0


CUT = gzipped(NDJSON * 100)[:-20]
DAMAGED = bytearray(gzipped(NDJSON * 100))
DAMAGED[-5] ^= 255


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("r.ndjson.gz", CUT, "is gzip that ends too early: was it cut off"),
        ("r.ndjson.gz", bytes(DAMAGED), "is damaged gzip"),
        ("r.ndjson.gz", gzipped(NDJSON) + b"garbage" * 9, "is damaged gzip"),
        ("r.ndjson.gz", NDJSON, "is named .gz, but is not gzip. It starts with '{\"account_id\""),
        ("r.csv.gz", gzipped(gzipped(csv(ROWS))), "is compressed by gzip twice"),
        ("r.csv", zlib.compress(csv(ROWS)), "is compressed by zlib"),
        ("r.csv", b"\x28\xb5\x2f\xfd0", "is compressed by zstd"),
        ("r.csv", b"PK\x03\x04xx", "is a zip archive"),
        ("r.json", "<html><title>Log in</title>", "no JSON: Expecting value at line 1, column 1. It starts"),
        ("r.json", "", "It is empty."),
        ("r.json", '[{"rate": 1},\n{"rate"', "at line 2, column"),
        ("r.json", "[" * 100_000, "nested too deeply"),
        ("r.json", '"text"', "is text, not a list"),
        ("r.json", '{"rows": []}', "rows `data` is null, not a list; the file is an object with rows"),
        ("r.json", "[1]", "is a number, not an object"),
        ("r.json", b'["\xff"]', "line 1 is no UTF-8 text (byte 0xff)"),
        ("r.ndjson", NDJSON[:-1], "line 5 is no JSON"),
        ("r.ndjson", NDJSON + "\n[1]", "line 6 is no JSON object. It starts with '[1]'"),
        ("r.ndjson", b'{"a": 1}\n{"a": "\xe9"}', "line 2 is no JSON: byte 0xe9 is no UTF-8 text"),
        ("r.csv", "", "is empty"),
        ("r.csv", "\n\r\n", "is empty"),
        ("r.csv", "account_id,rate\n1,2\nSmith, Inc,3,4\n", "line 3 has 4 fields, and the first line 2: quote values"),
        ("r.csv", "account_id,rate\n" + "1,2\n" * 5000 + "a,b,c\n", "line 5002 has 3 fields"),
        ("r.csv", "account_id,rate,x\n" + "1,2,3\n" * 20_000 + "a,b,c,d", "line 20002 has 4 fields"),
        ("r.csv", 'account_id,rate\n1,"2\n3,4\n', "a quote is not closed"),
        ("r.csv", 'account_id,rate\n1"a,2\n3"b,4\n', "CSV"),
        ("r.csv", b"account_id,rate\n1,2\n\xff,3\n", "line 3 is no UTF-8 text (byte 0xff), save it as UTF-8"),
        ("r.csv", "account_id,rate\n".encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
        ("r.parquet", "<html>", "is no Parquet file. It starts with '<html>'"),
        ("r.parquet", parquet(ROWS)[:-10], "is damaged, or no Parquet file"),
        ("r.parquet", parquet(ROWS)[:4] + b"\0" * 40 + parquet(ROWS)[44:], "is damaged, or no Parquet file"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, content: bytes | str, words: str) -> None:
    reason, message = reading(tmp_path, name, content).error()
    assert reason == "bad_answer"
    assert words in message
    assert str(tmp_path / name) in message


def test_a_wrong_number_of_columns_is_said(tmp_path: Path) -> None:
    style = {"header": False, "columns": ["account_id", "rate"]}
    _, message = reading(tmp_path, "r.csv", "1,2,3\n", csv=style).error()
    assert "has 3 columns, and csv.columns names 2" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.csv", csv(ROWS)),
        ("r.ndjson.gz", igzip.compress(b" " * 10_000_000)),
        ("r.json.gz", gzipped(gzipped("")[:0] + b"[" + b" " * 10_000_000 + b"]")),
        ("r.parquet", parquet([{"account_id": "x" * 1000, "rate": 1}] * 10_000)),
    ],
)
def test_what_is_or_becomes_larger_than_max_bytes_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    reason, message = reading(tmp_path, name, content, max_bytes=50 if name == "r.csv" else 100_000).error()
    assert reason == "budget"
    assert "larger than max_bytes (" in message


@pytest.mark.parametrize("name", ["r.json", "r.ndjson", "r.csv", "r.parquet"])
def test_more_rows_than_max_rows_are_refused_or_cut(tmp_path: Path, name: str) -> None:
    content = {"r.json": json.dumps(ROWS), "r.ndjson": NDJSON, "r.csv": csv(ROWS)}.get(name, parquet(ROWS))
    reason, message = reading(tmp_path, name, content, max_rows=3).error()
    assert (reason, "max_rows (3)" in message) == ("budget", True)
    cut = reading(tmp_path, name, content, max_rows=3, over_budget="truncate")
    assert list(cut.rates()) == ["000", "001", "002"]
    assert cut.last is not None
    assert [warning.reason for warning in cut.last.warnings] == ["rows_truncated"]
    assert len(reading(tmp_path, name, content, max_rows=5).rates()) == 5


def test_lines_that_only_a_lenient_reader_takes(tmp_path: Path) -> None:
    lines = '{"account_id": "1", "rate": NaN}\n{"account_id": "2", "rate": 0.5}\n'
    assert reading(tmp_path, "r.ndjson", lines).rates() == {"1": "NaN", "2": "0.5"}
    cut = reading(tmp_path, "r.ndjson", lines * 2, max_rows=3, over_budget="truncate")
    frame = cut.collect()
    assert frame is not None
    assert len(frame) == 3


VALUES = st.none() | st.text(max_size=8) | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, width=64)


@hypothesis.given(rows=st.lists(st.tuples(st.text(max_size=8), VALUES), max_size=12))
def test_ndjson_means_the_same_read_fast_and_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, Any]]
) -> None:
    lines = [json.dumps({"account_id": account, "rate": rate}) for account, rate in rows]
    folder = tmp_path_factory.mktemp("ndjson")
    fast = reading(folder, "r.ndjson", "\n".join(lines)).collect()
    slow = reading(folder, "r.json", "[" + ",".join(lines) + "]").collect()
    assert fast is not None
    assert slow is not None
    for column in slow.columns:
        texts = [_same(text) for text in fast[column].cast(pl.String)]
        assert texts == [_same(text) for text in slow[column].cast(pl.String)]


def _same(text: str | None) -> str | None:
    """Numbers in one way, for there are several to write them."""
    try:
        return None if text is None else repr(float(text))
    except ValueError:
        return text


@hypothesis.given(rows=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=12))
def test_csv_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    import csv as writers
    import io

    out = io.StringIO(newline="")
    writers.writer(out, quoting=writers.QUOTE_ALL).writerows([("account_id", "rate"), *rows])
    frame = reading(tmp_path_factory.mktemp("csv"), "r.csv", out.getvalue()).collect()
    assert frame is not None
    assert frame.select("account_id", "rate").rows() == rows


@hypothesis.given(content=st.binary(max_size=200), name=st.sampled_from(["r.json", "r.ndjson", "r.csv", "r.parquet"]))
def test_any_bytes_are_rows_or_an_error_that_is_meant(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    with contextlib.suppress(BadAnswer):
        reading(tmp_path_factory.mktemp("any"), name, content).collect()
