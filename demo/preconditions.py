"""What `make run` needs before it starts: its programs, its ports, and its folder to itself."""

from __future__ import annotations

import fcntl
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IN_A_CONTAINER = "docker compose -f compose.demo.yaml up"


class CannotStart(Exception):  # noqa: N818 - what the person reads
    """One clear line: what is wrong and what to do about it."""


def alertmanager_program() -> str:
    for name in ("prometheus-alertmanager", "alertmanager"):
        if shutil.which(name):
            return name
    raise CannotStart(f"alertmanager is not on PATH: install prometheus-alertmanager, or use `{IN_A_CONTAINER}`")


def check_programs() -> None:
    """The stack's programs and the checkers of their configuration."""
    packages = {"prometheus": "prometheus", "promtool": "prometheus", "amtool": "prometheus-alertmanager"}
    for name, package in packages.items():
        if not shutil.which(name):
            raise CannotStart(f"{name} is not on PATH: install the package {package}, or use `{IN_A_CONTAINER}`")
    alertmanager_program()
    for name in ("sentinel-exporter", "sentinel-webhook"):
        if not (Path(sys.executable).parent / name).exists():
            raise CannotStart(f"{name} is not beside {sys.executable}: remove .venv, and `make run` makes it anew")


def check_ports(ports: dict[str, int]) -> None:
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise CannotStart(
                    f"port {port}, which {name} needs, is taken ({error.strerror}): stop what listens there, "
                    f'or choose another: make run OPTIONS="--{name}-port {port + 10000}"'
                ) from error


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Two stacks on one folder would write the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotStart(f"the stack in {folder} is running already: stop it first (Ctrl-C there)") from error
        yield
