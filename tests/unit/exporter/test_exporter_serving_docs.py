from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.config import parse
from exporter.routes import _ROUTES
from exporter.server_config import LimitsConfig, ServerConfig, ServerTlsConfig

TEXT = (Path(__file__).parents[3] / "docs/serving-and-checking.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_valid(example: str) -> None:
    assert parse(example, "docs/serving-and-checking.md").sources


def test_every_path_and_key_is_explained() -> None:
    keys = {key for model in (LimitsConfig, ServerTlsConfig) for key in model.model_fields}
    keys |= ServerConfig.model_fields.keys() - {"host", "port", "warm_start", "tls", "limits"}
    assert {word for word in keys | set(_ROUTES) if f"`{word}" not in TEXT} == set()


def test_defaults_are_those_of_the_code() -> None:
    limits = LimitsConfig()
    for key in ("read_timeout", "send_timeout", "idle_timeout"):
        assert f"| `{key}` | `{getattr(limits, key):g}s` |" in TEXT
    assert f"| `max_connections` | {limits.max_connections} |" in TEXT
