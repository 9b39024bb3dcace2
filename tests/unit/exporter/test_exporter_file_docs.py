"""The pages of the file sources: their examples are valid, and no key is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.collectors.base import SourceConfig
from exporter.collectors.registry import config_model
from exporter.config import notices, parse

DOCS = Path(__file__).parents[3] / "docs/sources"


@pytest.mark.parametrize("kind", ["file", "s3_file", "gcs_file"])
def test_the_page_of_a_file_source(kind: str) -> None:
    text = (DOCS / f"{kind}.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        config = parse(example, f"{kind}.md")
        assert {source.type for source in config.sources} == {kind}
        assert all(word in text for notice in notices(config, {}) for word in re.findall(r"[A-Z_]{5,}", notice))
    keys = config_model(kind).model_fields.keys() - SourceConfig.model_fields.keys()
    assert {key for key in keys if f"`{key}`" not in text} == set()
    assert len(text.splitlines()) <= 120
