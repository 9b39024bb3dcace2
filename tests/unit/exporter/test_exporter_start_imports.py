"""What a start leaves for later, so that a restarted exporter answers soon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
HEAVY = ("boto3", "botocore", "google", "pyarrow", "grpc", "confluent_kafka", "duckdb", "psycopg", "pymysql")
START = """
import sys
from pathlib import Path
import exporter.__main__
from exporter.app import Exporter
from exporter.config import load
made = Exporter(load(Path(sys.argv[1])))
made.metrics(gzip=False)
print(sorted(sys.modules.keys() & {"polars", "requests"}))
from exporter.collectors.registry import SOURCE_TYPES, config_model
for kind in SOURCE_TYPES:
    config_model(kind)
print(sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[2:])))
"""


def test_a_start_loads_neither_what_only_a_collection_needs_nor_a_check_what_only_a_source_needs(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("WARM", str(tmp_path / "warm")))
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", START, str(config), *HEAVY],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout.split("\n")) == (0, ["[]", "[]", ""]), (run.stdout, run.stderr)
