"""What a process loads before it is of use: seconds at each start, and at each `--help`."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("from webhook.__main__ import main; main(['--help'], standalone_mode=False)", {"sqlalchemy", "psycopg"}),
        ("import webhook.app", {"matplotlib"}),
        ("import webhook.worker", {"matplotlib", "openai", "slack_sdk"}),
    ],
)
def test_what_is_heavy_is_loaded_when_it_is_used(statement: str, heavy: set[str]) -> None:
    code = f"{statement}\nimport sys; print('loaded:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.partition("loaded: ")[2].split()) == set()
