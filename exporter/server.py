"""The HTTP side: /metrics, the status page and the two probes."""

from __future__ import annotations

import re
import socket
import sys
import traceback
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import structlog

from exporter.errors import AddressTaken
from exporter.exposition import CONTENT_TYPES

log = structlog.get_logger()
_SMALL = 64 * 1024
_TEXT = "text/plain; charset=utf-8"
_METRICS = CONTENT_TYPES["text"]
_QUALITY = re.compile(r"q\s*=\s*0(\.0*)?\s*$")


class Site(Protocol):
    """What the server shows."""

    @property
    def ready(self) -> bool: ...

    def metrics(self, *, gzip: bool) -> list[bytes]: ...

    def status_page(self) -> str: ...


class Server(ThreadingHTTPServer):
    """A thread per connection; connections still open do not delay the end."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, site: Site) -> None:
        self.site = site
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise AddressTaken(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port"
            ) from None
        except OverflowError:
            raise AddressTaken(f"cannot listen on {host}:{port}: there is no such port") from None

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - socketserver's
        """Log what broke an answer, but not a client that went away in the middle of one."""
        if not isinstance(sys.exception(), OSError):
            log.error("answer broken off", client=client_address[0], traceback=traceback.format_exc())


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "sentinel-exporter"
    sys_version = ""
    timeout = 30
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        site, path = self.server.site, self.path.partition("?")[0]
        if path == "/metrics":
            gzip = accepts_gzip(self.headers.get("Accept-Encoding", ""))
            self._send(HTTPStatus.OK, _METRICS, site.metrics(gzip=gzip), gzip=gzip)
        elif path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", [site.status_page().encode()])
        elif path == "/-/healthy":
            self._send(HTTPStatus.OK, _TEXT, [b"healthy\n"])
        elif path == "/-/ready":
            ready = site.ready
            status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            self._send(status, _TEXT, [b"ready\n" if ready else b"some sources have not been tried yet\n"])
        else:
            self._send(HTTPStatus.NOT_FOUND, _TEXT, [b"not found: there are /, /metrics, /-/healthy and /-/ready\n"])

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - http.server's signature
        """No access log: a scrape every few seconds would bury what matters."""

    def _send(self, status: HTTPStatus, content_type: str, parts: list[bytes], *, gzip: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(sum(map(len, parts))))
        if content_type == _METRICS:
            self.send_header("Vary", "Accept-Encoding")
        if gzip:
            self.send_header("Content-Encoding", "gzip")
        if content_type.startswith("text/html"):
            policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
            self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            for part in gathered(parts):
                self.wfile.write(part)


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    for entry in header.lower().split(","):
        coding, _, parameters = entry.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return not _QUALITY.search(parameters)
    return False


def gathered(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, with small parts joined and large ones not copied: few writes, little copying."""
    small: list[bytes] = []
    size = 0
    for part in parts:
        if len(part) < _SMALL:
            small.append(part)
            size += len(part)
        if size and (len(part) >= _SMALL or size >= _SMALL):
            yield b"".join(small)
            small, size = [], 0
        if len(part) >= _SMALL:
            yield part
    if size:
        yield b"".join(small)
