"""HTTP servers for the sources over HTTP: one whose answers a test sets, with TLS if wanted, and a forward proxy."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import requests
from exporter_parts import Answer

from exporter.collectors import registry
from exporter.collectors.base import Collection, Collector
from exporter.config import parse
from exporter.environment import Secrets

NOW = datetime(2025, 11, 24, 10, 5, 0, 400_000, tzinfo=UTC)


@dataclass
class Seen:
    """A request as it came in."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.content.decode()))


@dataclass
class Api:
    """An API as a test sees it. An answer of bytes is sent as it is, and then the connection is closed."""

    url: str
    answer: Callable[[Seen], Answer | bytes] = lambda _: Answer(body={"data": []})
    requests: list[Seen] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def finish_request(self, request: Any, client_address: Any) -> None:
        """A client that is refused in the handshake reads why before the connection goes."""
        if isinstance(request, ssl.SSLSocket):
            try:
                request.do_handshake()
            except ssl.SSLError:
                request.settimeout(1)
                with suppress(OSError):
                    while socket.socket.recv(request, 65536):
                        pass
                raise
        super().finish_request(request, client_address)

    def handle_error(self, *_: object) -> None:
        """Clients in these tests go away in the middle on purpose."""


@contextmanager
def served(handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Yield the URL of a server; the handshake is made in the thread of the connection."""
    server = _Server(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def api_server(context: ssl.SSLContext | None = None) -> Iterator[Api]:
    """An API whose answers the test sets; requests are kept."""
    state = Api("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen = Seen(self.command, parts.path, dict(parse_qsl(parts.query)), dict(self.headers.items()), content)
            state.requests.append(seen)
            answer = state.answer(seen)
            if isinstance(answer, bytes):
                self.wfile.write(answer)
                self.close_connection = True
                return
            if answer.held is not None:
                answer.held.wait(30)
            body = answer.encoded()
            self.send_response(answer.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body))} | answer.headers
            if answer.compressed:
                headers["Content-Encoding"] = "gzip"
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the base class looks for this name

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler, context) as url:
        state.url = url
        yield state


@dataclass
class Proxy:
    url: str
    user: str = "proxy-user"
    password: str = "pr0xy/pass"
    lines: list[str] = field(default_factory=list)

    @property
    def with_password(self) -> str:
        return self.url.replace("//", "//proxy-user:pr0xy%2Fpass@")


@contextmanager
def forward_proxy() -> Iterator[Proxy]:
    """A proxy that wants a password; it forwards GETs and tunnels CONNECTs."""
    state = Proxy("")

    class Handler(BaseHTTPRequestHandler):
        def _let_in(self) -> bool:
            state.lines.append(self.requestline)
            wanted = base64.b64encode(f"{state.user}:{state.password}".encode()).decode()
            if self.headers.get("Proxy-Authorization") == f"Basic {wanted}":
                return True
            self.send_error(407)
            return False

        def do_GET(self) -> None:
            if not self._let_in():
                return
            headers = {name: value for name, value in self.headers.items() if not name.startswith("Proxy-")}
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(self.path, headers=headers, timeout=10)
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        def do_CONNECT(self) -> None:
            if not self._let_in():
                return
            host, _, port = self.path.partition(":")
            with socket.create_connection((host, int(port))) as upstream:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=_pump, args=(upstream, self.connection), daemon=True)
                back.start()
                _pump(self.connection, upstream)
                back.join()

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler) as url:
        state.url = url
        yield state


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@dataclass
class Source:
    """A collector on its own, collecting when the test says so."""

    collector: Collector
    secrets: Secrets = field(default_factory=Secrets)

    def collection(self, **fields: Any) -> Collection:
        return Collection(**{"now": NOW, "deadline": monotonic() + 5, "secrets": self.secrets} | fields)

    def collect(self, collection: Collection | None = None, **fields: Any) -> pl.DataFrame:
        frame = self.collector.collect(collection or self.collection(**fields))
        assert frame is not None
        return frame

    def rows(self, **fields: Any) -> list[tuple[Any, ...]]:
        return self.collect(**fields).rows()


@contextmanager
def source(
    text: str, metrics: str = "[{source_field: value, prometheus_name: m, labels: [account_id]}]"
) -> Iterator[Source]:
    """The source that `text` configures, without name and metrics."""
    whole = f"name: source\nmetrics: {metrics}\n{textwrap.dedent(text).strip()}\n"
    (config,) = parse("data_sources:\n  -\n" + textwrap.indent(whole, "    "), "test.yaml").sources
    made = Source(registry.collector(config))
    try:
        yield made
    finally:
        made.collector.close()
