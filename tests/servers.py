"""Real servers for the tests: each on a free loopback port, in a temporary folder, gone when the session ends."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import requests

T = TypeVar("T")
_LOCALE = ("--locale=C", "--lc-ctype=C.UTF-8")  # bytes for order, and letters that are more than ASCII's
FORGETFUL = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c autovacuum=off"
DEBIAN = "install Debian's package, as `make test` does"


_LOWEST, _HIGHEST = 10_000, 32_000
"""Below what the kernel gives to connections: none of those takes a port before the server does that it is for."""

_ports = itertools.count(random.SystemRandom().randrange(_HIGHEST - _LOWEST))


def free_port() -> int:
    """Another one each time."""
    while True:
        port = _LOWEST + next(_ports) % (_HIGHEST - _LOWEST)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(condition: Callable[[], T], *, timeout: float = 60, what: str = "condition", step: float = 0.05) -> T:
    """Poll until `condition()` is truthy and return it; AssertionError with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout} s, last {result!r}")
        time.sleep(step)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=30).ok
    except requests.RequestException:
        return False


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
    except OSError:
        return False
    return True


def program(*names: str) -> str:
    for name in names:
        for found in (shutil.which(name), *sorted(map(str, Path("/usr").glob(f"lib/postgresql/*/bin/{name}")))):
            if found:
                return found
    raise RuntimeError(f"{names[0]} is not installed: {DEBIAN}")


@contextmanager
def running(
    command: Sequence[str],
    *,
    folder: Path,
    ready: Callable[[], bool],
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Start `command`, wait until it is ready, end it on leaving. A failure to start shows its log."""
    log = folder / "log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            user=user,
            env=environment,
            start_new_session=True,
        )
    try:
        name = Path(command[0]).name

        def up() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"{name} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
            return ready()

        wait_for(up, what=f"{name} ready")
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def service_folder(prefix: str) -> Iterator[tuple[Path, str | None]]:
    """A temporary folder, and the user to run as: database servers refuse root."""
    folder = Path(tempfile.mkdtemp(prefix=f"sentinel-{prefix}-"))
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    try:
        yield folder, user
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgresql() -> Iterator[str]:
    """Yield `postgresql://sentinel@127.0.0.1:PORT`, without a database name."""
    with service_folder("postgresql") as (folder, user):
        data, port = folder / "data", free_port()
        subprocess.run(
            [program("initdb"), "-D", data, "-U", "sentinel", "-A", "trust", "-E", "UTF8", *_LOCALE, "--no-sync"],
            check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        options = f"-p {port} -k {folder} -h 127.0.0.1 -c max_connections=200 {FORGETFUL}"
        command = [program("postgres"), "-D", str(data), *options.split()]

        def ready() -> bool:
            return subprocess.run(
                [program("pg_isready"), "-h", "127.0.0.1", "-p", str(port)], check=False, capture_output=True
            ).returncode == 0  # fmt: skip

        with running(command, folder=folder, user=user, ready=ready):
            yield f"postgresql://sentinel@127.0.0.1:{port}"


@contextmanager
def mariadb() -> Iterator[str]:
    """Yield `mysql://root@127.0.0.1:PORT`, without a database name."""
    with service_folder("mariadb") as (folder, user):
        data, port = folder / "data", free_port()
        subprocess.run(
            [program("mariadb-install-db"), "--no-defaults", f"--datadir={data}",
             "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        command = [
            program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
            f"--socket={folder}/socket", f"--pid-file={folder}/pid", "--innodb-flush-log-at-trx-commit=0",
        ]  # fmt: skip
        with running(command, folder=folder, user=user, ready=lambda: listens(port)):
            yield f"mysql://root@127.0.0.1:{port}"


@contextmanager
def redis(port: int | None = None) -> Iterator[str]:
    """Yield `redis://127.0.0.1:PORT`; nothing is written to disk."""
    port = port or free_port()
    with service_folder("redis") as (folder, user):
        command = [
            program("redis-server"),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with running(command, folder=folder, user=user, ready=lambda: listens(port)):
            yield f"redis://127.0.0.1:{port}"


@contextmanager
def prometheus(config: Path, *flags: str, port: int | None = None, data: Path | None = None) -> Iterator[str]:
    """Yield the base URL of a Prometheus that runs `config`."""
    port = port or free_port()
    with service_folder("prometheus") as (folder, _):
        command = [
            program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={data or folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--web.enable-lifecycle", "--web.enable-admin-api",
            "--log.level=warn", *flags,
        ]  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        with running(command, folder=folder, ready=lambda: answers(f"{url}/-/ready")):
            yield url


@contextmanager
def alertmanager(config: Path, *flags: str, port: int | None = None) -> Iterator[str]:
    """Yield the base URL of an unclustered Alertmanager that runs `config`."""
    port = port or free_port()
    with service_folder("alertmanager") as (folder, _):
        command = [
            program("prometheus-alertmanager", "alertmanager"), f"--config.file={config}",
            f"--storage.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=", "--log.level=warn", *flags,
        ]  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        with running(command, folder=folder, ready=lambda: answers(f"{url}/-/ready")):
            yield url
