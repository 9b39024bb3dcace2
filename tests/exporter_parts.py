"""An exporter inside the test's process, and a REST server that answers as the metric platform documents."""

from __future__ import annotations

import gzip
import json
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlsplit

import requests
from prometheus_client.parser import text_string_to_metric_families
from servers import wait_for

from exporter.app import Exporter
from exporter.config import parse

Labels = frozenset[tuple[str, str]]


class Scraped:
    """One scrape, by family and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples.get(name, {}).get(frozenset(labels.items()))

    def values(self, name: str, label: str) -> dict[str, float]:
        return {dict(labels)[label]: value for labels, value in self.samples.get(name, {}).items()}


@dataclass
class Running:
    exporter: Exporter

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.exporter.url + path, headers=headers, timeout=10)

    def scrape(self) -> Scraped:
        return Scraped(self.get("/metrics").text)

    def wait(self, condition: Callable[[Scraped], object], what: str) -> Scraped:
        def met() -> Scraped | None:
            scraped = self.scrape()
            return scraped if condition(scraped) else None

        found = wait_for(met, what=what, timeout=20)
        assert found is not None
        return found

    def tried(self) -> Scraped:
        """The scrape after every source was tried."""
        wait_for(lambda: self.get("/-/ready").ok, what="every source tried")
        return self.scrape()

    def error(self, source: str = "source") -> tuple[str, str]:
        """Reason and message of a source's last failure."""
        failure = next(state for state in self.exporter._scheduler.states if state.name == source).last_failure
        assert failure is not None
        return failure.reason, failure.message


@contextmanager
def running(sources: str) -> Iterator[Running]:
    """Run an exporter with the given `data_sources` until the block ends."""
    text = "exporter: {port: 0, log_level: DEBUG}\ndata_sources:\n" + textwrap.indent(textwrap.dedent(sources), "  ")
    exporter = Exporter(parse(text, "test.yaml"))
    exporter.start()
    try:
        yield Running(exporter)
    finally:
        exporter.stop()


@dataclass
class Answer:
    """What the REST server says next. `body` that is no text or bytes is sent as JSON."""

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
class Request:
    path: str
    params: dict[str, str]
    headers: dict[str, str]


@dataclass
class RestServer:
    url: str
    answer: Callable[[Request], Answer] = lambda _: Answer()
    requests: list[Request] = field(default_factory=list)


def drip(out: BinaryIO, content: bytes, stopped: threading.Event) -> None:
    """Write a byte at a time, each well within any timeout."""
    for byte in content:
        out.write(bytes([byte]))
        if stopped.wait(0.05):
            return


@contextmanager
def rest_server() -> Iterator[RestServer]:
    """A REST server whose answers the test sets; requests are kept."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            request = Request(parts.path, dict(parse_qsl(parts.query)), dict(self.headers.items()))
            state.requests.append(request)
            answer = state.answer(request)
            if answer.held is not None:
                answer.held.wait(30)
            if answer.drip_headers:
                drip(self.wfile, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 10_000, stopped)
                return
            body = answer.encoded()
            self.send_response(answer.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body))} | answer.headers
            if answer.compressed:
                headers["Content-Encoding"] = "gzip"
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if not answer.drip:
                self.wfile.write(body)
                return
            drip(self.wfile, body, stopped)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """Clients in these tests go away in the middle on purpose."""

    stopped = threading.Event()
    server = Server(("127.0.0.1", 0), Handler)
    state = RestServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
