"""HTTP servers for the tests: one whose answers a test sets, with TLS if wanted, and a forward proxy."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests

DRIP = 0.05  # seconds from byte to byte, well within any timeout


@dataclass
class Answer:
    """What the server says next. `body` that is no text or bytes is sent as JSON. `held` waits for the test."""

    status: int = 200
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    compressed: bool = False
    held: threading.Event | None = None
    drip: bool = False
    drip_headers: bool = False

    def encoded(self) -> bytes:
        body = self.body if isinstance(self.body, bytes | str) else json.dumps(self.body)
        raw = body if isinstance(body, bytes) else body.encode()
        return gzip.compress(raw) if self.compressed else raw


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
    stopped: threading.Event = field(default_factory=threading.Event)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def finish_request(self, request: Any, client_address: Any) -> None:
        """A client that is refused in the handshake reads why before the connection goes."""
        if isinstance(request, ssl.SSLSocket):
            try:
                request.do_handshake()
            except ssl.SSLError:
                request.settimeout(60)
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


class _Answering(BaseHTTPRequestHandler):
    """Answers as `api` says."""

    api: Api
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        seen = Seen(self.command, parts.path, dict(parse_qsl(parts.query)), dict(self.headers.items()), content)
        self.api.requests.append(seen)
        answer = self.api.answer(seen)
        if isinstance(answer, bytes):
            self.wfile.write(answer)
            self.close_connection = True
            return
        if answer.held is not None:
            answer.held.wait()
        if answer.drip_headers:
            self._drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 10_000)
            return
        body = answer.encoded()
        self.send_response(answer.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))} | answer.headers
        if answer.compressed:
            headers["Content-Encoding"] = "gzip"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.drip:
            self._drip(body)
        else:
            self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the base class looks for this name

    def _drip(self, content: bytes) -> None:
        """Send a byte at a time, for longer than any test lasts."""
        self.close_connection = True
        for byte in content:
            self.wfile.write(bytes([byte]))
            if self.api.stopped.wait(DRIP):
                return

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def api_server(context: ssl.SSLContext | None = None) -> Iterator[Api]:
    """An API whose answers the test sets; requests are kept."""
    state = Api("")
    with served(type("Handler", (_Answering,), {"api": state}), context) as url:
        state.url = url
        try:
            yield state
        finally:
            state.stopped.set()


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
            answer = _forwarded(self)
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


def _forwarded(request: BaseHTTPRequestHandler) -> requests.Response:
    headers = {name: value for name, value in request.headers.items() if not name.startswith("Proxy-")}
    with requests.Session() as session:
        session.trust_env = False
        return session.get(request.path, headers=headers, timeout=60)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
