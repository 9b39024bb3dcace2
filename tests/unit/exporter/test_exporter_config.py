from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.collectors.base import SourceConfig
from exporter.collectors.database import DatabaseConfig, target_of_url
from exporter.collectors.rest_api import RestApiConfig
from exporter.config import ExporterConfig, load, notices, parse
from exporter.errors import BadAnswer, ConfigError, Problem

BROKEN = Path(__file__).parent / "broken-config.yaml"
OWNER = Path(__file__).parent / "owner-config.yaml"
SOURCE = """
data_sources:
  - name: payments
    type: database
    url_env: PAYMENTS_URL
    query: SELECT 1
    metrics:
      - source_field: rate
        prometheus_name: sentinel_rate
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "c.yaml")
    return str(caught.value).splitlines()


def only(config: ExporterConfig) -> SourceConfig:
    (source,) = config.sources
    return source


def test_the_owners_example_is_valid_and_says_which_variables_it_needs() -> None:
    config = load(OWNER)
    assert config.server.port == 8000
    assert config.server.host == "127.0.0.1"
    assert [(source.type, source.interval) for source in config.sources] == [
        ("rest_api", 30), ("bigquery", 300), ("database", 300), ("gcs_file", 3600),
    ]  # fmt: skip
    assert config.sources[0].metrics[0].labels == {n: n for n in ("account_id", "merchant_name", "region")}
    environment = dict.fromkeys(["METRIC_PLATFORM_TOKEN", "MYSQL_HOST", "MYSQL_USER", "MYSQL_PASSWORD"], "x")
    assert notices(config, environment) == []
    assert "MYSQL_HOST, MYSQL_USER, MYSQL_PASSWORD" in notices(config, {})[1]


def test_defaults() -> None:
    source = only(parse(SOURCE, "c.yaml"))
    assert isinstance(source, DatabaseConfig)
    assert (source.interval, source.run_timeout, source.stale_after, source.duplicates) == (60, 30, 300, "error")
    assert (source.metrics[0].null, source.metrics[0].type, source.metrics[0].labels) == ("skip", "gauge", {})


def test_all_problems_are_told_at_once_with_line_and_path() -> None:
    found = problems(BROKEN.read_text())
    expected = BROKEN.with_suffix(".txt").read_text().splitlines()
    assert sorted(found) == sorted(expected)
    assert [int(line.split(":")[1]) for line in found] == sorted(int(line.split(":")[1]) for line in found)
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("    url_env: PAYMENTS_URL\n", ""), "needs either connection or url_env"),
        (("url_env: PAYMENTS_URL", "connection: {driver: mysql, database: d, host: h}"), "username is missing"),
        (("url_env: PAYMENTS_URL", "connection: {driver: mysql, database: d, username: u}"), "host is missing"),
        (
            ("url_env: PAYMENTS_URL", "connection: {driver: sqlite, database: d, host: h}"),
            "host has no meaning for sqlite",
        ),
        (
            ("url_env: PAYMENTS_URL", "connection: {driver: mysql, database: d, host: h, host_env: H, username: u}"),
            "host and host_env say the same thing",
        ),
        (("query: SELECT 1", "query: SELECT 1\n    label_defaults: {region: x}"), "label_defaults names region"),
        (("query: SELECT 1", "query: SELECT 1\n    labels: {__name__: x}"), "'__name__' is no label name"),
        (("query: SELECT 1", "query: SELECT 1\n    enabled: maybe"), "enabled: must be true or false"),
        (("query: SELECT 1", "query: SELECT 1\n    max_rows: 0"), "max_rows: "),
        (("name: payments", "name: payments\n    interval: ${NOT_SET_ANYWHERE}"), "NOT_SET_ANYWHERE is not set"),
        (("sentinel_rate", "sentinel_source_up"), "a name that the exporter or Prometheus uses itself"),
        (("sentinel_rate", "sentinel_last_update_timestamp"), "a name that the exporter"),
    ],
)
def test_what_is_wrong_with_a_source(change: tuple[str, str], message: str) -> None:
    assert message in "\n".join(problems(SOURCE.replace(*change)))


def test_names_and_families_must_agree_between_sources() -> None:
    again = SOURCE + SOURCE.replace("data_sources:\n", "")
    (problem,) = problems(again)
    assert problem == (
        "c.yaml:11: data_sources[1].name: another source, in line 3, has the name payments: names must differ"
    )
    twice = SOURCE + "      - {source_field: b, prometheus_name: sentinel_rate}\n"
    assert "metric sentinel_rate stands twice" in problems(twice)[0]
    both = SOURCE.replace("query:", "labels: {region: EU}\n    query:") + "        labels: [region]\n"
    assert "label region is both static and in sentinel_rate" in problems(both)[0]


def test_two_sources_may_feed_one_family_and_are_told_when_samples_could_be_alike() -> None:
    text = SOURCE + SOURCE.replace("data_sources:\n", "").replace("payments", "others")
    config = parse(text, "c.yaml")
    assert [source.name for source in config.enabled] == ["payments", "others"]
    (notice,) = notices(config, {"PAYMENTS_URL": "x"})
    assert notice.startswith("sources payments and others give sentinel_rate the same labels: ")
    for name, region in (("payments", "US"), ("others", "EU")):
        text = text.replace(f"name: {name}", f"name: {name}\n    labels: {{region: {region}}}")
    apart = parse(text, "c.yaml")
    assert notices(apart, {"PAYMENTS_URL": "x"}) == []


def test_two_sources_of_one_histogram_have_the_same_bounds() -> None:
    def two(*bounds: str) -> str:
        text = "data_sources:"
        for name, buckets in zip(("one", "two"), bounds, strict=True):
            source = SOURCE.replace("data_sources:", "").replace("payments", name).partition("metrics:")[0]
            text += f"{source}metrics: [{{prometheus_name: m, type: histogram, count: n, buckets: {{{buckets}}}}}]\n"
        return text

    assert parse(two("a: 0.5, b: 2", "x: 2.0, y: 0.5, n: .inf"), "c.yaml").enabled
    (problem,) = problems(two("a: 0.5, b: 2", "a: 0.5, b: 2.0000001"))
    assert "m has buckets 0.5, 2.0000001, inf here and 0.5, 2.0, inf in source one, line " in problem


def test_no_value_of_a_variable_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISPLACED", "s3cret-value")
    text = SOURCE.replace("name: payments", "name: payments\n    interval: ${MISPLACED}\n    duplicates: ${MISPLACED}")
    assert [line.partition(": ")[2] for line in problems(text)] == [
        "data_sources[0].interval: '***' is no duration: write a number with its unit, such as 30s, 5m, 1h30m or 1d",
        "data_sources[0].duplicates: '***' is not possible: use one of error, first, last, sum, max",
    ]


def test_environment_in_values_is_read_when_loading_and_in_connections_when_collecting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVERY", "90s")
    text = SOURCE.replace("name: payments", "name: payments\n    interval: ${EVERY}\n    timeout: ${NONE:-5s}")
    source = only(parse(text.replace("SELECT 1", "SELECT '${NOT_SET_ANYWHERE}'"), "c.yaml"))
    assert isinstance(source, DatabaseConfig)
    assert (source.interval, source.timeout, source.query) == (90, 5, "SELECT '${NOT_SET_ANYWHERE}'")
    assert source.needs() == ("PAYMENTS_URL", "NOT_SET_ANYWHERE")


def test_time_window_and_placeholders_belong_together() -> None:
    rest = SOURCE.replace("database", "rest_api").replace("url_env: PAYMENTS_URL", "endpoint: http://x/")
    rest = rest.replace("query: SELECT 1", "params: {from: '{time_from}', n: 5, all: true}")
    assert "add time_window" in problems(rest)[0]
    source = only(parse(rest.replace("params", "time_window: 2m\n    params"), "c.yaml"))
    assert isinstance(source, RestApiConfig)
    assert source.params == {"from": "{time_from}", "n": "5", "all": "true"}
    assert (
        "no effect" in problems(rest.replace("params: {from: '{time_from}'", "time_window: 2m\n    params: {a: b"))[0]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "c.yaml:1: is empty or no mapping"),
        ("- a", "is empty or no mapping"),
        ("exporter: [", "c.yaml:1: no valid YAML"),
        ("a: 1\n\tb: 2", "c.yaml:2: no valid YAML"),
        ("exporter: {}\ndata_sources: []", "c.yaml:2: data_sources: has no sources"),
        ("exporter: {}", "c.yaml:1: data_sources: has no sources"),
        ("data_sources: &a [*a]", "contains itself"),
        ("data_sources: !!python/name:os.system x", "no valid YAML"),
        ("a: \x00", "no valid YAML"),
        ("{a: 1}: 2", "a key must be text"),
        ("[" * 900 + "]" * 900, "nested too deeply"),
        ("exporter: 5\ndata_sources: 5", "exporter: must be a mapping"),
    ],
)
def test_files_that_are_no_configuration(text: str, message: str) -> None:
    assert message in "\n".join(problems(text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "latin").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="no UTF-8"):
        load(tmp_path / "latin")


def test_anchors_and_merge_keys_keep_their_lines() -> None:
    text = """
common: &common {type: database, url_env: U, query: q, metrics: [{source_field: a, prometheus_name: m}]}
data_sources:
  - <<: *common
    name: one
  - <<: *common
    name: two
    query: other
    interval: 7
"""
    found = problems(text)
    assert found == [
        "c.yaml:2: common: unknown key: remove it; known here: exporter, data_sources",
        "c.yaml:9: data_sources[1].interval: 7 has no unit: write 7s if seconds are meant",
    ]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    ["exporter", "data_sources", "name", "type", "metrics", "interval", "connection", "labels", "auth"]
)


@given(st.dictionaries(keys, json_like | st.lists(st.dictionaries(keys, json_like, max_size=5), max_size=2)), st.data())
def test_any_document_is_a_configuration_or_a_list_of_problems(document: dict[str, Any], data: st.DataObject) -> None:
    sources = document.get("data_sources")
    for source in sources if isinstance(sources, list) else []:
        if isinstance(source, dict):
            source["type"] = data.draw(st.sampled_from(["database", "rest_api", "bigquery", "gcs_file", "x"]))
    text = yaml.safe_dump(document, allow_unicode=True)
    found: tuple[Problem, ...] = ()
    try:
        parse(text, "c.yaml")
    except ConfigError as error:
        found = error.problems
    lines = len(re.split("\r\n|[\r\n\x85\u2028\u2029]", text))  # as YAML counts them
    assert all(1 <= problem.line <= lines and problem.message for problem in found)


def test_database_urls() -> None:
    target = target_of_url("postgresql+psycopg://us%40er:p%2Fw@db.example:5433/risk?sslmode=require")
    assert (target.driver, target.username, target.password) == ("postgresql", "us@er", "p/w")
    assert (target.place, target.database, target.options) == ("db.example:5433", "risk", "sslmode=require")
    assert target_of_url("sqlite:////var/lib/p.db").database == "/var/lib/p.db"
    assert target_of_url("mysql://root@127.0.0.1:3307/d").port == 3307
    assert "p/w" not in repr(target)


@pytest.mark.parametrize(
    "url", ["oracle://u:hunter2@h/d", "mysql://u:hunter2@h:port/d", "mysql://u:hunter2@h/d?a=b", ""]
)
def test_a_bad_database_url_is_not_shown(url: str) -> None:
    with pytest.raises(BadAnswer) as caught:
        target_of_url(url)
    assert "hunter2" not in str(caught.value)


def two_sources(first: str, second: str) -> str:
    """Two sources with one metric each, in flow style."""
    source = "  - {{name: {}, type: database, url_env: U, query: q, labels: {{of: {}}}, metrics: [{}]}}\n"
    return "data_sources:\n" + source.format("one", "one", first) + source.format("two", "two", second)


ALIKE = "cannot be told from the gauge shop_rate of source one, line 2, in OpenMetrics: rename one"
RATE = "{source_field: a, prometheus_name: shop_rate, help: Share., labels: [shop]}"


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (
            "{source_field: a, prometheus_name: shop_rate, type: stateset, states: [x], labels: [shop]}",
            "type: shop_rate has type stateset here and gauge in source one, line 2: make them agree",
        ),
        (
            "{source_field: a, prometheus_name: shop_rate, help: Ratio., labels: [shop]}",
            "help: shop_rate has help Ratio. here and Share. in source one, line 2: make them agree",
        ),
        (
            "{source_field: a, prometheus_name: shop_rate, labels: [shop, region]}",
            "labels: shop_rate has labels of, region, shop here and of, shop in source one, line 2: make them agree",
        ),
        (
            "{source_field: a, prometheus_name: shop_rate_total, type: counter, labels: [shop]}",
            f"prometheus_name: the counter shop_rate_total {ALIKE}",
        ),
        (
            "{prometheus_name: shop_rate_info, type: info, labels: [shop]}",
            f"prometheus_name: the info shop_rate_info {ALIKE}",
        ),
    ],
)
def test_sources_that_disagree_on_a_family_are_told_with_both_places(second: str, problem: str) -> None:
    assert problems(two_sources(RATE, second)) == [f"c.yaml:3: data_sources[1].metrics[0].{problem}"]


def test_sources_that_agree_on_a_family_may_feed_it() -> None:
    again = "{source_field: b, prometheus_name: shop_rate, labels: {shop: name}}"
    assert len(parse(two_sources(RATE, again), "c.yaml").sources) == 2


def test_metrics_of_one_source_that_openmetrics_cannot_tell_apart() -> None:
    histogram = "{prometheus_name: pay, type: histogram, buckets: {fast: 0.1}, count: n}"
    both = f"{histogram}, {{source_field: n, prometheus_name: pay_count}}"
    (problem,) = problems(two_sources(both, RATE))
    assert "metrics[1].prometheus_name: the gauge pay_count cannot be told from the histogram pay" in problem


def test_columns_are_those_that_metrics_and_filters_read() -> None:
    histogram = (
        "{prometheus_name: pay, type: histogram, buckets: {slow: 1, fast: 0.1}, count: n, sum: s, labels: [shop]}"
    )
    text = two_sources(histogram, RATE).replace(
        "query: q", "filters: [{field: region, operator: in, values: [EU, US]}], query: q"
    )
    one = parse(text, "c.yaml").sources[0]
    assert one.values == ("slow", "fast", "s", "n")
    assert one.columns == ("slow", "fast", "s", "n", "shop", "region")
    assert one.series.filters[0].operands == ("EU", "US")


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ("{field: a, operator: like, value: 1}", "filters[0].operator: 'like' is not possible: use one of ==, !=,"),
        ("{field: a, operator: in, value: 1}", "filters[0]: in needs values"),
        ("{feild: a, operator: is_null}", "filters[0].feild: unknown key: did you mean field?"),
        ("{field: a, operator: '>', value: [1]}", "filters[0].value: must be text, a number, true or false, or a date"),
    ],
)
def test_what_is_wrong_with_a_filter(filters: str, message: str) -> None:
    text = SOURCE.replace("query: SELECT 1", f"query: SELECT 1\n    filters: [{filters}]")
    found = problems(text)
    assert message in "\n".join(found)
    assert {line.partition("filters[0]")[0] for line in found} == {"c.yaml:7: data_sources[0]."}


def test_a_static_label_that_a_metric_type_has_itself() -> None:
    histogram = "{prometheus_name: pay, type: histogram, buckets: {fast: 0.1}, count: n}"
    (problem,) = problems(two_sources(histogram, RATE).replace("{of: one}", "{of: one, le: x}"))
    assert "label le is static, which pay of type histogram has itself: give it another name" in problem
