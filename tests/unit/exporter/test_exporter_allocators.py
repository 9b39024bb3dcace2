"""What the exporter tells its allocators, and what it leaves to whoever runs it."""

from __future__ import annotations

import os

import pytest

from exporter.allocators import return_freed_memory


@pytest.mark.parametrize("given", ["", "narenas:1", "dirty_decay_ms:0,muzzy_decay_ms:9"])
def test_freed_memory_is_given_back_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("_RJEM_MALLOC_CONF", given)
    return_freed_memory()
    return_freed_memory()
    settings = os.environ["_RJEM_MALLOC_CONF"].split(",")
    assert settings == ["muzzy_decay_ms:0", "dirty_decay_ms:150", "narenas:1", *filter(None, given.split(","))]
