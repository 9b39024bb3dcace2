"""Which file a path_pattern means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis
import hypothesis.strategies as st
import pytest

from exporter.collectors.file_paths import (
    FIELDS,
    Stored,
    checked_pattern,
    filled,
    fixed_prefix,
    is_glob,
    matches,
    newest_of,
    one_folder,
)
from exporter.config import parse
from exporter.errors import ConfigError

UTC_ZONE = ZoneInfo("UTC")
NIGHT = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)
CONFIG = """
data_sources:
  - name: report
    type: {type}
    path_pattern: {path}
    {more}
    metrics: [{{source_field: rate, prometheus_name: sentinel_rate, labels: [account_id]}}]
"""


def config(more: str = "", *, kind: str = "file", path: str = "/var/reports/{date}.csv") -> Any:
    more = more.replace("\n", "\n    ")
    return parse(CONFIG.format(type=kind, path=f'"{path}"', more=more), "c.yaml").sources[0]


def refusal(more: str = "", **options: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(more, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "zone", "offset", "path"),
    [
        ("{date}/report.json", "UTC", 0, "2026-03-01/report.json"),
        ("{year}/{month}/{day}/{hour}{minute}.csv", "UTC", 0, "2026/03/01/0030.csv"),
        ("{date}/{hour}", "UTC", -3600, "2026-02-28/23"),
        ("{date}", "UTC", -86400, "2026-02-28"),
        ("{date}/{hour}", "Asia/Singapore", 0, "2026-03-01/08"),
        ("{date}/{hour}", "America/New_York", 0, "2026-02-28/19"),
        ("{date}", "UTC", 86400, "2026-03-02"),
        ("a/*.{other}", "UTC", 0, "a/*.{other}"),
    ],
)
def test_fields_are_the_time_in_the_zone(pattern: str, zone: str, offset: float, path: str) -> None:
    assert filled(pattern, NIGHT, ZoneInfo(zone), offset) == path


@pytest.mark.parametrize("hour", [0, 1, 12, 23])
def test_a_day_before_is_the_day_before_when_clocks_change(hour: int) -> None:
    zone = ZoneInfo("America/New_York")
    for day in (8, 9):  # of March 2026; on the 8th, 2:00 became 3:00
        local = datetime(2026, 3, day, hour, 30, tzinfo=zone)
        assert filled("{date}/{hour}", local.astimezone(UTC), zone, -86400) == f"2026-03-{day - 1:02d}/{hour:02d}"


@hypothesis.given(seconds=st.integers(10**9, 4 * 10**9), offset=st.integers(-90 * 86400, 90 * 86400))
def test_in_utc_all_fields_are_those_of_one_moment(seconds: int, offset: int) -> None:
    now = datetime.fromtimestamp(seconds, UTC)
    pattern = "|".join(f"{{{name}}}" for name in FIELDS)
    at = now + timedelta(seconds=offset)
    assert filled(pattern, now, UTC_ZONE, offset) == "|".join(at.strftime(layout) for layout in FIELDS.values())


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("a/*.json", "a/1.json", True),
        ("a/*.json", "a/b/1.json", False),
        ("a/*.json", "a/1.json.gz", False),
        ("a/*.json", "a/.1.json", False),
        ("a/.*.json", "a/.1.json", True),
        ("*/report.json", "2026-03-01/report.json", True),
        ("a/*", "a/", False),
        ("a/part-?[0-3].csv", "a/part-12.csv", True),
        ("a/part-?[0-3].csv", "a/part-17.csv", False),
        ("a.b/*.csv", "axb/1.csv", False),
    ],
)
def test_a_glob_matches_as_in_a_shell(pattern: str, name: str, *, found: bool) -> None:
    assert matches(pattern, name) is found
    assert not found or name.startswith(fixed_prefix(pattern))


def test_what_is_listed_for_a_glob() -> None:
    assert (fixed_prefix("a/b-*.csv"), one_folder("a/b-*.csv")) == ("a/b-", True)
    assert (fixed_prefix("a/*/b.csv"), one_folder("a/*/b.csv")) == ("a/", False)
    assert [is_glob(path) for path in ("a/b", "a/*", "a?", "a[0-9]")] == [False, True, True, True]


def test_the_newest_by_time_or_by_name() -> None:
    old, late, same = Stored("b", "1", 10), Stored("a", "2", 20), Stored("c", "3", 20)
    assert newest_of([old, late], "modified") is late
    assert newest_of([same, late], "modified") is same
    assert newest_of([old, late], "name") is old


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{date-1d}/x.csv", "write {date} and set offset: -1d"),
        ("{hour - 1h}/x.csv", "write {hour} and set offset: - 1h"),
        ("{dat}/x.csv", "{dat} is no field: use {date}, {year}"),
        ("a/**/x.csv", "write one `*` for each folder"),
        ("a\0b.csv", "NUL"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused(pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        checked_pattern(pattern)
    assert words in str(caught.value)


def test_references_are_no_fields() -> None:
    assert checked_pattern("${FOLDER}/${NAME:-x}/{date}.csv")
    assert config(path="${FOLDER}/{date}.csv").needs() == ("FOLDER",)


def test_the_format_is_the_suffix_unless_it_is_given() -> None:
    assert config().kind == "csv"
    assert config(path="/x/{date}.jsonl.gz").kind == "ndjson"
    assert config("format: json", path="/x/report").kind == "json"
    assert "format is missing" in refusal(path="/x/report")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("time_zone: Mars", "'Mars' is no time zone: write it such as"),
        ("time_zone: /etc/passwd", "is no time zone"),
        ("offset: -1", "has no unit"),
        ("offset: tomorrow", "is no duration"),
        ("rows: data", "rows is for json files only"),
        ("format: json\ncsv: {delimiter: ;}", "csv is for csv files only"),
        ("format: json\nrows: '[['", "is no JMESPath expression"),
        ("csv: {delimiter: ab}", "csv.delimiter: 'ab' is not one plain character"),
        ("csv: {columns: [a]}", "set header: false"),
        ("csv: {quote: ','}", "delimiter and quote are the same"),
        ("format: xml", "use one of json, ndjson, csv, parquet"),
        ("max_bytes: 0", "max_bytes"),
        ("bucket: b", "unknown key"),
    ],
)
def test_a_wrong_key_is_refused(more: str, words: str) -> None:
    assert words in refusal(more)


@pytest.mark.parametrize("more", ["offset: -1h", "offset: 90m", "offset: +1d", "newest_by: name", "csv: {quote: ''}"])
def test_a_right_key_is_taken(more: str) -> None:
    assert config(more)


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("s3_file", "bucket: b\naccess_key_env: K", "secret_key_env is missing"),
        ("s3_file", "bucket: b\nsecret_key_file: K", "access_key_env is missing"),
        ("s3_file", "bucket: b\nsession_token_env: K", "session_token belongs to"),
        ("s3_file", "bucket: b\naccess_key_env: K\naccess_key_file: F\nsecret_key_env: S", "keep one"),
        ("s3_file", "bucket: b\nanonymous: true\naccess_key_env: K\nsecret_key_env: S", "anonymous uses no keys"),
        ("s3_file", "", "bucket: is missing"),
        ("gcs_file", "bucket: b\nanonymous: true\ncredentials_file: F", "anonymous uses no credentials"),
        ("gcs_file", "bucket: b", "starts with /, which names in a bucket do not"),
    ],
)
def test_a_bucket_that_cannot_be_read_is_refused(kind: str, more: str, words: str) -> None:
    assert words in refusal(more, kind=kind, path="/a/{date}.csv" if "starts" in words else "a/{date}.csv")


def test_variables_that_a_source_needs_are_told() -> None:
    s3 = config("bucket: ${BUCKET}\naccess_key_env: K\nsecret_key_env: S", kind="s3_file", path="a/{date}.csv")
    assert set(s3.needs()) == {"BUCKET", "K", "S"}
    gcs = config("bucket: ${BUCKET}\nendpoint: ${GCS}", kind="gcs_file", path="a/{date}.csv")
    assert set(gcs.needs()) == {"BUCKET", "GCS"}
