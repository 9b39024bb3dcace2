"""The demo's server process: a writer thread (simulator or replay) beside the metric platform's REST API."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from sqlalchemy.exc import OperationalError
from werkzeug.serving import BaseWSGIServer, make_server

from demo.errors import DemoError
from demo.metric_platform import create_app
from demo.payments import PaymentsStore

logger = logging.getLogger("demo")

_HOST = "127.0.0.1"

TICK = 0.5
"""Seconds between two steps of the writer."""


class Writer(Protocol):
    """What fills the store: brings it up to `now` (epoch seconds)."""

    def step(self, now: float) -> int: ...


class WriterThread(threading.Thread):
    """Steps a writer until stopped; `after` is told the time of each step and may end the thread by True."""

    def __init__(self, writer: Writer, after: Callable[[float], bool]) -> None:
        super().__init__(name="payments-writer", daemon=True)
        self._writer = writer
        self._after = after
        self._stopped = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        while not self._stopped.wait(TICK):
            now = time.time()
            try:
                self._writer.step(now)
            except OperationalError as error:  # locked, or the database restarts: the next step catches up
                logger.warning("payments store: %s; trying again", error.orig)
                continue
            except Exception as error:
                self.failure = error  # the process ends with it instead of serving a store that stands still
                raise
            if self._after(now):
                return

    def stop(self) -> None:
        self._stopped.set()


def make_api_server(store: PaymentsStore, token: str, port: int) -> BaseWSGIServer:
    """Bound to 127.0.0.1. Raises DemoError when the port is taken."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    app = create_app(store, token, time.time)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, port))
        except OSError as error:  # werkzeug itself would print and exit
            raise DemoError(f"port {port} is taken; choose another with --port") from error
        listener.listen()
        return make_server(_HOST, port, app, threaded=True, fd=listener.fileno())


def serve(server: BaseWSGIServer, thread: WriterThread) -> None:
    """Run until SIGINT or SIGTERM, or until the writer dies (its error is raised)."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    api = threading.Thread(target=server.serve_forever, name="metric-platform", daemon=True)
    api.start()
    thread.start()
    while not stop.wait(TICK) and thread.failure is None:
        pass
    thread.stop()
    thread.join()
    server.shutdown()
    server.server_close()
    if thread.failure is not None:
        raise thread.failure
