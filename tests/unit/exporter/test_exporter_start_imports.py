"""What a start leaves for later, so that a restarted exporter answers soon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CONFIG = """
exporter: {host: 127.0.0.1, port: 0, warm_start: WARM}
data_sources:
  - name: payments
    type: database
    connection: {driver: sqlite, database: payments.sqlite}
    query: SELECT account_id, rate FROM rates
    metrics:
      - {source_field: rate, prometheus_name: sentinel_block_rate, labels: [account_id]}
"""
START = """
import sys
from pathlib import Path
import exporter.__main__
from exporter.app import Exporter
from exporter.config import load
made = Exporter(load(Path(sys.argv[1])))
made.metrics(gzip=False)
print(*(name for name in sys.argv[2:] if name in sys.modules))
"""


@pytest.mark.parametrize("library", ["polars", "requests"])
def test_an_exporter_of_databases_answers_before_it_loads_what_only_a_collection_needs(
    tmp_path: Path, library: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("WARM", str(tmp_path / "warm")))
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", START, str(config), library],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr
