"""Object stores for the tests: moto's S3 and the Cloud Storage emulator, each on a free loopback port."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import servers


def _program(name: str) -> str:
    """A program of the environment that runs the tests."""
    return str(Path(sys.executable).with_name(name))


@contextmanager
def s3() -> Iterator[str]:
    """Yield the base URL of an S3 that takes any keys, until `/moto-api/reset-auth` says otherwise."""
    port = servers.free_port()
    with servers.service_folder("s3") as (folder, _):
        command = [_program("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        environment = {**os.environ, "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": "1000000"}
        with servers.running(command, folder=folder, ready=lambda: servers.listens(port), environment=environment):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def cloud_storage() -> Iterator[str]:
    """Yield the base URL of a Cloud Storage that knows no permissions."""
    port = servers.free_port()
    with servers.service_folder("gcs") as (folder, _):
        command = [_program("gcp-storage-emulator"), "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"]
        with servers.running(command, folder=folder, ready=lambda: servers.listens(port)):
            yield f"http://127.0.0.1:{port}"
