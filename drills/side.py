"""Broken files of the two programs before the webhook: the exporter's configuration, and Prometheus' rules."""

from __future__ import annotations

import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import yaml

from drills.programs import Program, supervised
from drills.run import Result, Say
from drills.verify import Verdict
from tests import servers

_CONTROL_S = 8.0
_SAMPLE = re.compile(r'^sentinel_payments\{account_id="acc_1"\} (\S+)$', re.MULTILINE)

_EXPORTER = """\
data_sources:
  - name: payments
    type: database
    url_env: DRILL_DATABASE
    query: SELECT account_id, number FROM payment
    interval: 1s
    metrics:
      - {source_field: number, prometheus_name: sentinel_payments, type: gauge, labels: [account_id]}
"""


@dataclass(frozen=True)
class Deployed:
    """A program with a file of its own: how to give it another one, and what shows that it still works."""

    program: Program
    config: Path
    deploy: str  # where a POST makes it read the file again
    works: Callable[[], bool]
    """Whether it does its work: anew, so that what is left from before is none."""


def broken_file(name: str, broken: str, make: Callable[[Path], Iterator[Deployed]], *, control: bool) -> Result:
    """Handled: the file is read by a reload, which refuses it. Control: the program is started with it."""
    began, verdict = time.monotonic(), Verdict()
    with tempfile.TemporaryDirectory(prefix="sentinel-drill-") as folder, contextmanager(make)(Path(folder)) as it:
        servers.wait_for(it.works, what=f"{name} works", timeout=120)
        it.config.write_text(broken)
        fault = time.monotonic()
        if control:
            it.program.kill()
            it.program.start(wait=False)
        else:
            _refused(it, verdict)
        fault_s = time.monotonic() - fault
        try:
            servers.wait_for(it.works, what="it works", timeout=_CONTROL_S if control else 60)
        except AssertionError:
            verdict.missing.append(f"{name} does not work any more: {it.program.tail()[-300:]}")
        works_after = time.monotonic() - fault
    return Result(name, control, verdict, time.monotonic() - began, fault_s, None, None if control else works_after)


def _refused(it: Deployed, verdict: Verdict) -> None:
    answer = requests.post(it.deploy, timeout=60)
    if answer.ok:
        verdict.broken.append("the reload took the broken file")
    try:
        servers.wait_for(lambda: it.config.name in answer.text + it.program.tail(), what="a line about it", timeout=30)
    except AssertionError:
        said = answer.text + it.program.tail()
        verdict.broken.append(f"the reload does not say what is wrong: {said[-300:]}")


def exporter_config(*, control: bool, say: Say) -> Result:
    say("a source with an unknown key, a wrong type and no query")
    broken = yaml.safe_dump({"data_sources": [{"name": "payments", "type": "databse", "intervall": "1s"}]})
    return broken_file("exporter-config", broken, _exporter, control=control)


def rule_file(*, control: bool, say: Say) -> Result:
    say("a rule that is no PromQL")
    rule = {"alert": "Broken", "expr": "sentinel_block_rate >> 0.3"}
    broken = yaml.safe_dump({"groups": [{"name": "drill", "rules": [rule]}]})
    return broken_file("rules", broken, _prometheus, control=control)


def _exporter(folder: Path) -> Iterator[Deployed]:
    """It collects each second: what is served has to follow the database."""
    port, database, config = servers.free_port(), folder / "payments.db", folder / "exporter-config.yaml"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE payment (account_id TEXT, number REAL)")
        connection.execute("INSERT INTO payment VALUES ('acc_1', 0)")
        connection.commit()
    config.write_text(_EXPORTER)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "exporter", "--config", str(config), "--port", str(port)]
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent), "DRILL_DATABASE": f"sqlite:///{database}"}
    program = Program("exporter", command, folder, lambda: servers.answers(f"{url}/-/ready"), environment)
    wanted = [0]

    def works() -> bool:
        with closing(sqlite3.connect(database)) as connection:
            found = _SAMPLE.search(_text(f"{url}/metrics"))
            if found is None or float(found[1]) != wanted[0]:
                return False
            wanted[0] += 1
            connection.execute("UPDATE payment SET number = ?", (wanted[0],))
            connection.commit()
            return wanted[0] > 1

    with supervised([program]):
        program.start()
        yield Deployed(program, config, f"{url}/-/reload", works)


def _prometheus(folder: Path) -> Iterator[Deployed]:
    port, rules, config = servers.free_port(), folder / "rules.yml", folder / "prometheus.yml"
    groups = [{"name": "drill", "interval": "1s", "rules": [{"record": "drill", "expr": "vector(time())"}]}]
    rules.write_text(yaml.safe_dump({"groups": groups}))
    config.write_text("global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n")
    url = f"http://127.0.0.1:{port}"
    command = [
        servers.program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--web.enable-lifecycle", "--log.level=error",
    ]  # fmt: skip
    program = Program("prometheus", command, folder, lambda: servers.answers(f"{url}/-/ready"))
    last = [0.0]

    def works() -> bool:
        found = _json(f"{url}/api/v1/query?query=drill")
        value = float(found[0]["value"][1]) if found else 0.0
        newer, last[0] = value > last[0] > 0, max(value, last[0])
        return newer

    with supervised([program]):
        program.start()
        yield Deployed(program, rules, f"{url}/-/reload", works)


def _text(url: str) -> str:
    try:
        return requests.get(url, timeout=30).text
    except requests.RequestException:
        return ""


def _json(url: str) -> list[dict[str, list[str]]]:
    try:
        return list(requests.get(url, timeout=30).json()["data"]["result"])
    except (requests.RequestException, KeyError, ValueError):
        return []
