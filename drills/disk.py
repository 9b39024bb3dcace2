"""A file system of a few MiB that a drill can fill: writes fail with ENOSPC, as on a disk or a volume that is full."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tests import servers

MIB = 48
_BLOCKS = (1024 * 1024, 4096)
NAMESPACE = ("unshare", "--map-root-user", "--mount")
_GROWN = 64 * 1024
"""Bytes that files may grow to where there is no such file system."""


def _mounts(folder: Path) -> bool:
    """Root of this mount namespace may."""
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={MIB}m,mode=0755", "sentinel-drill", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@contextmanager
def small(folder: Path) -> Iterator[Path | None]:
    """`folder`/disk, a file system of its own; None where none may be mounted."""
    place = folder / "disk"
    place.mkdir()
    if not _mounts(place):
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run([servers.program("umount"), "--lazy", str(place)], check=True)


@contextmanager
def full(place: Path) -> Iterator[None]:
    """Not a byte is left on it."""
    filler = place / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in _BLOCKS:
                _write_until_full(file.fileno(), bytes(size))
        yield
    finally:
        filler.unlink(missing_ok=True)


def _write_until_full(file: int, block: bytes) -> None:
    while True:
        try:
            os.write(file, block)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return


def empty_log(database: Path) -> None:
    """SQLite writes over its log from the beginning, and needs no room for that: without a log it does at once."""

    def emptied() -> bool:
        with closing(sqlite3.connect(database, timeout=5)) as connection:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    servers.wait_for(emptied, what="an empty log of the database")


@contextmanager
def not_growing(pids: Iterable[int]) -> Iterator[None]:
    """Files of these processes cannot be written beyond the first pages (EFBIG): a full disk, as far as anybody may."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_GROWN, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def wants_namespace() -> bool:
    """Whether a user without rights may mount in a namespace of its own."""
    if os.geteuid() == 0:
        return False
    try:
        return subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
