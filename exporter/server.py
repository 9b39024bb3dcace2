"""The HTTP server: connections, their limits, and the way from bytes to a request and back."""

from __future__ import annotations

import io
import socket
import ssl
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any

import structlog

from exporter.access import Access
from exporter.connection import Reader, TooMuch, drain, send
from exporter.errors import AddressTaken
from exporter.routes import Answer, Request, Routes, Site
from exporter.server_config import LimitsConfig, ServerConfig
from exporter.tls import Certificates

log = structlog.get_logger()
_LONGEST_LINE = 8 * 1024  # of the request line, with the URL
_LONGEST_HEAD = 32 * 1024
_LONGEST_BODY = 64 * 1024
_SPARE = 16  # connections beyond the limit that are still told so, and get their probes answered
_BUSY_FROM = 0.75  # of the limit
_PROBES = ("/-/healthy", "/-/ready")
_ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class Server(ThreadingHTTPServer):
    """A thread per connection, as many as `limits.max_connections`; only answers in progress delay the end."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, config: ServerConfig, site: Site) -> None:
        """AddressTaken when the address cannot be bound; CannotServe for what is wrong with credentials or TLS."""
        self.routes = Routes(site, Access(config.auth), config.allow_reload)
        self.limits: LimitsConfig = config.limits
        self._certificates = Certificates(config.tls) if config.tls else None
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._answering = 0
        self._ending = False
        self._open = 0
        self._spare: set[socket.socket] = set()
        host, port = config.host, config.port
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise AddressTaken(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port"
            ) from None
        except OverflowError:
            raise AddressTaken(f"cannot listen on {host}:{port}: there is no such port") from None

    @property
    def scheme(self) -> str:
        return "https" if self._certificates else "http"

    @property
    def busy(self) -> bool:
        """Whether none should be kept for a next request: too many connections are open, or the server ends."""
        return self._ending or self._open > self.limits.max_connections * _BUSY_FROM

    def is_spare(self, connection: socket.socket) -> bool:
        """Whether it is one too many, open only to be told so."""
        return connection in self._spare

    @contextmanager
    def answering(self) -> Iterator[None]:
        """What `end` waits for."""
        with self._lock:
            self._answering += 1
        try:
            yield
        finally:
            with self._answered:
                self._answering -= 1
                self._answered.notify_all()

    def end(self) -> None:
        """Take no more connections, and no further request on those that are open."""
        self._ending = True
        self.shutdown()
        self.server_close()

    def finish(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the answers in progress; whether all were sent."""
        with self._answered:
            return self._answered.wait_for(lambda: not self._answering, timeout)

    def get_request(self) -> tuple[socket.socket, Any]:
        """An accepted connection. Its TLS handshake happens in its own thread: a slow one must not block the others."""
        connection, address = super().get_request()
        if self._certificates is None:
            return connection, address
        try:
            wrapped = self._certificates.context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
            )
        except OSError:
            connection.close()
            raise
        return wrapped, address

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's
        """A thread for the connection; without one and a word where even the spare ones are taken."""
        with self._lock:
            refused = self._open >= self.limits.max_connections + _SPARE
            if not refused and self._open >= self.limits.max_connections:
                self._spare.add(request)
            self._open += not refused
        if refused:
            request.close()
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no further thread can be started
            self._ended(request)
            request.close()

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._ended(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - socketserver's
        """Log what broke an answer, but not a client that went away in the middle of one."""
        if not isinstance(sys.exception(), OSError):
            log.error("answer broken off", client=client_address[0], traceback=traceback.format_exc())

    def _ended(self, connection: socket.socket) -> None:
        with self._lock:
            self._open -= 1
            self._spare.discard(connection)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # what cannot be read is answered with a status, too
    server_version = "sentinel-exporter"
    sys_version = ""
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._reader = Reader(self.connection)
        self.rfile = io.BufferedReader(self._reader)

    def handle(self) -> None:
        limits = self.server.limits
        self.connection.settimeout(limits.read_timeout)
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()
        self.close_connection = False
        wait = limits.read_timeout
        while not self.close_connection and self._begins(wait):
            with self.server.answering():
                self.handle_one_request()
            wait = limits.idle_timeout

    def handle_one_request(self) -> None:
        """Read one request and answer it. Whatever is wrong with it is said before the connection is closed."""
        self.close_connection = True
        try:
            request = self._read()
        except TimeoutError:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")
        except TooMuch:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too long")
        else:
            if request is not None:
                self._reply(self._answer(request))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - http.server's
        """What http.server finds wrong with a request, as text instead of a page."""
        self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - http.server's signature
        """No access log: a scrape every few seconds would bury what matters."""

    def _begins(self, seconds: float) -> bool:
        """Wait for a request's first byte; False when the client went away or sends nothing."""
        self._reader.expect(seconds, _LONGEST_HEAD)
        with suppress(TimeoutError):
            return bool(self.rfile.peek(1))  # type: ignore[attr-defined] # a BufferedReader since setup
        return False

    def _read(self) -> Request | None:
        """The request with its body read and thrown away; None when it was refused already."""
        self.requestline, self.command, self.request_version = "", "", self.default_request_version
        self._reader.expect(self.server.limits.read_timeout, _LONGEST_HEAD)
        self.raw_requestline = self.rfile.readline(_LONGEST_LINE + 1)
        if len(self.raw_requestline) > _LONGEST_LINE:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG, f"the URL is longer than {_LONGEST_LINE} bytes")
            return None
        if not self.parse_request():
            return None
        return self._whole() if self._without_body() else None

    def _without_body(self) -> bool:
        """Whether there is no body left to read, a small one being read here."""
        length = self.headers.get("Content-Length", "0").strip()
        if "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "send no body, or one with Content-Length")
        elif not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
        elif len(length) > len(str(_LONGEST_BODY)) or int(length) > _LONGEST_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {_LONGEST_BODY} bytes")
        else:
            self._reader.expect(self.server.limits.read_timeout, _LONGEST_BODY)
            return len(self.rfile.read(int(length))) == int(length)
        return False

    def _whole(self) -> Request:
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.command, self.path, self.client_address[0], headers)

    def _answer(self, request: Request) -> Answer:
        self.close_connection |= self.server.busy
        if self.server.is_spare(self.connection) and request.target.partition("?")[0] not in _PROBES:
            return Answer.text(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections", ("Retry-After", "5"))
        return self.server.routes.answer(request)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer what is no request that could be followed by another, and close."""
        self.close_connection = True
        self._reply(Answer.text(status, text))
        drain(self.connection)

    def _reply(self, answer: Answer) -> None:
        deadline = monotonic() + self.server.limits.send_timeout
        self.send_response(answer.status)
        length = sum(map(len, answer.parts))
        headers = (("Content-Type", answer.content_type), ("Content-Length", str(length)), *answer.headers, *_ALWAYS)
        for name, value in headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self._send(answer.parts if self.command != "HEAD" else (), deadline)

    def _send(self, parts: Sequence[bytes], deadline: float) -> None:
        head = b"".join(self._headers_buffer) + b"\r\n"
        self._headers_buffer: list[bytes] = []
        try:
            send(self.connection, (head, *parts), deadline)
        except TimeoutError:
            self.close_connection = True
