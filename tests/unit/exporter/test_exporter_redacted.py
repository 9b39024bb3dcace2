from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config import load, parse
from exporter.redacted import config_page, masked

OWNER = Path(__file__).parent / "owner-config.yaml"
METRICS = [{"source_field": "rate", "prometheus_name": "sentinel_rate", "labels": ["account_id"]}]


def shown(source: dict[str, Any], exporter: dict[str, Any] | None = None) -> dict[str, Any]:
    """The only source, as the page shows it."""
    written = {"exporter": exporter or {}, "data_sources": [{"name": "s", "metrics": METRICS} | source]}
    page: dict[str, Any] = yaml.safe_load(config_page(parse(yaml.safe_dump(written), "c.yaml")))
    only: dict[str, Any] = page["data_sources"][0]
    return only | {"exporter": page["exporter"]}


def database(**keys: object) -> dict[str, Any]:
    return {"type": "database", "url_env": "URL", "query": "SELECT 1"} | keys


def rest(**keys: object) -> dict[str, Any]:
    return {"type": "rest_api", "endpoint": "https://h.example/x"} | keys


def holds(shown: Any, written: Any) -> bool:
    """Whether what is written is shown as it is; defaults may stand beside it."""
    if isinstance(written, dict):
        return all(holds(shown.get(key), value) for key, value in written.items())
    if isinstance(written, list):
        return len(shown) == len(written) and all(map(holds, shown, written))
    return bool(shown == written)


def test_the_owners_example_is_shown_as_it_is_written() -> None:
    page = yaml.safe_load(config_page(load(OWNER)))
    assert holds(page, yaml.safe_load(OWNER.read_text()))


def test_defaults_are_shown_as_one_would_write_them() -> None:
    page = shown(database())
    assert (page["enabled"], page["duplicates"], page["interval"]) == (True, "error", "60s")
    assert "timeout" not in page
    assert page["exporter"]["port"] == 8000
    assert page["exporter"]["limits"]["read_timeout"] == "10s"


def test_a_port_from_the_command_line_is_the_one_shown() -> None:
    config = parse(
        yaml.safe_dump({"exporter": {"port": 1}, "data_sources": [database() | {"name": "s", "metrics": METRICS}]}), "c"
    )
    assert yaml.safe_load(config_page(config.listening_on(9)))["exporter"]["port"] == 9


def test_references_stay_and_their_defaults_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDOW", "2m")
    monkeypatch.setenv("ON", "true")
    page = shown(
        rest(
            enabled="${ON}", interval="${WINDOW:-3m}", endpoint="https://${HOST}/api/${KEY}?key=${KEY:-hunter2}&n=1#frag",
            params={"from": "{time_from}", "key": "a${KEY}b"}, time_window="2m",
            auth={"type": "bearer_token", "token": "prefix-${TOKEN}"},
        )
    )  # fmt: skip
    assert (page["enabled"], page["interval"]) == ("${ON}", "${WINDOW:-3m}")
    assert page["endpoint"] == "https://${HOST}/api/${KEY}?key=${KEY:-***}&n=***#***"
    assert page["auth"]["token"] == "***${TOKEN}"
    assert page["params"] == {"from": "{time_from}", "key": "***${KEY}***"}


@pytest.mark.parametrize(
    ("endpoint", "as_shown"),
    [
        ("https://h.example:8443/api/v1/metrics", "https://h.example:8443/api/v1/metrics"),
        ("https://hooks.example/services/T024BE91L/xoxb-1/abc", "https://hooks.example/services/***/***/abc"),
        ("https://h.example/?token", "https://h.example/?***"),
        ("${URL:-https://h.example}/api", "${URL:-***}***"),
    ],
)
def test_addresses(endpoint: str, as_shown: str) -> None:
    assert shown(rest(endpoint=endpoint))["endpoint"] == as_shown


@pytest.mark.parametrize(
    ("query", "as_shown"),
    [
        ("SELECT a, 1 FROM `t`", "SELECT a, 1 FROM `t`"),
        ("SELECT a WHERE k = 'it''s' AND b = \"x\"", "SELECT a WHERE k = '***' AND b = \"***\""),
        ("SELECT '${KEY}', '' -- the key is k1\nFROM t", "SELECT '${KEY}', '' -***-\nFROM t"),
        ("SELECT /* key k1 */ a /* k2 */ FROM t", "SELECT /***/ a /***/ FROM t"),
        ("SELECT /* k1 /* k2 */ k3 */ a FROM t", "SELECT /***/"),
        ("SELECT 'open", "SELECT '***'"),
        ("SELECT $q$secret$q$ FROM t", "SELECT $***$ FROM t"),
        ("SELECT '''a'b''' FROM t", "***"),
        (r"SELECT 'a\' AND k = 'secret'", "***"),
    ],
)
def test_queries(query: str, as_shown: str) -> None:
    assert shown(database(query=query))["query"] == as_shown


def test_texts_that_filters_compare_with_are_hidden_and_numbers_are_not() -> None:
    filters = [
        {"field": "a", "operator": "==", "value": "hunter2"},
        {"field": "b", "operator": "in", "values": ["hunter2", "hunter3"]},
        {"field": "c", "operator": ">", "value": 5},
    ]
    page = shown(database(filters=filters))["filters"]
    assert [each.get("value", each.get("values")) for each in page] == ["***", ["***", "***"], 5]
    assert [each["field"] for each in page] == ["a", "b", "c"]


def test_the_column_of_a_pivots_value_is_shown() -> None:
    assert shown(rest(pivot={"value": "amount"}))["pivot"]["value"] == "amount"


def test_a_metric_has_the_keys_of_its_type_only() -> None:
    assert "cumulative" not in shown(database())["metrics"][0]


def test_the_folder_of_the_warm_start_is_shown() -> None:
    assert shown(database(), {"warm_start": "/var/lib/x"})["exporter"]["warm_start"] == "/var/lib/x"


def test_names_of_variables_and_files_are_no_secrets() -> None:
    connection = {
        "driver": "mysql",
        "host": "db.example",
        "database": "risk",
        "username": "u",
        "password_file": "/run/p",
    }
    page = shown({"type": "database", "connection": connection, "query": "SELECT 1"})
    assert page["connection"] | {"username": "***"} == page["connection"]
    assert {key: page["connection"][key] for key in connection if key != "username"} == {
        key: value for key, value in connection.items() if key != "username"
    }


def test_credentials_of_the_server_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = {"users": [{"username": "prom", "password_env": "P"}], "tokens": [{"token": "x${T}"}]}
    page = shown(database(), {"auth": auth, "tls": {"cert_file": "c.pem", "key_file": "k.pem"}})["exporter"]
    assert page["auth"] == {"users": [{"username": "***", "password_env": "P"}], "tokens": [{"token": "***${T}"}]}
    assert page["tls"] == {"cert_file": "c.pem", "key_file": "k.pem", "min_version": "1.2"}


@settings(max_examples=15)  # four configurations each
@given(st.text("ABCXYZ0123456789$-_.+/=%", min_size=6, max_size=20), st.booleans())
def test_no_text_that_could_be_a_secret_is_shown(random: str, reference: bool) -> None:
    secret = f"K{random.rstrip('$')}"  # before a reference, it would make it a plain text
    text = secret + ("${KEY}" if reference else "")
    quoted = text.replace("'", "")
    sources = [
        rest(endpoint=f"https://h.example/{text}?k={text}", params={"a": text, "b": f"x {text}"}),
        rest(auth={"type": "bearer_token", "token": f"{text}${{KEY}}"}),
        database(query=f"SELECT '{quoted}' FROM t -- {quoted}\n"),
        database(
            connection={"driver": "mysql", "host": "h", "database": "d", "username": text, "password": f"{text}${{K}}"}
        )
        | {"url_env": None},
    ]
    for source in sources:
        assert secret not in str(shown(source))


@given(st.text())
def test_masking_leaves_nothing_but_references(text: str) -> None:
    left = masked(text).replace("***", "")
    for name in ("{time_from}", "{time_to}", "{date}", "{hour}", "{account_ids}"):
        left = left.replace(name, "")
    assert left == "" or left.startswith("${")
