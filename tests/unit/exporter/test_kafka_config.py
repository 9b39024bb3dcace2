"""The configuration of a Kafka source, and its page in the documentation."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from exporter.collectors.base import Collection
from exporter.collectors.kafka import KafkaConfig, SaslConfig, TlsConfig
from exporter.config import parse
from exporter.environment import Secrets
from exporter.mapping.conversion import PLAIN

PAGE = (Path(__file__).parents[3] / "docs/sources/kafka.md").read_text()
METRIC = {"source_field": "amount", "prometheus_name": "sentinel_amount", "labels": ["account_id"]}


def config(**keys: Any) -> KafkaConfig:
    whole = {"name": "payments", "type": "kafka", "brokers": "kafka:9092", "topic": "payments", "metrics": [METRIC]}
    return KafkaConfig.model_validate(whole | keys)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"metrics": [METRIC | {"aggregate": "sum"}]}, "sentinel_amount is a sum: add window, such as 5m"),
        ({"window": "5m"}, "window has no effect"),
        ({"metrics": [METRIC | {"aggregate": "sum"}], "window": "5m", "expire_after": "1m"}, "shorter than window"),
        ({"metrics": []}, "is empty: add at least one"),
        ({"metrics": [METRIC | {"aggregate": "median"}]}, "Input should be 'latest', 'sum'"),
        ({"metrics": [METRIC | {"aggregate": "count", "parse": "bool"}], "window": "5m"}, "parse has no meaning"),
        (
            {
                "metrics": [METRIC | {"aggregate": "sum", "type": "counter", "prometheus_name": "amount_total"}],
                "window": "5m",
            },
            "aggregate: sum has no meaning for type counter: it gives a gauge",
        ),
        (
            {
                "metrics": [METRIC | {"aggregate": "sum"}], "window": "5m",
                "filters": [{"field": "kind", "operator": "==", "value": "card"}],
            },
            "filters has kind, which is no label",
        ),
        (
            {"metrics": [METRIC, METRIC | {"prometheus_name": "sentinel_all", "labels": []}]},
            "sentinel_amount and sentinel_all have different labels",
        ),
        ({"topic": "no such/topic"}, "topic"),
        ({"rows": "["}, "is no JMESPath expression"),
        ({"sasl": {"mechanism": "PLAIN", "username": "u"}}, "password is missing"),
        ({"sasl": {"mechanism": "PLAIN", "username": "u", "password": "plain"}}, "a secret does not belong"),
        ({"sasl": {"mechanism": "PLAIN", "password_env": "P"}}, "username is missing"),
        ({"sasl": {"mechanism": "PLAIN", "username_env": "U", "username": "u", "password_env": "P"}}, "say the same"),
        ({"tls": {"cert_file": "c.pem"}}, "cert_file and key_file belong together"),
        ({"tls": {"key_password_env": "P"}}, "no effect without key_file"),
    ],
)  # fmt: skip
def test_mistakes_are_told(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        config(**keys)


def test_variables_that_a_collection_needs() -> None:
    sasl = {"mechanism": "PLAIN", "username_env": "KAFKA_USER", "password": "${KAFKA_PASSWORD}"}
    tls = {"cert_file": "c", "key_file": "k", "key_password_env": "KEY_PASSWORD"}
    needs = config(brokers=["${BROKER}:9092", "b:9092"], instance="${POD}", sasl=sasl, tls=tls).needs()
    assert needs == ("BROKER", "POD", "KAFKA_USER", "KAFKA_PASSWORD", "KEY_PASSWORD")


def test_data_outlasts_the_session_of_a_member_that_died() -> None:
    assert config(interval="5s").stale_after == 50
    assert config(interval="30s").stale_after == 150
    assert config(interval="5s", max_staleness="20s").stale_after == 20


def test_the_client_is_told_of_its_instance() -> None:
    collection = Collection(datetime.now(UTC), 0, Secrets({"POD": "sentinel-0"}))
    assert config(instance="${POD}").settings(collection)["group.instance.id"] == "sentinel-0"
    assert "group.instance.id" not in config().settings(collection)


def test_a_trial_is_another_group_and_no_instance() -> None:
    whole = config(instance="one")
    trial = whole.for_trial()
    assert trial.group_id.startswith("sentinel-payments-test-")
    assert (trial.instance, trial.commits, whole.commits) == (None, False, True)


def test_labels_of_other_names_are_the_same_label_sets() -> None:
    assert config(metrics=[METRIC, METRIC | {"prometheus_name": "b", "labels": {"account": "account_id"}}])


def test_metrics_of_one_field_read_a_column_each() -> None:
    metrics = [METRIC, METRIC | {"prometheus_name": "sentinel_amount_sum", "aggregate": "sum"}]
    found = config(metrics=metrics, window="5m")
    assert [metric.source_field for metric in found.series.metrics] == ["amount", "sum(amount)"]
    assert (found.expires, found.group_id, config().expires) == (300, "sentinel-payments", 300)


def test_an_aggregate_is_of_converted_values() -> None:
    spent = {"source_field": "spent", "prometheus_name": "spent_seconds", "aggregate": "max", "parse": "duration"}
    found = config(metrics=[spent, spent | {"prometheus_name": "spent", "unit": "ms"}], window="5m")
    assert list(found.state.columns) == ["max(spent as spent_seconds)", "max(spent as spent)"]
    assert [how.unit for how in found.state.conversions.values()] == [None, "ms"]
    assert [metric.conversion for metric in found.series.metrics] == [PLAIN, PLAIN]


def test_every_column_of_every_type_of_metric_is_kept() -> None:
    histogram = {
        "type": "histogram", "prometheus_name": "sentinel_latency_seconds", "buckets": {"fast": 0.1, "all": "+Inf"},
        "sum": "spent", "labels": ["account_id"],
    }  # fmt: skip
    info = {"type": "info", "prometheus_name": "sentinel_account_info", "labels": ["account_id", "tier"]}
    filters = [{"field": "enabled", "operator": "==", "value": True}, {"field": "tier", "operator": "!=", "value": "x"}]
    found = config(metrics=[histogram, info], filters=filters, duplicates="max")
    assert found.decoding.labels == ("account_id", "tier")
    assert found.decoding.latest == ("fast", "all", "spent", "enabled")
    assert not found.decoding.needs_value


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_of_the_page_are_valid(example: str) -> None:
    assert parse(example, "kafka.md").sources


def test_the_page_explains_every_key() -> None:
    assert PAGE.startswith("# ")
    assert len(PAGE.splitlines()) <= 120
    own = set(KafkaConfig.model_fields) - set(KafkaConfig.__base__.model_fields)  # type: ignore[union-attr]
    keys = own | set(SaslConfig.model_fields) | set(TlsConfig.model_fields) | {"aggregate"}
    assert {key for key in keys if f"`{key}`" not in PAGE} == set()
