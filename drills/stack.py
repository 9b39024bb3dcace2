"""The stack of a drill: Alertmanager, a tap, `serve`, `worker`, a store, Slack, and what else a drill asks for.

What takes minutes in production takes seconds: a session timeout of 15 min is 18 s, Alertmanager's repeat after
4 min 45 s comes after 3 s.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from drills import disk
from drills import store as stores
from drills.programs import Program, supervised
from drills.slack import Slack
from drills.tap import PATH, Tap
from tests import servers
from tests.fakes_llm import LlmStub, good

ROOT = Path(__file__).resolve().parent.parent
ADMIN_TOKEN = "drill-admin-token-of-some-length"  # noqa: S105 - of this run, on loopback
_TOKEN = "drill-ingest-token"  # noqa: S105
REPEAT_S = 3.0
"""Alertmanager tries a delivery for 10 s, whatever its times. What it says then is what was true at the beginning, so a
session timeout is well above that, as the 15 min of production are above 5."""


@dataclass(frozen=True)
class Needs:
    """What the stack of a drill has. `session_timeout`, `lease` in s. `without`: what the process lacks, by command.

    `small_disk`: SQLite's file is on a file system of its own that can be filled, where one may be mounted.
    """

    store: str = "postgresql"
    small_disk: bool = False
    redis: bool = False
    prometheus: str = ""  # its configuration; none runs without
    llm: bool = False
    session_timeout: float = 18.0
    lease: float | None = None
    workers: int = 1
    without: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    merchants: tuple[Mapping[str, Any], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Stack:
    """What runs. `serve`, `worker` and Alertmanager are started again when they end."""

    folder: Path
    store: stores.Store
    slack: Slack
    tap: Tap
    programs: dict[str, Program]
    environment: dict[str, str]
    llm: LlmStub | None = None
    sqlite: Path | None = None
    disk: Path | None = None

    @property
    def alertmanager(self) -> str:
        return self.environment["SENTINEL_ALERTMANAGER_URL"]

    @property
    def prometheus(self) -> str:
        return self.environment["SENTINEL_PROMETHEUS_URL"]

    def __getitem__(self, name: str) -> Program:
        return self.programs[name]


@contextmanager
def running(needs: Needs) -> Iterator[Stack]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-drill-")))
        programs: dict[str, Program] = {}
        small = stack.enter_context(disk.small(folder)) if needs.small_disk else None
        url, sqlite = _store(stack, needs, small or folder, programs)
        slack, tap = stack.enter_context(Slack()), stack.enter_context(Tap(port=servers.free_port()))
        llm = stack.enter_context(LlmStub(answers=[good()])) if needs.llm else None
        ports = {name: servers.free_port() for name in ("alertmanager", "prometheus", "redis", "worker")}
        environment = _environment(needs, url, slack, llm, ports=ports, folder=folder)
        subprocess.run(
            [sys.executable, "-m", "webhook", "migrate"], env={**os.environ, **environment}, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        _merchants(needs, folder, environment)
        programs |= _services(needs, folder, environment, ports, tap)
        store = stores.Store(url)
        stack.callback(store.close)
        stack.enter_context(supervised([one for one in programs.values() if one.name != "postgresql"]))
        ours = [program for program in programs.values() if program.name != "postgresql"]
        for program in ours:
            program.start(wait=False)
        for program in ours:
            program.wait_until_ready()
        yield Stack(folder, store, slack, tap, programs, environment, llm, sqlite, small)


def _store(stack: ExitStack, needs: Needs, folder: Path, programs: dict[str, Program]) -> tuple[str, Path | None]:
    if needs.store == "sqlite":
        path = folder / "sentinel.db"
        return f"sqlite:///{path}", path
    url, programs["postgresql"] = stores.postgresql(stack)
    return url, None


def _environment(
    needs: Needs, url: str, slack: Slack, llm: LlmStub | None, *, ports: Mapping[str, int], folder: Path
) -> dict[str, str]:
    times = {"session_timeout": f"{needs.session_timeout:g}s", "occurrence_interval": "10s", "escalation": []}
    config: dict[str, Any] = {
        "alert_types": {"default": times},
        "channels": {"slack": {"target_rate": "off", "parallel": 4, "timeout": 10}},
        **needs.config,
    }
    if llm is not None:
        model = {"name": "stub", "model": "stub", "base_url": llm.url, "api_key_env": "DRILL_KEY"}
        config["summaries"] = {"models": [model], **config.get("summaries", {})}
    (folder / "webhook.yaml").write_text(yaml.safe_dump(config))
    own = {
        "DATABASE_URL": url, "INGEST_TOKEN": _TOKEN, "ADMIN_TOKEN": ADMIN_TOKEN,
        "SECRET_KEY": "0123456789abcdef0123456789abcdef",
        "CONFIG_FILE": str(folder / "webhook.yaml"),
        "ALERTMANAGER_URL": f"http://127.0.0.1:{ports['alertmanager']}",
        "PROMETHEUS_URL": f"http://127.0.0.1:{ports['prometheus']}",
        "CHANNELS": "slack", "SLACK_BOT_TOKEN": "xoxb-drill", "SLACK_CHANNEL": "C0FRAUD", "SLACK_API_URL": slack.url,
        "WORKER_METRICS_PORT": str(ports["worker"]),
    }  # fmt: skip
    if needs.redis:
        own["REDIS_URL"] = f"redis://127.0.0.1:{ports['redis']}"
    named = {f"SENTINEL_{name}": value for name, value in own.items()}
    return {**named, "PYTHONPATH": str(ROOT), "DRILL_KEY": "drill", **needs.environment}


def _merchants(needs: Needs, folder: Path, environment: Mapping[str, str]) -> None:
    if not needs.merchants:
        return
    (folder / "merchants.yaml").write_text(yaml.safe_dump([dict(one) for one in needs.merchants]))
    command = [sys.executable, "-m", "webhook", "config", "import", str(folder / "merchants.yaml")]
    subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)


def _services(
    needs: Needs, folder: Path, environment: Mapping[str, str], ports: Mapping[str, int], tap: Tap
) -> dict[str, Program]:
    services = {"alertmanager": _alertmanager(folder, ports["alertmanager"], tap)}
    if needs.redis:
        port = ports["redis"]
        command = [servers.program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        services["redis"] = Program("redis", command, folder, lambda: servers.listens(port))
    if needs.prometheus:
        services["prometheus"] = _prometheus(folder, ports["prometheus"], needs.prometheus, ports["alertmanager"])
    commands = {
        "serve": ["serve", "--port", str(tap.port), "--workers", str(needs.workers)],
        "worker": ["worker"],
    }
    health = {"serve": tap.port, "worker": ports["worker"]}
    for name, command in commands.items():
        services[name] = sentinel(name, command, folder, environment, port=health[name], needs=needs)
    return services


def sentinel(
    name: str, command: list[str], folder: Path, environment: Mapping[str, str], *, port: int, needs: Needs
) -> Program:
    """`serve` or `worker`, ready when it says so."""
    options = ["--without", needs.without[name]] if name in needs.without else []
    if needs.lease is not None:
        options += ["--lease", str(needs.lease)]
    launched = [sys.executable, "-m", "drills.launch", *options, *command]
    ready = f"http://127.0.0.1:{port}/-/ready"
    return Program(name, launched, folder, lambda: servers.answers(ready), environment)


def _alertmanager(folder: Path, port: int, tap: Tap) -> Program:
    http = {"authorization": {"type": "Bearer", "credentials": _TOKEN}}
    config = {
        "global": {"resolve_timeout": "5m"},
        "route": {
            "receiver": "sentinel", "group_by": ["account_id", "alert_type"], "group_wait": "0s",
            "group_interval": "1s", "repeat_interval": f"{REPEAT_S:g}s",
        },
        "receivers": [
            {"name": "sentinel", "webhook_configs": [
                {"url": f"{tap.origin}{PATH}", "send_resolved": True, "http_config": http}]},
        ],
    }  # fmt: skip
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    command = [
        servers.program("prometheus-alertmanager", "alertmanager"), f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}", f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=", "--log.level=warn",
    ]  # fmt: skip
    return Program("alertmanager", command, folder, lambda: servers.answers(f"http://127.0.0.1:{port}/-/ready"))


def _prometheus(folder: Path, port: int, config: str, alertmanager: int) -> Program:
    (folder / "prometheus.yml").write_text(config.replace("ALERTMANAGER", f"127.0.0.1:{alertmanager}"))
    command = [
        servers.program("prometheus"), f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}", f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-lifecycle", "--log.level=warn", "--rules.alert.resend-delay=1s",
    ]  # fmt: skip
    return Program("prometheus", command, folder, lambda: servers.answers(f"http://127.0.0.1:{port}/-/ready"))
