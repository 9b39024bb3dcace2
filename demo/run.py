"""`make run`: prepare what the stack needs, start it under one supervisor, say where to look, stop it whole.

Everything it keeps is in one folder (`.run`): secrets, databases, Prometheus' data, and configuration derived from
the production files with shorter times.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import requests
import yaml

from demo.derive import derive
from demo.preconditions import CannotStart, alertmanager_program, check_ports, check_programs, only_one
from demo.supervisor import supervise
from webhook.domain.alert import AlertTypeSettings

ROOT = Path(__file__).resolve().parent.parent
DEMO_SPEED = 20.0
PROMETHEUS_RESEND_DELAY_S = 60.0  # its default: how old an annotation in Alertmanager can be
MIN_SESSION_TIMEOUT_S = 6.0  # shorter than a scrape, a rule evaluation and a group flush, a session could never last
SECRETS = ("ingest_token", "admin_token", "secret_key", "metric_platform_token")
OVERRIDES = ("PAYMENTS_DATABASE_URL", "PAYMENTS_INTERVAL", "SENTINEL_DATABASE_URL", "SENTINEL_CHANNELS")
OVERRIDE_PREFIXES = ("SENTINEL_SLACK_", "SENTINEL_LLM_", "SENTINEL_WORKER_", "SENTINEL_LOG_")
LOOPBACK = "127.0.0.1,localhost"
SLOW_START_S = 30.0


@dataclass(frozen=True)
class Stack:
    """Where everything of one run is. `speed` divides every waiting time of the production configuration."""

    folder: Path
    ports: dict[str, int]
    speed: float
    transactions: Path | None
    traffic_options: tuple[str, ...]  # of the simulator and of its history alike
    payments_options: tuple[str, ...]

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def prometheus_data(self) -> Path:
        return self.folder / "prometheus"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text()

    def environment(self) -> dict[str, str]:
        """What the processes read. Of what a person has set, databases, channels and models stand; the rest is ours."""
        person = {name: text for name, text in os.environ.items() if not name.startswith("SENTINEL_")}
        given = {n: t for n, t in os.environ.items() if n in OVERRIDES or n.startswith(OVERRIDE_PREFIXES)}
        slack = any(name in given for name in ("SENTINEL_SLACK_BOT_TOKEN", "SENTINEL_SLACK_BOT_TOKEN_FILE"))
        ours = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            "no_proxy": LOOPBACK,
            "NO_PROXY": LOOPBACK,
            "RUN_DIR": str(self.folder),
            "ALERTMANAGER": alertmanager_program(),
            "RESEND_DELAY": f"{max(PROMETHEUS_RESEND_DELAY_S / self.speed, 1):g}s",
            "PAYMENTS_OPTIONS": shlex.join((*self.traffic_options, *self.payments_options)),
            "PAYMENTS_DATABASE_URL": f"sqlite:///{self.folder}/payments.sqlite",
            "METRIC_PLATFORM_TOKEN": self.secret("metric_platform_token"),
            "METRIC_PLATFORM_URL": self.url("payments"),
            "PAYMENTS_INTERVAL": "1s" if self.transactions else "3s",
            "SENTINEL_DATABASE_URL": f"sqlite:///{self.folder}/sentinel.sqlite",
            "SENTINEL_PUBLIC_URL": self.url("webhook"),
            "SENTINEL_PROMETHEUS_URL": self.url("prometheus"),
            "SENTINEL_ALERTMANAGER_URL": self.url("alertmanager"),
            "SENTINEL_CONFIG_FILE": str(self.config / "webhook.yaml"),
            "SENTINEL_CHANNELS": "console,slack" if slack else "console",
            "SENTINEL_LOG_LEVEL": "WARNING",  # the console channel is what a person came to read
            **{f"SENTINEL_{name.upper()}_FILE": str(self.folder / "secrets" / name) for name in SECRETS[:3]},
            **{f"{name.upper()}_PORT": str(port) for name, port in self.ports.items()},
        }
        return {**person, **ours, **given, "SENTINEL_WORKER_METRICS_PORT": str(self.ports["worker"])}


def say(text: str) -> None:
    click.echo(f"  {text}")


def make_secrets(folder: Path) -> None:
    """Random, once, readable by nobody else."""
    place = folder / "secrets"
    place.mkdir(mode=0o700, exist_ok=True)
    for name in SECRETS:
        path = place / name
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(24))


def complaint(output: str) -> str:
    """The cause in a checker's output: what follows `FAILED:`, else the first line that is not its progress."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        before, found, after = line.partition("FAILED:")
        if found:
            return after.strip() or next(iter(lines[number + 1 :]), before)
    told = [line for line in lines if not line.startswith(("Checking", "SUCCESS", "amtool: error: failed to validate"))]
    return next(iter(told or lines), "it says nothing")


def check(what: str, command: Sequence[str], environment: dict[str, str]) -> None:
    """Run a checker; the cause that it names is the one line that a person sees."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    if done.returncode:
        cause = complaint(f"{done.stdout}\n{done.stderr}")
        raise CannotStart(f"{what}: {cause} (the whole answer: {shlex.join(command)})")


def derive_configuration(stack: Stack, environment: dict[str, str]) -> None:
    """The production files with shorter times, and the webhook's sessions shortened alike."""
    stack.config.mkdir(exist_ok=True)
    try:
        derive(
            ROOT,
            stack.config,
            speed=stack.speed,
            scale_ranges=stack.transactions is not None,
            exporter=f"127.0.0.1:{stack.ports['exporter']}",
            others={job: [f"127.0.0.1:{stack.ports[name]}"] for job, name in JOBS.items()},
            alertmanagers=[f"127.0.0.1:{stack.ports['alertmanager']}"],
            webhook_url=f"{stack.url('webhook')}/api/v1/alerts/prometheus/webhook",
            credentials_file=stack.folder / "secrets" / "ingest_token",
        )
    except (yaml.YAMLError, ValueError) as error:
        raise CannotStart(f"prometheus/ or alertmanager/: {' '.join(str(error).split())}") from error
    (stack.config / "webhook.yaml").write_text(yaml.safe_dump({"alert_types": {"default": shortened(stack.speed)}}))
    check("demo/exporter-config.yaml", ["sentinel-exporter", "check", "demo/exporter-config.yaml"], environment)
    check("prometheus/", ["promtool", "check", "config", str(stack.config / "prometheus.yml")], environment)
    check("alertmanager/", ["amtool", "check-config", str(stack.config / "alertmanager.yml")], environment)


def shortened(speed: float) -> dict[str, object]:
    """The default alert type settings with every time divided by `speed`, as the webhook's configuration wants it."""
    usual = AlertTypeSettings()

    def seconds(value: float, floor: float = 0.5) -> str:
        return f"{max(value / speed, floor):.1f}s"

    return {
        "session_timeout": seconds(usual.session_timeout.total_seconds(), MIN_SESSION_TIMEOUT_S),
        "occurrence_interval": seconds(usual.occurrence_interval.total_seconds()),
        "escalation": [
            {"severity": step.severity.value, "occurrence_count": step.occurrence_count}
            if step.duration is None
            else {"severity": step.severity.value, "duration": seconds(step.duration.total_seconds())}
            for step in usual.escalation
        ],
    }


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def prepare_history(stack: Stack, environment: dict[str, str]) -> None:
    """24 hours of payments, in the store and in Prometheus, once. What was interrupted is made anew."""
    done = stack.folder / "history.done"
    if stack.transactions or done.exists():
        return
    for leftover in (*stack.folder.glob("payments.sqlite*"), stack.prometheus_data):
        remove(leftover)
    say("writing 24 hours of payments (only the first time) …")
    python = [sys.executable, "-m", "demo"]
    instance = f"127.0.0.1:{stack.ports['exporter']}"
    for command in (
        ["history", *stack.traffic_options],
        ["backfill", "--tsdb", str(stack.prometheus_data), "--instance", instance],
    ):
        if subprocess.run([*python, *command], env=environment, cwd=ROOT, check=False).returncode:
            raise CannotStart(f"demo {command[0]} failed: see the lines above")
    done.touch()


def forget_earlier_replay(folder: Path) -> None:
    """A replay starts with empty stores: its merchants and times are its own."""
    for leftover in folder.iterdir():
        if leftover.name not in ("lock", "secrets"):
            remove(leftover)


@dataclass(frozen=True)
class Replay:
    """What the stack has to know of a file. `window` is the rate window in seconds of the wall clock."""

    speed: float
    window: float
    has_status: bool

    @classmethod
    def of(cls, stack: Stack, environment: dict[str, str]) -> Replay:
        """Raises CannotStart with what the replay says of a file that it cannot use."""
        command = [sys.executable, "-m", "demo", "serve", *stack.payments_options, "--plan-json"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
        if done.returncode:
            raise CannotStart((done.stderr.strip().splitlines() or ["the file cannot be replayed"])[-1])
        plan = json.loads(done.stdout)
        return cls(plan["speed"], plan["wall_window"], plan["has_status"])

    def environment(self) -> dict[str, str]:
        """The platform serves the share of failed authorisations alone: without a status it has nothing to say."""
        return {
            "PAYMENTS_WINDOW": f"{self.window:.3f}s",
            "METRIC_PLATFORM_ENABLED": str(self.has_status).lower(),
        }


def prepare_webhook(stack: Stack, environment: dict[str, str]) -> None:
    check("webhook", ["sentinel-webhook", "migrate"], environment)
    if not stack.transactions:
        check("demo/merchants.yaml", ["sentinel-webhook", "config", "import", "demo/merchants.yaml"], environment)


def wait_until_up(stack: Stack, started: float) -> None:
    """Tell when each service answers, then where to look."""
    paths = {"payments": "/-/healthy"}
    waiting = {name: f"{stack.url(name)}{paths.get(name, '/-/ready')}" for name in stack.ports}
    session = requests.Session()
    session.trust_env = False  # no proxy stands between this machine and itself
    patience = started + SLOW_START_S
    while waiting:
        for name, url in list(waiting.items()):
            try:
                if session.get(url, timeout=1).ok:
                    del waiting[name]
                    say(f"{name} is up ({stack.url(name)})")
            except requests.RequestException:
                continue
        if waiting and time.monotonic() > patience:
            say(f"still waiting for {', '.join(waiting)} after {time.monotonic() - started:.0f} s …")
            patience += SLOW_START_S
        time.sleep(0.2)
    login = f"{stack.url('webhook')}/login?token={stack.secret('admin_token')}"
    what = "your transactions are being replayed" if stack.transactions else "the first attack starts by itself"
    click.secho(f"\n  All up after {time.monotonic() - started:.0f} s: {what}.", bold=True)
    click.secho(f"  Open {login}", fg="green", bold=True)
    click.echo(f"  Metrics {stack.url('exporter')}   Prometheus {stack.url('prometheus')}/alerts")
    if not stack.transactions:
        click.echo("  Attack somebody: make attack MERCHANT=acc_007 TYPE=velocity   Stop everything: Ctrl-C\n")
    else:
        click.echo("  What the rules made of it, at any time: make report   Stop everything: Ctrl-C\n")


def run(stack: Stack, environment: dict[str, str]) -> int:
    code = supervise(ROOT / "Procfile", environment, partial(wait_until_up, stack, time.monotonic()))
    if code == 0:
        click.echo("Stopped. `make run` goes on with the same data; `make clean` forgets it.")
    else:
        click.secho("One of the processes ended (see above), so all were stopped.", fg="red", err=True)
    return code


def start(stack: Stack) -> int:
    check_programs()
    with only_one(stack.folder):
        check_ports(stack.ports)
        if stack.transactions:
            forget_earlier_replay(stack.folder)
        make_secrets(stack.folder)
        environment = stack.environment()
        if stack.transactions:
            replay = Replay.of(stack, environment)
            stack = replace(stack, speed=replay.speed)
            environment = stack.environment() | replay.environment()
        derive_configuration(stack, environment)
        prepare_webhook(stack, environment)
        prepare_history(stack, environment)
        return run(stack, environment)


PORTS = {
    "payments": 8100,
    "exporter": 8000,
    "prometheus": 9090,
    "alertmanager": 9093,
    "webhook": 8080,
    "worker": 9101,
}
JOBS = {
    "sentinel-webhook": "webhook",
    "sentinel-worker": "worker",
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
}
"""Jobs of prometheus.yml beside the exporter's, and who answers there."""


def _port_options(command: click.Command) -> click.Command:
    for name, port in PORTS.items():
        option = click.Option([f"--{name}-port"], type=click.IntRange(1, 65535), default=port, show_default=True)
        command.params.append(option)
    return command


@_port_options
@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--transactions", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="replay this file instead"
)
@click.option("--speed", type=float, help="how much faster than in production everything waits; of a replay: its speed")
@click.option("--merchants", type=int, help="how many merchants the simulator has")
@click.option("--rate", type=float, help="transactions per second over all of them")
@click.option("--seed", type=int, help="the same seed gives the same merchants and habits")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path(".run"), show_default=True)
@click.argument("payments_options", nargs=-1, type=click.UNPROCESSED)
def main(  # noqa: PLR0917 - click passes by name, one for each option
    transactions: Path | None,
    speed: float | None,
    merchants: int | None,
    rate: float | None,
    seed: int | None,
    folder: Path,
    payments_options: tuple[str, ...],
    **ports: int,
) -> None:
    """Start the whole stack. Further options go to the simulator or the replay (python -m demo serve --help)."""
    options = payments_options
    traffic = {"--merchants": merchants, "--rate": rate, "--seed": seed}
    if transactions:
        folder = folder / "replay"
        chosen = () if speed is None else ("--speed", f"{speed:g}")
        options = ("--replay", str(transactions.resolve()), *chosen, *options)
    stack = Stack(
        folder=folder.resolve(),
        ports={name: ports[f"{name}_port"] for name in PORTS},
        speed=speed or DEMO_SPEED,
        transactions=transactions,
        traffic_options=tuple(str(part) for option in traffic.items() if option[1] is not None for part in option),
        payments_options=options,
    )
    for number in (signal.SIGTERM, signal.SIGHUP):  # until the supervisor takes over: end what is being prepared
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        sys.exit(start(stack))
    except (CannotStart, OSError) as error:
        click.secho(f"make run: {error}", fg="red", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
