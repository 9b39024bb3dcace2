"""gunicorn, embedded: no configuration file and no second command."""

from __future__ import annotations

import gc
import os
import signal
import socket
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from prometheus_client.multiprocess import mark_process_dead

from webhook.adapters.charts import begin_warm_up
from webhook.app import create_app
from webhook.config import Settings
from webhook.connections import PatientWorker
from webhook.logs import configure_logging

STOP_WITHIN_S = 10
"""Seconds that requests under way get when the server is told to stop."""


def run(settings: Settings, listener: socket.socket, *, workers: int, threads: int) -> None:
    """Serve on an open socket until told to stop; requests under way are finished first."""
    configure_logging("webhook", settings.log_level, settings.secrets())
    options = {
        "bind": f"fd://{listener.fileno()}",
        "workers": workers,
        "threads": threads,
        "worker_class": PatientWorker,
        "graceful_timeout": STOP_WITHIN_S,
        "keepalive": 75,  # longer than Alertmanager's pauses between the groups of one route
        "loglevel": "warning",
        "logger_class": _Log,
        "proc_name": "sentinel-webhook",
        "control_socket_disable": True,  # it would lie in the user's home, one for all servers of that user
        "child_exit": _forget,
        "post_worker_init": _ready,
    }
    _Server(settings, options).run()


def _forget(_arbiter: object, worker: Any) -> None:  # noqa: ANN401 - gunicorn ships no types
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def _ready(worker: Any) -> None:  # noqa: ANN401 - gunicorn ships no types
    """What a worker holds from its start stays: the garbage collector need not look at it again and again."""
    _end_streams_on_stop(worker)
    gc.collect()
    gc.freeze()
    begin_warm_up()


def _end_streams_on_stop(worker: Any) -> None:  # noqa: ANN401 - gunicorn ships no types
    """A stop waits for requests under way, and a live stream would never end by itself."""
    stop = signal.getsignal(signal.SIGTERM)
    broadcaster = worker.wsgi.extensions["sentinel_broadcaster"]

    def end_streams_and_stop(number: int, frame: FrameType | None) -> None:
        broadcaster.close()
        if callable(stop):
            stop(number, frame)

    signal.signal(signal.SIGTERM, end_streams_and_stop)


class _Log(Logger):  # type: ignore[misc] # gunicorn ships no types
    """Its lines go where all go, secrets masked."""

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 - as above
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True


class _Server(BaseApplication):  # type: ignore[misc] # gunicorn ships no types
    def __init__(self, settings: Settings, options: dict[str, Any]) -> None:
        self._settings = settings
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return create_app(self._settings)
