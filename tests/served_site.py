"""The exporter's HTTP server before a site that says what it was asked for."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from isal import igzip

from exporter.errors import ConfigError, Problem
from exporter.exposition import Form
from exporter.reload import Changes
from exporter.server import Server
from exporter.server_config import ServerConfig
from exporter.status_page import Filter


@dataclass
class FakeSite:
    """Says what it was asked for."""

    ready: bool = True
    healthy: bool = True
    body: list[bytes] = field(default_factory=lambda: [b"sentinel_a 1\n"])
    asked: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    reloads: int = 0

    def metrics(self, *, gzip: bool, form: Form, names: Sequence[str], sources: Sequence[str]) -> list[bytes]:
        self.asked.append({"gzip": gzip, "form": form, "names": list(names), "sources": list(sources)})
        return [igzip.compress(b"".join(self.body))] if gzip else self.body

    def status_page(self, shown: Filter) -> str:
        return f"<!doctype html><title>{shown}</title>" + "x" * 2000

    def config_page(self) -> str:
        return "exporter: {}\n"

    def reload(self) -> Changes:
        self.reloads += 1
        if self.problems:
            raise ConfigError(self.problems)
        return Changes(("a", "b"), ("c",), (), (), ())


@dataclass
class Serving:
    url: str
    site: FakeSite
    server: Server

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.server.server_address[:2]
        return str(host), int(port)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)

    def raw(self, request: bytes) -> bytes:
        """All that is sent back until the server closes."""
        with self.connect() as connection:
            connection.sendall(request)
            return rest(connection)


def rest(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@contextlib.contextmanager
def serving(site: FakeSite | None = None, **config: object) -> Iterator[Serving]:
    site = site or FakeSite()
    server = Server(ServerConfig.model_validate({"port": 0} | config), site)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Serving(f"{server.scheme}://127.0.0.1:{server.server_address[1]}", site, server)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
