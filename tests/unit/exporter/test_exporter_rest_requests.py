"""The pure parts of rest_api: windows, accounts, templates and rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors.base import Collection
from exporter.collectors.request_values import OMITTED, Accounts, TimeWindow, filled, put, times_of, written
from exporter.collectors.row_steps import RowReader, RowStep
from exporter.config import parse
from exporter.errors import BadAnswer, ConfigError

NOW = datetime(2025, 11, 24, 10, 5, 0, 400_000, tzinfo=UTC)
SOURCE = """data_sources:
  - name: source
    type: {kind}
    endpoint: https://api.example
    metrics: [{{source_field: value, prometheus_name: m}}]
    {more}
"""


@given(
    steps=st.lists(st.floats(0.5, 3000, allow_nan=False), min_size=1, max_size=8),
    lag=st.one_of(st.none(), st.floats(0.1, 500)),
)
def test_windows_since_the_last_run_meet_without_gap_or_overlap(steps: list[float], lag: float | None) -> None:
    window = TimeWindow.model_construct(length=60.0, start="last_run", longest=3600.0, lag=lag, format="unix")
    now, last, end = NOW, None, None
    for step in steps:
        times = times_of(window, now, last)
        assert times.since < times.until <= now
        assert times.until - times.since <= timedelta(seconds=3600)
        if end is not None and times.until > end:
            assert times.since == end
        last, end, now = now, times.until, now + timedelta(seconds=step)


def test_a_clock_that_was_put_back_does_not_turn_a_window_round() -> None:
    window = TimeWindow(length="5m", start="last_run")  # type: ignore[arg-type]  # as the file has it
    times = times_of(window, NOW, NOW + timedelta(hours=1))
    assert (times.until - times.since, times.cut) == (timedelta(minutes=5), 0)


def test_times_are_written_as_asked_for() -> None:
    at = NOW.replace(microsecond=0)
    assert [written(at, style) for style in ("rfc3339", "unix", "unix_ms")] == [
        "2025-11-24T10:05:00Z", 1763978700, 1763978700000
    ]  # fmt: skip


@given(st.lists(st.text("ab1", min_size=1, max_size=3), min_size=1, max_size=30), st.integers(1, 7))
def test_batches_have_every_account_once(names: list[str], size: int) -> None:
    accounts = Accounts(type="whitelist", whitelist=tuple(names), batch=size)
    batches = list(accounts.batches())
    assert [name for batch in batches for name in batch] == list(dict.fromkeys(names))
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(accounts.serves(name) for name in names)
    assert not accounts.serves(None)


def test_a_placeholder_without_a_value_goes_with_what_it_stands_in() -> None:
    template = {"a": "{account_ids}", "b": ["{account_ids}", 1], "c": {"d": "x {account_ids}"}, "e": "{other}"}
    assert filled(template, {"account_ids": None}, str) == {"b": [1], "c": {}, "e": "{other}"}
    assert filled("{account_ids}", {}, str) is OMITTED


@given(st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.text("{}ab", max_size=6)),
                    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(max_size=3), inner)),
                    max_leaves=10))  # fmt: skip
def test_a_template_without_placeholders_is_left_as_it_is(template: Any) -> None:
    assert filled(template, {"time_from": 1}, str) == template


def test_put_makes_the_way_and_keeps_the_rest() -> None:
    body = {"page": {"sort": "up"}, "n": 1}
    assert put(body, "page.after.id", 5) == {"page": {"sort": "up", "after": {"id": 5}}, "n": 1}
    assert put(None, "a", 1) == {"a": 1}
    assert body == {"page": {"sort": "up"}, "n": 1}


def rows(answer: object, *steps: dict[str, Any], limit: int = 100) -> list[dict[str, Any]]:
    collection = Collection(NOW, 1e9)
    found, _ = RowReader([RowStep(**step) for step in steps]).read(answer, limit, collection)
    return found + [{"warned": warning.detail, "count": warning.count} for warning in collection.warnings]


def test_keys_positions_and_plain_values_become_columns() -> None:
    assert rows({"rates": {"eu": 0.1, "ap": None}}, {"path": "rates", "key_as": "region", "value_as": "rate"}) == [
        {"rate": 0.1, "region": "eu"}, {"rate": None, "region": "ap"}
    ]  # fmt: skip
    assert rows({"values": [[1, 2.5], [2, 3.5]]}, {"path": "values", "index_as": "n"}) == [
        {"0": 1, "1": 2.5, "n": 0}, {"0": 2, "1": 3.5, "n": 1}
    ]  # fmt: skip
    assert rows([5, 6], {"path": "@", "value_as": "v", "index_as": "i"}, limit=1) == [{"v": 5, "i": 0}]
    assert rows({"a": {"x": {"k": "own"}}}, {"path": "a", "key_as": "k"}) == [{"k": "x"}]


def test_objects_without_the_inner_list_are_counted() -> None:
    answer = {"a": [{"b": [{"v": 1}]}, {}, {"b": None}]}
    assert rows(answer, {"path": "a"}, {"path": "b"}) == [
        {"v": 1}, {"warned": "rows: an object has nothing at `b`", "count": 2}
    ]  # fmt: skip
    with pytest.raises(BadAnswer, match="no object has anything at `c`"):
        rows(answer, {"path": "a"}, {"path": "c"})
    assert rows({"a": []}, {"path": "a"}, {"path": "b"}) == []


@pytest.mark.parametrize(
    ("answer", "step", "words"),
    [
        ({"a": {"x": 1}}, {"path": "a"}, "is an object with x, not a list; if each of its keys is a row, add key_as"),
        ({"a": [1]}, {"path": "a", "key_as": "k"}, "is a list of 1, not an object, as key_as needs it"),
        ({"a": [1]}, {"path": "a"}, r"rows `a`\[0\] is a number, not an object: name it with value_as"),
        ({"a": {"x": 1}}, {"path": "a", "key_as": "k"}, "is a number, not an object: name it with value_as"),
        ({"a": "text"}, {"path": "a"}, "is text, not a list"),
        ({"a": [1]}, {"path": "abs(a)"}, "cannot be read from the answer"),
    ],
)
def test_what_are_no_rows_is_named(answer: object, step: dict[str, Any], words: str) -> None:
    with pytest.raises(BadAnswer, match=words):
        rows(answer, step)


@pytest.mark.parametrize(
    ("more", "path", "words"),
    [
        ("body: {a: 1}", "", "body has no effect with GET: set method: POST"),
        ("method: PUT", ".method", "'PUT' is not possible: use one of GET, POST"),
        ("{method: POST, body: text}", ".body", "must be a mapping or a list"),
        ("{method: POST, body: {a: 2025-01-01}}", ".body", "put dates in quotes"),
        ("headers: {Authorization: x}", ".headers", "use auth"),
        ("headers: {Host: x}", ".headers", "is set by the exporter"),
        ("headers: {'a b': x}", ".headers.a b", "has characters that are not allowed"),
        ("auth: {type: bearer}", ".auth", "type is missing or not possible: use one of bearer_token, basic, api_key"),
        ("auth: {type: basic, username: a}", ".auth", "needs exactly one of password_env, password_file and password"),
        ("auth: {type: basic, username: a, password: b}", ".auth.password", "a secret does not belong into this file"),
        ("auth: {type: oauth2, client_id: a, client_secret_env: A}", ".auth.token_url", "is missing: add token_url"),
        ("auth: {type: api_key, key_env: A, nam: x}", ".auth.nam", "unknown key: did you mean name?"),
        ("auth: {type: splunk_token, token_env: A}", ".auth", "type is missing or not possible"),
        ("endpoint: ftp://x", ".endpoint", "is no web address"),
        ("endpoint: https://me:pw@x/", ".endpoint", "has a user or password in it"),
        ("tls: {key_file: a}", ".tls", "key_file needs cert_file"),
        ("tls: {ca_file: a, verify: false}", ".tls", "ca_file has no effect"),
        ("proxy: http://me:pw@proxy:1", ".proxy", "a password does not belong into this file"),
        ("proxy: proxy:3128", ".proxy", "is no proxy address"),
        ("{proxy: 'http://p:1', proxy_env: A}", "", "has proxy and proxy_env"),
        ("{time_window: 2m, params: {a: '{time_to}'}, accounts: {type: whitelist}}", ".accounts", "list at least one"),
        ("accounts: {type: blacklist, blacklist: ['a,b']}", ".accounts.blacklist[0]", "has a comma in it"),
        ("{time_window: {length: 2m, longest: 1m, start: last_run}, params: {a: '{time_to}'}}", ".time_window",
         "longest is shorter than length"),
        ("{time_window: {length: 2m, longest: 1h}, params: {a: '{time_to}'}}", ".time_window", "set start: last_run"),
        ("time_window: 30", ".time_window", "30 has no unit"),
        ("{method: POST, body: {a: '{time_from}'}}", "", "add time_window"),
        ("pagination: {type: cursor}", ".pagination.next", "is missing: add next"),
        ("pagination: {type: offset, into: body}", "", "needs method: POST"),
        ("pagination: {type: link, size: 5}", ".pagination.size", "unknown key"),
        ("rows: []", ".rows", ""),
        ("rows: [{path: 'a['}]", ".rows[0].path", "is no JMESPath expression"),
    ],
)  # fmt: skip
def test_mistakes_are_told_where_they_are(more: str, path: str, words: str) -> None:
    given = {"name": "source", "type": "rest_api", "endpoint": "https://api.example", **yaml.safe_load(more)}
    given["metrics"] = [{"source_field": "value", "prometheus_name": "m"}]
    text = yaml.safe_dump({"data_sources": [given]})
    with pytest.raises(ConfigError) as failed:
        parse(text, "c.yaml")
    (problem,) = failed.value.problems
    assert problem.path == f"data_sources[0]{path}"
    assert words in problem.message


def test_every_variable_that_a_collection_reads_is_needed() -> None:
    more = """method: POST
    auth: {type: oauth2, token_url: "https://${A}/", client_id_env: B, client_secret_file: f, token_params: {a: "${C}"}}
    headers: {X: "${D}"}
    params: {p: "${E}"}
    body: {deep: ["${F}", {x: "${G:-default}"}]}
    proxy_env: H"""
    (config,) = parse(SOURCE.format(kind="rest_api", more=more), "c.yaml").sources
    assert set(config.needs()) == set("ABCDEFH")
    more = "auth: {type: basic, username_env: A, password: '${B}'}\n    search: 'index=${C}'\n    proxy: '${D}'"
    (config,) = parse(SOURCE.format(kind="splunk", more=more), "c.yaml").sources
    assert set(config.needs()) == set("ABCD")
