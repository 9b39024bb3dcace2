"""The commands of the documentation run: each is either carried out here, in order, or named with what it needs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from doc_pages import PAGES, ROOT, Page, carried_out
from servers import free_port, postgresql, program

STACK = "a stack that runs: tests/e2e, and the other tests of its routes"
ENGINE = "an engine for containers"
NOT_HERE = {
    r"kubectl ": "a cluster: tests/unit/deployment/test_documented_steps.py goes through the steps",
    r"docker ": ENGINE,
    r"make (run|attack|attack-stop|report)\b": STACK,
    r"make (test|drill|soak|check-rules)\b": "minutes; these are tests themselves",
    r"make (compose-secrets|k8s)\b": "tests/unit/deployment",
    r"curl ": STACK,
    r"python -m demo": STACK,
    r"sentinel-exporter --config": "serves until it is stopped: tests/integration/test_exporter_service.py",
    r"sentinel-webhook rules (backtest|deploy)": "a Prometheus: test_rules_backtest.py and test_rules_deploy.py",
    r"sentinel-webhook api-key (rotate|revoke)": "a key that there is: tests/integration/test_access_keys.py",
    r"sentinel-webhook test-channel": "a provider, whose name is looked up first: tests of each channel",
}
PAYMENTS = """
exporter: {{port: {port}}}
data_sources:
  - name: payments
    type: file
    path_pattern: my-rates.csv
    interval: 10s
    metrics: [{{source_field: block_rate, prometheus_name: sentinel_block_rate, labels: [account_id]}}]
"""


@dataclass(frozen=True)
class Run:
    """A command as the pages have it, what else is in its environment, and what it prints among the rest."""

    command: str
    prints: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def from_page(name: str, begins: str) -> str:
    """The block of a page that begins so, as its readers copy it."""
    (page,) = [page for page in PAGES if str(page) == name]
    texts = [token.content for token in page.tokens if token.type == "fence"]
    (found,) = [text for text in texts if text.startswith(begins)]
    return found


ON_POSTGRESQL = {"SENTINEL_DATABASE_URL": "{store}"}
RUNS = (
    Run("sentinel-exporter check my-sources.yaml"),
    Run("sentinel-exporter test-source my-sources.yaml my_rates --no-compare", 'account_id="shop_1"'),
    Run("sentinel-exporter check exporter-config.yaml"),
    Run("sentinel-exporter test-source exporter-config.yaml payments", 'account_id="shop_2"'),
    Run("sentinel-exporter schema > exporter-config.schema.json"),
    Run("promtool check config prometheus/prometheus.yml", "SUCCESS"),
    Run("promtool check rules prometheus/rules/*.yml", "SUCCESS"),
    Run("amtool check-config alertmanager/alertmanager.yml", "SUCCESS"),
    Run(
        "amtool config routes test --config.file=alertmanager/alertmanager.yml severity=P1 account_id=acc_017",
        "sentinel-webhook-urgent",
    ),
    Run(
        "sentinel-webhook rules check prometheus/rules/card_testing.yml --beside prometheus/rules/merchants.yml "
        "--config demo/exporter-config.yaml",
        "1 file",
    ),
    Run("sentinel-webhook vapid-key --out /path/to/vapid.key", "public key: "),
    Run("sentinel-webhook migrate"),
    Run("sentinel-webhook config import merchants.yaml --dry-run", "acc_017 CARD_TESTING"),
    Run("sentinel-webhook config import merchants.yaml", "1 created"),
    Run("sentinel-webhook config export --account acc_1"),
    Run(
        'sentinel-webhook api-key create --name "till of acc_017" --role merchant --account acc_017 --expires 90d',
        "sk_",
    ),
    Run("sentinel-webhook api-key list", "till of acc_017"),
    # a copy of SQLite
    Run("""python3 -c "import sqlite3; sqlite3.connect('sentinel.db').execute('VACUUM INTO ?', ['copy.db'])\""""),
    Run(
        'python3 -c "import sqlite3; '
        "print(sqlite3.connect('copy.db').execute('PRAGMA integrity_check').fetchone()[0])\"",
        "ok",
    ),
    # a copy of PostgreSQL, and back into an empty one
    Run("sentinel-webhook migrate", environment=ON_POSTGRESQL),
    Run("sentinel-webhook config import merchants.yaml", "1 created", ON_POSTGRESQL),
    Run('pg_dump --format=custom --no-owner --file=sentinel.dump "$DATABASE_URL"'),
    Run(
        'pg_restore --exit-on-error --no-owner --single-transaction --dbname="$DATABASE_URL" sentinel.dump',
        environment={"DATABASE_URL": "{restored}"},
    ),
    Run("SENTINEL_DATABASE_URL=… sentinel-webhook migrate"),
    Run(
        "SENTINEL_DATABASE_URL=… SENTINEL_ENCRYPTION_KEYS_FILE=… SENTINEL_SECRET_KEY_FILE=…"
        " sentinel-webhook config export --with-secrets",
        "account_id: acc_017",
    ),
)


def reason(command: str) -> str | None:
    return next((why for pattern, why in NOT_HERE.items() if re.match(pattern, command)), None)


@pytest.mark.parametrize("page", [page for page in PAGES if page.commands], ids=str)
def test_each_command_is_run_here_or_is_said_to_need_more(page: Page) -> None:
    run = {each.command for each in RUNS}
    unknown = [f"{page}:{line}: {text}" for line, text in page.commands if text not in run and not reason(text)]
    assert unknown == []


def test_what_runs_here_and_what_does_not_is_in_the_pages() -> None:
    commands = {text for page in PAGES for _, text in page.commands}
    assert [each.command for each in RUNS if each.command not in commands] == []
    assert [pattern for pattern in NOT_HERE if not any(re.match(pattern, text) for text in commands)] == []


@pytest.fixture(scope="module")
def databases() -> Iterator[dict[str, str]]:
    """An empty one for the copy, and one to copy it into."""
    with postgresql() as server:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE store")
            connection.execute("CREATE DATABASE restored")
        yield {name: f"{server}/{name}" for name in ("store", "restored")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as somebody has it who has followed the pages: with their example files."""
    folder = tmp_path_factory.mktemp("documented")
    for name in ("prometheus", "alertmanager", "demo"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "my-rates.csv").write_text(from_page("docs/getting-started.md", "account_id,"))
    (folder / "my-sources.yaml").write_text(from_page("docs/getting-started.md", "data_sources:"))
    (folder / "merchants.yaml").write_text(from_page("docs/getting-started.md", "- account_id:"))
    (folder / "exporter-config.yaml").write_text(PAYMENTS.format(port=free_port()))
    (folder / "keys").write_bytes(Fernet.generate_key())
    (folder / "secret").write_text("s" * 32)
    return folder


def test_the_commands_run_in_this_order(place: Path, databases: dict[str, str]) -> None:
    around = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    around["PATH"] = f"{Path(sys.executable).parent}:{Path(program('pg_restore')).parent}:{os.environ['PATH']}"
    around |= {"PYTHONPATH": str(ROOT), "SENTINEL_SECRET_KEY_FILE": "secret", "SENTINEL_ENCRYPTION_KEYS_FILE": "keys"}
    around |= {"SENTINEL_DATABASE_URL": "sqlite:///sentinel.db", "DATABASE_URL": databases["store"]}
    blanks = {"DATABASE_URL": databases["restored"], "ENCRYPTION_KEYS_FILE": "keys", "SECRET_KEY_FILE": "secret"}
    for run in RUNS:
        command = run.command.replace("/path/to/", "")
        for name, value in blanks.items():
            command = command.replace(f"SENTINEL_{name}=…", f"SENTINEL_{name}={value}")
        environment = around | {name: value.format(**databases) for name, value in run.environment.items()}
        done = carried_out(command, place, environment)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert run.prints in done.stdout + done.stderr, f"{command}\n{done.stdout}{done.stderr}"
