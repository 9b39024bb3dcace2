from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.collectors.base import SourceConfig
from exporter.collectors.registry import SOURCE_TYPES, config_model
from exporter.config import parse
from exporter.errors import CollectError

DOCS = Path(__file__).parents[3] / "docs"
TEXT = "\n".join(page.read_text() for page in [DOCS / "exporter.md", *sorted(DOCS.glob("sources/*.md"))])
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_valid(example: str) -> None:
    assert parse(example, "docs").sources


def test_every_key_and_reason_is_explained() -> None:
    assert EXAMPLES
    kinds = [config_model(kind) for kind in SOURCE_TYPES if kind in ("database", "rest_api")]
    keys = {key for model in [SourceConfig, *kinds] for key in model.model_fields}
    reasons = {kind.reason for kind in CollectError.__subclasses__()} | {CollectError.reason}
    missing = {word for word in keys | reasons if f"`{word}`" not in TEXT}
    assert missing == set()
