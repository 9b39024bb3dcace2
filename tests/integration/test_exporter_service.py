"""The exporter as it is started: its command line, its pages, its logs, and a real Prometheus that scrapes it."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from exporter_commands import as_it_was, call
from exporter_parts import Scraped, running
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from servers import answers, listens, wait_for
from servers_http import Answer, Api, api_server

from exporter.app import Exporter
from exporter.config import load, parse

__all__ = ["as_it_was"]  # a fixture
OWNER = Path(__file__).parents[1] / "unit/exporter/owner-config.yaml"
COMMAND = (sys.executable, "-m", "exporter")
ROOT = Path(__file__).parents[2]
ROWS = 300


@pytest.fixture
def payments(tmp_path: Path) -> Path:
    file = tmp_path / "payments.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE payments (account_id TEXT, merchant_name TEXT, rate REAL, count INTEGER)")
        connection.executemany(
            "INSERT INTO payments VALUES (?, ?, ?, ?)",
            [(f"acc_{i:04}", f'Shop "{i}" \\ é\n', 1 / (i + 1), i * 10**12) for i in range(ROWS)],
        )
        connection.commit()
    return file


def source(file: Path, name: str = "payments") -> str:
    return f"""
- name: {name}
  type: database
  interval: 1h
  labels: {{source_system: {name}}}
  connection: {{driver: sqlite, database: {file}}}
  query: SELECT * FROM payments
  metrics:
    - {{source_field: rate, prometheus_name: sentinel_block_rate, labels: [account_id, merchant_name], help: Share.}}
    - {{source_field: count, prometheus_name: sentinel_transaction_count, labels: [account_id]}}
"""


@contextlib.contextmanager
def started(arguments: Sequence[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=output, stderr=output, cwd=ROOT, env=os.environ | environment
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def config_file(folder: Path, sources: str, port: int = 0) -> Path:
    file = folder / "exporter-config.yaml"
    file.write_text(f"exporter: {{port: {port}, log_level: DEBUG}}\ndata_sources:\n{sources}")
    return file


def test_check_accepts_the_owners_example_unchanged() -> None:
    """The one that is run as a process of its own."""
    environment = {"METRIC_PLATFORM_TOKEN": "t", "MYSQL_HOST": "h", "MYSQL_USER": "u", "MYSQL_PASSWORD": "p"}
    done = subprocess.run(
        [*COMMAND, "check", str(OWNER)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{OWNER}: ok, 4 sources, 5 metrics"]


def test_check_tells_all_errors_and_exits_with_1(tmp_path: Path) -> None:
    file = config_file(tmp_path, "- {name: a, type: databse}\n- {name: b, type: rest_api}\n")
    types = "use one of database, rest_api, bigquery, file, gcs_file, s3_file, kafka, splunk"
    for arguments in (["check", str(file)], ["--config", str(file)], ["run", "--config", str(file)]):
        done = call(*arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.splitlines() == [
            f"{file}:3: data_sources[0].type: 'databse' is not possible, did you mean database: {types}",
            f"{file}:4: data_sources[1].metrics: is missing: add metrics",
            f"{file}:4: data_sources[1].endpoint: is missing: add endpoint",
        ]


def test_a_taken_port_is_one_line_and_exit_code_2(tmp_path: Path, payments: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = call("--config", str(config_file(tmp_path, source(payments), port)))
    line = f"sentinel-exporter: cannot listen on 127.0.0.1:{port}: Address already in use; choose another with --port\n"
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", line)


def test_without_a_configuration_the_usage_is_shown() -> None:
    done = call()
    assert done.exit_code == 2
    assert "--config FILE is missing" in done.stderr


def test_port_override_json_logs_and_a_quick_clean_stop(
    tmp_path: Path, payments: Path, free_port: Callable[[], int]
) -> None:
    port, log = free_port(), tmp_path / "log"
    hung = f"""
- name: hung
  type: database
  connection: {{driver: sqlite, database: {payments}}}
  timeout: 1h
  query: WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS i FROM n
  metrics: [{{source_field: i, prometheus_name: sentinel_i}}]
"""
    file = config_file(tmp_path, source(payments) + hung, port=1)
    with started(["--config", str(file)], log, SENTINEL_EXPORTER_PORT=str(port)) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(url + "/-/healthy"), what="healthy", timeout=60)
        wait_for(lambda: "acc_0299" in requests.get(url + "/metrics", timeout=60).text, what="collected", timeout=60)
        assert requests.get(url + "/-/ready", timeout=60).status_code == 503
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["exporter started", "collected", "exporter stopped"]
    assert lines[1] | {"timestamp": 0, "seconds": 0} == {
        "source": "payments", "rows": ROWS, "series": 2 * ROWS, "event": "collected", "level": "debug",
        "timestamp": 0, "seconds": 0,
    }  # fmt: skip


@pytest.mark.parametrize("reads_on", [True, False])
def test_a_stop_waits_for_a_scrape_in_progress_but_not_for_ever(
    payments: Path, monkeypatch: pytest.MonkeyPatch, reads_on: bool
) -> None:
    size = 40_000_000
    monkeypatch.setattr("exporter.app._LAST_ANSWERS", 3600.0 if reads_on else 0.5)
    monkeypatch.setattr(Exporter, "metrics", lambda *_, **__: [b"#" + b"x" * (size - 2) + b"\n"])
    exporter = Exporter(parse(f"exporter: {{port: 0}}\ndata_sources:\n{source(payments)}", "test.yaml"))
    exporter.start()
    host, port = exporter._server.server_address[:2]
    with socket.create_connection((str(host), int(port)), timeout=60) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        client.recv(1000, socket.MSG_PEEK)
        stop = threading.Thread(target=exporter.stop)
        stop.start()
        wait_for(lambda: not listens(int(port)), what="no more connections", timeout=60)
        if reads_on:
            stop.join(0.2)
            assert stop.is_alive(), "the process would end, and the answer with it"
        received = 0
        while reads_on and received < size:
            received += len(client.recv(1 << 20))
        stop.join()
        assert (received >= size) == reads_on


def test_self_metrics_say_when_and_how_much(payments: Path) -> None:
    before = time.time()
    with running(source(payments)) as exporter:
        scraped = exporter.tried()
    assert before <= (scraped.value("sentinel_last_update_timestamp", source="payments") or 0) <= time.time()
    assert scraped.value("sentinel_source_last_success_timestamp_seconds", source="payments") == scraped.value(
        "sentinel_last_update_timestamp", source="payments"
    )
    assert scraped.value("sentinel_source_rows", source="payments") == ROWS
    assert scraped.value("sentinel_source_series", source="payments") == 2 * ROWS
    passed = time.time() - before
    assert 0 < (scraped.value("sentinel_source_collect_duration_seconds", source="payments") or 0) < passed
    assert 0 <= (scraped.value("sentinel_source_age_seconds", source="payments") or -1) < passed
    assert scraped.samples["process_cpu_seconds_total"]
    assert scraped.samples["sentinel_exporter_build_info"]


def test_http(payments: Path) -> None:
    with running(source(payments)) as exporter:
        exporter.tried()
        plain = exporter.get("/metrics", **{"Accept-Encoding": "identity"})
        assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "Content-Encoding" not in plain.headers
        with requests.get(exporter.exporter.url + "/metrics", stream=True, timeout=60) as zipped:
            raw = zipped.raw.read(decode_content=False)
        assert zipped.headers["Content-Encoding"] == "gzip"
        assert len(raw) < len(plain.content) / 4
        one_member = zlib.decompressobj(wbits=31)
        text = one_member.decompress(raw)
        assert one_member.eof
        assert one_member.unused_data == b""
        assert text == gzip.decompress(raw)
        assert (
            Scraped(text.decode()).samples["sentinel_block_rate"] == Scraped(plain.text).samples["sentinel_block_rate"]
        )
        assert requests.head(exporter.exporter.url + "/metrics", timeout=60).headers["Content-Length"]
        assert exporter.get("/absent").status_code == 404
        assert requests.post(exporter.exporter.url + "/metrics", timeout=60).status_code == 405


def test_real_promtool_accepts_the_whole_scrape(payments: Path) -> None:
    with running(source(payments)) as exporter:
        text = exporter.tried().text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    complaints = (done.stdout + done.stderr).splitlines()
    assert done.returncode in (0, 3), complaints  # 3: valid, but named against the custom
    assert [line for line in complaints if not line.startswith("sentinel_transaction_count ")] == []


def test_the_status_page_escapes_what_sources_say() -> None:
    with api_server() as server:
        server.answer = lambda _: Answer(404, body="<script>alert(1)</script>")
        config = f"""
        - name: api
          type: rest_api
          endpoint: {server.url}/x
          metrics: [{{source_field: a, prometheus_name: sentinel_a}}]
        """
        with running(config) as exporter:
            exporter.tried()
            page = exporter.get("/")
    assert page.text.count("<script>") == 1
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_a_scrape_of_some_families_and_sources(payments: Path) -> None:
    with running(source(payments) + source(payments, "again")) as exporter:
        exporter.tried()

        def scraped(query: str, form: str = "text/plain") -> tuple[str, Scraped]:
            answer = exporter.get(f"/metrics?{query}", Accept=form)
            return answer.text, Scraped(answer.text.removesuffix("# EOF\n"))

        _, one = scraped("name[]=sentinel_block_rate&name[]=sentinel_source_up")
        assert {name: len(found) for name, found in one.samples.items()} == {
            "sentinel_block_rate": 2 * ROWS, "sentinel_source_up": 2,
        }  # fmt: skip
        _, again = scraped("source[]=again")
        assert {name: len(found) for name, found in again.samples.items()} == {
            "sentinel_block_rate": ROWS, "sentinel_transaction_count": ROWS,
        }  # fmt: skip
        assert {dict(labels)["source_system"] for labels in again.samples["sentinel_block_rate"]} == {"again"}
        assert scraped("source[]=again&name[]=sentinel_transaction_count")[1].samples.keys() == {
            "sentinel_transaction_count"
        }
        assert scraped("name[]=sentinel_source_collections_total")[0].startswith(
            "# HELP sentinel_source_collections_total "
        )
        for nothing in ("name[]=absent", "source[]=absent", "source[]=again&name[]=sentinel_source_up"):
            assert scraped(nothing)[0] == ""
            assert scraped(nothing, "application/openmetrics-text")[0] == "# EOF\n"
        text, _ = scraped("", "application/openmetrics-text;version=1.0.0")
        families = {family.name: family for family in openmetrics(text)}
        assert len(families["sentinel_block_rate"].samples) == 2 * ROWS
        assert {family.type for family in families.values()} >= {"gauge", "counter"}


def test_the_configuration_is_shown_and_reloaded_over_http(tmp_path: Path, payments: Path) -> None:
    file = config_file(tmp_path, source(payments))
    exporter = Exporter(load(file), load=lambda: load(file))
    exporter.start()
    with contextlib.ExitStack() as stack:
        stack.callback(exporter.stop)
        url = exporter.url
        wait_for(lambda: answers(url + "/-/ready"), what="ready", timeout=60)
        page = yaml.safe_load(requests.get(url + "/config", timeout=60).text)
        assert (page["exporter"]["port"], page["data_sources"][0]["name"]) == (0, "payments")
        config_file(tmp_path, source(payments) + source(payments, "second"))
        done = requests.post(url + "/-/reload", timeout=60)
        assert (done.status_code, done.text) == (200, "reloaded, sources: 1 kept, 0 changed, 1 added, 0 removed\n")
        wait_for(lambda: 'source_system="second"' in requests.get(url + "/metrics", timeout=60).text, what="collected")
        assert len(yaml.safe_load(requests.get(url + "/config", timeout=60).text)["data_sources"]) == 2
        file.write_text("data_sources: []\n")
        refused = requests.post(url + "/-/reload", timeout=60)
        assert refused.status_code == 500
        assert f"{file}:1: data_sources: has no sources" in refused.text
        assert 'source_system="second"' in requests.get(url + "/metrics", timeout=60).text


SECRETS = {
    "API_TOKEN": "sk-api-9Z&x/+=~",
    "DB_PASSWORD": "pg-pass-'quoted\"",
    "DB_URL": "postgresql://reader:url%2Fpass-7Q@127.0.0.1:1/risk",
    "QUERY_SECRET": "query-secret-5K",
}


def leaking_sources(server: Api, file: Path) -> str:
    """Sources that fail in every way that could show a secret."""
    metrics = "metrics: [{source_field: a, prometheus_name: sentinel_%s}]"
    return f"""
- {{name: echo, type: rest_api, interval: 1h, endpoint: "{server.url}/echo?key=${{QUERY_SECRET}}",
    auth: {{type: bearer_token, token_env: API_TOKEN}}, {metrics % "echo"}}}
- {{name: template, type: rest_api, interval: 1h, endpoint: "{server.url}/echo",
    auth: {{type: bearer_token, token: "${{QUERY_SECRET}}"}}, {metrics % "template"}}}
- {{name: filed, type: rest_api, interval: 1h, endpoint: "{server.url}/echo",
    auth: {{type: bearer_token, token_file: {file}}}, {metrics % "filed"}}}
- {{name: lines, type: rest_api, interval: 1h, endpoint: "{server.url}/echo",
    auth: {{type: bearer_token, token_file: {file}.two}}, {metrics % "lines"}}}
- {{name: url, type: database, interval: 1h, timeout: 60s, url_env: DB_URL, query: SELECT 1, {metrics % "url"}}}
- {{name: password, type: database, interval: 1h, timeout: 60s, query: SELECT 1, {metrics % "password"},
    connection: {{driver: postgresql, host: 127.0.0.1, port: 1, database: d, username: u, password_env: DB_PASSWORD}}}}
- {{name: query, type: database, interval: 1h, query: "SELECT ${{QUERY_SECRET}} FROM x", {metrics % "query"},
    connection: {{driver: sqlite, database: ":memory:"}}}}
"""


def test_no_secret_is_in_any_log_page_or_metric(tmp_path: Path, free_port: Callable[[], int]) -> None:
    token_file, log, port = tmp_path / "token", tmp_path / "log", free_port()
    token_file.write_text("filed-token-3J\n")
    Path(f"{token_file}.two").write_text("first-line-3J\nsecond-line-3J\n")
    secrets = [
        *(SECRETS[name] for name in SECRETS if name != "DB_URL"),
        "filed-token-3J",
        "first-line-3J",
        "second-line-3J",
        "url/pass-7Q",
        "url%2Fpass-7Q",
    ]
    with api_server() as server:
        server.answer = lambda r: Answer(400, body=f"{'.' * 60} {r.headers.get('Authorization')} {r.params}")
        file = config_file(tmp_path, leaking_sources(server, token_file))
        checked = call("check", str(file), **SECRETS)
        assert checked.exit_code == 0, checked.stderr
        with started(["--config", str(file), "--port", str(port)], log, **SECRETS) as process:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(url + "/-/ready"), what="every source tried", timeout=60)
            shown = [requests.get(url + path, timeout=60).text for path in ("/", "/metrics", "/config")]
            process.terminate()
            process.wait(60)
        assert "Bearer sk-api-9Z" in str(next(r.headers for r in server.requests if r.params))
    shown += [log.read_text(), checked.stdout, checked.stderr]
    assert shown[3].count("collection failed") == 7
    failed = {line["source"]: line for line in map(json.loads, shown[3].splitlines()) if "reason" in line}
    assert {name: line["reason"] for name, line in failed.items()} == {
        "echo": "bad_answer", "template": "bad_answer", "filed": "bad_answer",
        "lines": "secret", "url": "unreachable", "password": "unreachable", "query": "query",
    }  # fmt: skip
    parts = [secret[:8] for secret in secrets]
    for text in shown:
        assert [part for part in parts if part in text] == []


def test_real_prometheus_scrapes_exact_values_with_gzip(
    tmp_path: Path, payments: Path, run_prometheus: Callable[..., str]
) -> None:
    with running(source(payments) + source(payments, "again")) as exporter:
        scraped = exporter.tried()
        config = tmp_path / "prometheus.yml"
        target = exporter.exporter.url.removeprefix("http://")
        config.write_text(
            "global: {scrape_interval: 1s}\nscrape_configs:\n"
            f"  - {{job_name: sentinel-exporter, static_configs: [{{targets: ['{target}']}}]}}\n"
        )
        prometheus = run_prometheus(config)

        def query(expression: str) -> list[dict[str, Any]]:
            answer = requests.get(prometheus + "/api/v1/query", params={"query": expression}, timeout=60).json()
            result: list[dict[str, Any]] = answer["data"]["result"]
            return result

        wait_for(lambda: query("sentinel_transaction_count"), what="scraped")
        assert query("up")[0]["value"][1] == "1"
        known = {"account_id", "merchant_name", "source_system"}
        found = {
            frozenset((name, value) for name, value in series["metric"].items() if name in known): series["value"][1]
            for series in query("sentinel_block_rate")
        }
        want = scraped.samples["sentinel_block_rate"]
        assert len(want) == 2 * ROWS
        assert {labels: float(value) for labels, value in found.items()} == want
        assert float(query("scrape_samples_scraped")[0]["value"][1]) >= 4 * ROWS
        health = {series["metric"]["source"]: series["value"][1] for series in query("sentinel_source_up")}
        assert health == {"payments": "1", "again": "1"}
