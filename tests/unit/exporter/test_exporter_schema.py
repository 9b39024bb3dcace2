from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from exporter.collectors.registry import SOURCE_TYPES, config_model
from exporter.located import Located
from exporter.schema import DIALECT, config_schema

ROOT = Path(__file__).parents[3]
OWNER = Path(__file__).parent / "owner-config.yaml"
EXAMPLES = [
    (page.name, example)
    for page in [ROOT / "docs/exporter.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    for example in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    if "data_sources:" in example
]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = config_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def complaints(validator: Draft202012Validator, text: str) -> list[str]:
    """What an editor would underline, in a file as YAML gives it to JSON."""
    data = json.loads(json.dumps(Located(text, "c.yaml").data, default=str))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(data)]


def test_it_is_of_the_dialect_and_has_every_type(validator: Draft202012Validator) -> None:
    schema = validator.schema
    assert schema["$schema"] == DIALECT
    sources = schema["properties"]["data_sources"]["items"]
    assert sources["properties"]["type"]["enum"] == list(SOURCE_TYPES)
    for kind, choice in zip(SOURCE_TYPES, sources["allOf"], strict=True):
        definition = schema["$defs"][choice["then"]["$ref"].rpartition("/")[2]]
        assert set(definition["properties"]) == set(config_model(kind).model_fields)


@pytest.mark.parametrize("text", [OWNER.read_text(), (ROOT / "demo/exporter-config.yaml").read_text()])
def test_the_owners_and_the_demos_files_are_valid(validator: Draft202012Validator, text: str) -> None:
    assert complaints(validator, text) == []


@pytest.mark.parametrize(("page", "example"), EXAMPLES)
def test_examples_of_the_documentation_are_valid(validator: Draft202012Validator, page: str, example: str) -> None:
    assert complaints(validator, example) == []


GOOD: dict[str, Any] = {
    "exporter": {"port": 8000, "log_level": "info", "limits": {"read_timeout": "5s"}},
    "data_sources": [
        {
            "name": "a",
            "type": "database",
            "url_env": "U",
            "query": "SELECT 1",
            "interval": "1h30m",
            "enabled": "${ON:-true}",
            "max_rows": "${MOST}",
            "metrics": [{"source_field": "a", "prometheus_name": "sentinel_a", "labels": ["b"]}],
        }
    ],
}


def changed(path: str, value: object) -> str:
    """GOOD with another value at a dotted path; None removes it."""
    data = deepcopy(GOOD)
    *parents, last = path.split(".")
    at: Any = data
    for part in parents:
        at = at[int(part)] if part.isdigit() else at[part]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return yaml.safe_dump(data)


def test_what_is_right(validator: Draft202012Validator) -> None:
    assert complaints(validator, yaml.safe_dump(GOOD)) == []
    assert complaints(validator, changed("exporter", None)) == []
    assert complaints(validator, changed("data_sources.0.metrics.0.labels", {"x": "b"})) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data_sources", None),
        ("data_sources", []),
        ("sources", []),
        ("exporter.prot", 1),
        ("exporter.port", 70_000),
        ("exporter.log_level", "loud"),
        ("exporter.limits.read_timeout", 5),
        ("data_sources.0.type", "databse"),
        ("data_sources.0.type", None),
        ("data_sources.0.name", None),
        ("data_sources.0.name", "a b"),
        ("data_sources.0.qurey", "x"),
        ("data_sources.0.endpoint", "https://of.another.type"),
        ("data_sources.0.interval", 30),
        ("data_sources.0.interval", "30"),
        ("data_sources.0.interval", "30 seconds"),
        ("data_sources.0.enabled", "maybe"),
        ("data_sources.0.duplicates", "ignore"),
        ("data_sources.0.metrics", []),
        ("data_sources.0.metrics", 5),
        ("data_sources.0.metrics.0.prometheus_name", None),
        ("data_sources.0.metrics.0.null", "skipp"),
        ("data_sources.0.metrics.0.labels", "b"),
    ],
)
def test_what_is_wrong(validator: Draft202012Validator, path: str, value: object) -> None:
    assert complaints(validator, changed(path, value))


def test_a_secret_must_be_a_reference(validator: Draft202012Validator) -> None:
    connection = {"driver": "mysql", "host": "h", "database": "d", "username": "u", "password": "hunter2"}
    assert complaints(validator, changed("data_sources.0.connection", connection))
    reference = connection | {"password": "${PASSWORD}"}
    assert complaints(validator, changed("data_sources.0.connection", reference)) == []


def test_what_is_wrong_is_told_about_the_type_that_is_written(validator: Draft202012Validator) -> None:
    (complaint,) = complaints(validator, changed("data_sources.0.qurey", "x"))
    assert complaint.startswith("$.data_sources[0]: Additional properties are not allowed ('qurey' was unexpected)")


def test_every_common_key_and_every_type_is_described(validator: Draft202012Validator) -> None:
    definitions = validator.schema["$defs"]
    for name in ("ServerConfig", "LimitsConfig", "ServerTlsConfig", "UserConfig", "MetricConfig"):
        for key, schema in definitions[name]["properties"].items():
            assert schema.get("description"), f"{name}.{key}"
    for kind in SOURCE_TYPES:
        definition = definitions[config_model(kind).__name__]
        assert definition["description"]
        for key in ("name", "interval", "duplicates"):
            assert definition["properties"][key].get("description"), f"{kind}.{key}"
    interval = definitions["DatabaseConfig"]["properties"]["interval"]
    assert interval["default"] == "60s"
