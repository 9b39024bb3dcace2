"""The exporter's commands, run in the test's own process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from exporter.__main__ import main


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """The commands set up the process they run in. Of use in each module that imports it."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    structlog.reset_defaults()


def call(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], env=environment, catch_exceptions=False)
