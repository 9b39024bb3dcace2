"""The exporters that are measured side by side: how each is told to serve one PostgreSQL table."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LABELS = ("account_id", "merchant_name", "region")
SENTINEL = "sentinel"
VALUES = ("block_rate", "failed_auth_rate", "transaction_count")
QUERY = f"SELECT {', '.join(LABELS + VALUES)} FROM {{table}}"  # noqa: S608 - names of our own


@dataclass(frozen=True, slots=True)
class Job:
    """What a subject has to serve: `table` of the database at `url`, on `port`, with its files in `folder`."""

    url: str
    table: str
    port: int
    folder: Path

    @property
    def query(self) -> str:
        return QUERY.format(table=self.table)


@dataclass(frozen=True, slots=True)
class Subject:
    """`prepare` writes its configuration and gives its command and environment; a sample's line begins with `mark`.

    Tables of more than `most_rows` are not for it.
    """

    name: str
    prepare: Callable[[Job], tuple[list[str], dict[str, str]]]
    mark: bytes
    gzip: bool = True
    most_rows: int | None = None


def sentinel(python: Path) -> Subject:
    """Ours, run by this interpreter with the packages that it has."""

    def prepare(job: Job) -> tuple[list[str], dict[str, str]]:
        config, environment = _sentinel(job)
        return [str(python), "-m", "exporter", "--config", str(config)], environment

    return Subject(SENTINEL, prepare, b"bench_")


def _sentinel(job: Job) -> tuple[Path, dict[str, str]]:
    metrics = [{"source_field": name, "prometheus_name": f"bench_{name}", "labels": list(LABELS)} for name in VALUES]
    source = {
        "name": "bench", "type": "database", "interval": "1h", "timeout": "5m", "max_series": 10_000_000,
        "max_rows": 10_000_000, "url_env": "BENCH_URL", "query": job.query, "metrics": metrics,
    }  # fmt: skip
    config = job.folder / "exporter-config.yaml"
    config.write_text(json.dumps({"exporter": {"port": job.port}, "data_sources": [source]}))
    root = str(Path(__file__).resolve().parent.parent)
    return config, {"BENCH_URL": job.url, "PYTHONPATH": root}


def _sql_exporter(job: Job) -> tuple[list[str], dict[str, str]]:
    query = {"name": "bench", "help": "bench", "labels": list(LABELS), "values": list(VALUES), "query": job.query}
    dsn = job.url.replace("postgresql://", "postgres://") + "?sslmode=disable"
    config = job.folder / "config.yml"
    config.write_text(
        json.dumps({"jobs": [{"name": "bench", "interval": "1h", "connections": [dsn], "queries": [query]}]})
    )
    command = ["prometheus-sql-exporter", "-config.file", str(config), "-web.listen-address", f"127.0.0.1:{job.port}"]
    return command, {"LOGLEVEL": "error"}


def query_exporter(program: Path) -> Subject:
    """query-exporter, installed in an environment of its own."""

    def prepare(job: Job) -> tuple[list[str], dict[str, str]]:
        names = [f"bench_{name}" for name in VALUES]
        columns = ", ".join([*LABELS, *(f"{value} AS bench_{value}" for value in VALUES)])
        config = job.folder / "config.yaml"
        config.write_text(
            json.dumps(
                {
                    "databases": {"bench": {"dsn": job.url.replace("postgresql://", "postgresql+psycopg://")}},
                    "metrics": {name: {"type": "gauge", "labels": list(LABELS)} for name in names},
                    "queries": {
                        "bench": {
                            "databases": ["bench"],
                            "interval": "1h",
                            "metrics": names,
                            "sql": f"SELECT {columns} FROM {job.table}",  # noqa: S608 - names of our own
                        }
                    },
                }
            )
        )
        command = [str(program), "--config", str(config), "-H", "127.0.0.1", "-p", str(job.port), "-L", "error"]
        return command, {}

    # A million series take it minutes a start, and no goal is about them.
    return Subject("query-exporter", prepare, b"bench_", gzip=False, most_rows=100_000)


SQL_EXPORTER = Subject("prometheus-sql-exporter", _sql_exporter, b"sql_bench{")


def static_server(folder: Path, port: int, text: bytes, compressed: bytes) -> list[str]:
    """Command of an nginx that serves the given bytes as /metrics, plain or gzip as it is asked."""
    (folder / "metrics").write_bytes(text)
    (folder / "metrics.gz").write_bytes(compressed)
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(f"""
{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{}}
http {{
  access_log off; sendfile on; default_type text/plain; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}; gzip_static on; }}
}}
""")
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(config), "-p", str(folder)]
