"""`check`, `schema` and `test-source`, as they are called."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
import yaml
from exporter_commands import as_it_was, call
from exporter_parts import running
from served_site import FakeSite, serving
from servers import wait_for
from servers_http import Answer, Api, api_server

from exporter.environment import Secrets
from exporter.errors import Unreachable
from exporter.running_exporter import served
from exporter.server_config import ServerConfig

__all__ = ["as_it_was"]  # a fixture
ROOT = Path(__file__).parents[2]
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS rate FROM n"


@pytest.fixture
def payments(tmp_path: Path) -> Path:
    file = tmp_path / "payments.db"
    execute(file, "CREATE TABLE payments (account_id TEXT, rate REAL, note TEXT)")
    for number in range(20):
        execute(file, f"INSERT INTO payments VALUES ('acc_{number:02}', {number / 4}, 'n')")
    return file


def execute(file: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
        connection.commit()


def source(file: Path, **keys: object) -> dict[str, object]:
    return {
        "name": "payments",
        "type": "database",
        "interval": "1h",
        "connection": {"driver": "sqlite", "database": str(file)},
        "query": "SELECT * FROM payments",
        "metrics": [{"source_field": "rate", "prometheus_name": "sentinel_rate", "labels": ["account_id"]}],
    } | keys


def config(folder: Path, *sources: dict[str, object], **exporter: object) -> Path:
    file = folder / "exporter-config.yaml"
    file.write_text(yaml.safe_dump({"exporter": {"port": 1} | exporter, "data_sources": list(sources)}))
    return file


def test_several_files_are_checked_at_once(tmp_path: Path, payments: Path) -> None:
    good, bad = config(tmp_path, source(payments)), tmp_path / "bad.yaml"
    bad.write_text("data_sources: []\n")
    done = call("check", good, bad)
    assert done.exit_code == 1
    assert done.stdout == f"{good}: ok, 1 sources, 1 metrics\n"
    assert "data_sources: has no sources" in done.stderr


def test_the_server_needs_its_variables(tmp_path: Path, payments: Path) -> None:
    file = config(tmp_path, source(payments), auth={"tokens": [{"token_env": "SCRAPE_TOKEN_OF_NOBODY"}]})
    done = call("check", file)
    assert "warning: exporter.auth: needs SCRAPE_TOKEN_OF_NOBODY, which is not set" in done.stdout
    refused = call("--config", file)
    assert refused.exit_code == 2
    assert refused.stderr == (
        "sentinel-exporter: exporter.auth: environment variable SCRAPE_TOKEN_OF_NOBODY is not set\n"
    )


def test_a_run_shows_rows_series_and_exposition(tmp_path: Path, payments: Path) -> None:
    done = call("test-source", config(tmp_path, source(payments, enabled=False)), "payments", "--rows", "2")
    assert (done.exit_code, done.stderr) == (0, "")
    text = done.stdout
    assert "collected 20 rows in " in text
    assert "20 series rendered in " in text
    assert "rows (the first 2 of 20):" in text
    assert "│ 0.25 ┆ acc_01" in text
    assert "acc_02     │" not in text
    assert "fields that no metric reads: note" in text
    assert "\n  sentinel_rate  gauge              20\n" in text
    assert '\n  sentinel_rate{account_id="acc_02"} 0.5\n  … and 17 more\n' in text
    assert "not compared: http://127.0.0.1:1 does not answer: Connection refused" in text
    full = call("test-source", tmp_path / "exporter-config.yaml", "payments", "--full", "--no-compare").stdout
    assert full.count("sentinel_rate{") == 20
    assert "compared" not in full


def test_the_difference_to_what_runs(tmp_path: Path, payments: Path) -> None:
    file = config(tmp_path, source(payments))
    with running(yaml.safe_dump([source(payments)])) as exporter:
        exporter.tried()
        url = exporter.exporter.url
        same = call("test-source", file, "payments", "--against", url).stdout
        assert f"difference to what {url} serves:\n  none: every series is there" in same
        execute(payments, "DELETE FROM payments WHERE account_id < 'acc_02'")
        execute(payments, "UPDATE payments SET rate = 9 WHERE account_id = 'acc_02'")
        execute(payments, "INSERT INTO payments VALUES ('acc_77', 1, '')")
        metrics = [
            {"source_field": "rate", "prometheus_name": "sentinel_rate", "labels": ["account_id"]},
            {"source_field": "rate", "prometheus_name": "sentinel_other", "labels": ["account_id"]},
        ]
        changed = call("test-source", config(tmp_path, source(payments, metrics=metrics)), "payments", "--against", url)
        assert "sentinel_rate: 1 new, 2 gone, 1 changed; 20 there, 19 here" in changed.stdout
        assert 'new      sentinel_rate{account_id="acc_77"} 1.0' in changed.stdout
        assert 'changed  sentinel_rate{account_id="acc_02"} 0.5 -> 9.0' in changed.stdout
        assert "sentinel_other: new, 19 series" in changed.stdout
        fresh = call("test-source", config(tmp_path, source(payments, name="fresh")), "fresh", "--against", url)
        assert f"{url} serves nothing of this source yet" in fresh.stdout


def test_no_secret_is_shown_not_even_a_part_of_one(tmp_path: Path, payments: Path) -> None:
    secret = "sekret-" + "0123456789abcdef" * 4
    metrics = [{"source_field": "rate", "prometheus_name": "sentinel_rate", "labels": ["account_id", "token"]}]
    query = "SELECT *, 'x' || '${TOKEN}' AS token FROM payments"
    file = config(tmp_path, source(payments, query=query, metrics=metrics))
    done = call("test-source", file, "payments", "--full", "--no-compare", TOKEN=secret)
    assert done.exit_code == 0
    assert "sekret" not in done.output
    assert 'token="x***"' in done.output
    failed = call("test-source", config(tmp_path, source(payments, query="SELECT ${TOKEN}")), "payments", TOKEN=secret)
    assert failed.exit_code == 3
    assert "sekret" not in failed.output


def test_a_terminal_is_not_steered_by_data(tmp_path: Path, payments: Path) -> None:
    execute(payments, "INSERT INTO payments VALUES ('\x1b[2Jevil', 1, '')")
    query = "SELECT * FROM payments ORDER BY account_id"
    done = call("test-source", config(tmp_path, source(payments, query=query)), "payments", "--no-compare")
    assert "\x1b" not in done.output
    assert r"\x1b[2Jevil" in done.output


def test_exit_codes_say_whose_fault_it_is(tmp_path: Path, payments: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("data_sources: [{name: a, type: databse}]\n")
    wrong = call("test-source", broken, "a")
    assert wrong.exit_code == 1
    assert "did you mean database" in wrong.stderr
    file = config(tmp_path, source(payments))
    unknown = call("test-source", file, "paiments")
    assert unknown.exit_code == 2
    assert "did you mean payments?" in unknown.stderr
    assert call("test-source", file).exit_code == 2
    alone = call("test-source", file, "payments", "--against", "http://127.0.0.1:1")
    assert alone.exit_code == 3
    assert "not compared: http://127.0.0.1:1 does not answer" in alone.stderr
    no_url = call("test-source", file, "payments", "--against", "foo:123")
    assert no_url.exit_code == 2
    assert "begin it with http:// or https://" in no_url.stderr
    failed = call("test-source", config(tmp_path, source(payments, query="SELECT absent FROM payments")), "payments")
    assert (failed.exit_code, failed.stdout) == (3, "")
    assert failed.stderr.startswith("payments: query: ")
    assert "no such column: absent" in failed.stderr
    assert "hint: try the query in the source's own console" in failed.stderr


def test_a_query_without_end_is_cancelled_at_its_timeout(tmp_path: Path, payments: Path) -> None:
    done = call("test-source", config(tmp_path, source(payments, query=ENDLESS, timeout="500ms")), "payments")
    assert done.exit_code == 3
    assert done.stderr.startswith("payments: timeout: ")


def test_ctrl_c_cancels_and_a_terminal_sees_how_long_it_takes(tmp_path: Path, payments: Path) -> None:
    file = config(tmp_path, source(payments, query=ENDLESS, timeout="1h"))
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "exporter", "test-source", str(file), "payments"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(terminal)
    os.set_blocking(controller, False)
    shown = b""

    def read() -> bytes:
        nonlocal shown
        with contextlib.suppress(BlockingIOError, OSError):
            shown += os.read(controller, 65536)
        return shown

    try:
        wait_for(
            lambda: re.search(rb"collecting payments: \d+ s \(timeout 3600 s\)", read()), what="progress", timeout=60
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert b"payments: interrupted" in read()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        os.close(controller)


def platform(server: Api) -> dict[str, object]:
    metrics = [{"source_field": "rate", "prometheus_name": "sentinel_rate", "labels": ["account_id"]}]
    return {"name": "api", "type": "rest_api", "endpoint": f"{server.url}/x", "metrics": metrics}


def test_waiting_for_the_first_rows(tmp_path: Path) -> None:
    with api_server() as server:
        rows = [{"account_id": "a", "rate": 1}]
        server.answer = lambda _: Answer(body={"data": rows if len(server.requests) > 1 else []})
        file = config(tmp_path, platform(server))
        done = call("test-source", file, "api", "--wait", "60s", "--no-compare")
        assert "collected 1 row in " in done.stdout
        assert len(server.requests) == 2
    wrong = call("test-source", file, "api", "--wait", "20")
    assert wrong.exit_code == 2
    assert "write 20s if seconds are meant" in wrong.stderr


def test_an_exporter_behind_tls_and_a_password_is_asked_with_the_configurations_own(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("exporter.example")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(key)
    cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    auth = {"users": [{"username": "prometheus", "password_env": "P"}]}
    tls = {"cert_file": str(cert), "key_file": str(key)}
    os.environ["P"] = "päss-4711"
    try:
        with serving(FakeSite(), auth=auth, tls=tls) as own:
            server = ServerConfig.model_validate({"port": own.address[1], "auth": auth, "tls": tls})
            assert served(own.url, "payments", server, Secrets()) == "sentinel_a 1\n"
            assert own.site.asked[-1]["sources"] == ["payments"]
            with pytest.raises(Unreachable, match="certificate"):
                served(own.url, "payments", ServerConfig(), Secrets())
        with serving(FakeSite(), auth=auth) as own:
            with pytest.raises(Unreachable, match="401"):
                served(own.url, "payments", ServerConfig(), Secrets())
            with_user = own.url.replace("://", "://prometheus:p%C3%A4ss-4711@")
            assert served(with_user + "/metrics", "payments", ServerConfig(), Secrets())
    finally:
        del os.environ["P"]


def test_an_address_that_is_no_exporter(free_port: Callable[[], int]) -> None:
    with api_server() as server, pytest.raises(Unreachable, match="is no exporter"):
        served(server.url, "payments", ServerConfig(), Secrets())


def test_the_schema_is_json() -> None:
    printed = json.loads(call("schema").stdout)
    assert printed["$schema"] == "https://json-schema.org/draft/2020-12/schema"
