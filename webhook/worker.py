"""The worker process, wired: sends what is in the outbox, sweeps, shows its metrics, stops cleanly on SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import sqlalchemy as sa
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from webhook.adapters.alertmanager import WARM_UP, AlertmanagerFiring
from webhook.adapters.charts import MatplotlibCharts
from webhook.adapters.llm import OpenAiSummariser
from webhook.adapters.prometheus import PrometheusHistory
from webhook.config import ConfigError, Duration, Settings
from webhook.domain.alert import AlertTypes
from webhook.domain.message import Note
from webhook.logs import configure_logging
from webhook.notifiers.registry import build_notifiers
from webhook.pipeline.chart import AlertChart
from webhook.pipeline.dispatch import Dispatcher
from webhook.pipeline.sweep import Sweep, Swept
from webhook.ports import Notifier
from webhook.storage.database import Database
from webhook.storage.outbox import Outbox
from webhook.storage.sweeping import Sweeping

IDLE = 0.1
"""Seconds between looks into an empty outbox."""

AFTER_ERROR = 1.0
STOP_WITHIN = 15.0
"""Seconds that texts and charts under way get when the worker is told to stop."""

PREFIX = "SENTINEL_WORKER_"

log = structlog.get_logger()


class WorkerOptions(BaseSettings):
    """`SENTINEL_WORKER_*`. Without `metrics_port` no metrics are served; `sweep_interval` follows the timeouts."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    metrics_host: str = "127.0.0.1"
    sweep_interval: Duration | None = None
    parallel: Annotated[int, Field(ge=1, le=64)] = 8


class DeliveryMetrics:
    """What was sent, how long it took, and what the sweep did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._notifications = Counter(
            "sentinel_notifications", "Attempts to deliver.", ["channel", "reason", "outcome"], registry=registry
        )
        self._delay = Histogram(
            "sentinel_notification_delay_seconds",
            "From the decision to the provider's answer.",
            ["channel"],
            buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800),
            registry=registry,
        )
        self._summaries = Counter("sentinel_summaries", "Answers of models.", ["source", "outcome"], registry=registry)
        self._charts = Counter("sentinel_charts", "Charts for messages.", ["outcome"], registry=registry)
        self._sweeps = Counter("sentinel_sweep_changes", "What the sweep did.", ["change"], registry=registry)
        self._outbox = Gauge("sentinel_outbox", "Notifications not yet delivered.", ["status"], registry=registry)
        self._errors = Counter("sentinel_worker_errors", "Rounds that failed.", ["loop"], registry=registry)

    def sent(self, note: Note, now: datetime) -> None:
        self._notifications.labels(note.channel_type, note.reason.value, "sent").inc()
        self._delay.labels(note.channel_type).observe(max(0.0, (now - note.created_at).total_seconds()))

    def failed(self, note: Note, *, permanent: bool) -> None:
        self._notifications.labels(note.channel_type, note.reason.value, "failed" if permanent else "retried").inc()

    def summarised(self, source: str, outcome: str) -> None:
        self._summaries.labels(source, outcome).inc()

    def chart(self, outcome: str) -> None:
        self._charts.labels(outcome).inc()

    def swept(self, swept: Swept, depth: dict[str, int]) -> None:
        for change, number in swept.counts().items():
            self._sweeps.labels(change).inc(number)
        for status, number in depth.items():
            self._outbox.labels(status).set(number)

    def error(self, loop: str) -> None:
        self._errors.labels(loop).inc()


@dataclass(slots=True)
class Worker:
    """Two loops, sending and sweeping, so that neither waits for the other."""

    dispatcher: Dispatcher
    sweep: Sweep
    outbox: Outbox
    metrics: DeliveryMetrics
    sweep_interval: timedelta
    clock: Callable[[], datetime]
    close: Callable[[], None]

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then finish what is under way."""
        sweeping = threading.Thread(
            target=self._loop, args=("sweep", self._sweep, self.sweep_interval.total_seconds(), stop), name="sweep"
        )
        sweeping.start()
        try:
            self._loop("dispatch", self._dispatch, IDLE, stop)
        finally:
            stop.set()
            sweeping.join()
            self.dispatcher.finish(STOP_WITHIN)
            self.dispatcher.close()
            self.close()

    def _dispatch(self) -> bool:
        return self.dispatcher.run_once(self.clock()) > 0

    def _sweep(self) -> bool:
        swept = self.sweep.run_once(self.clock())
        self.metrics.swept(swept, self.outbox.depth())
        return False

    def _loop(self, name: str, work: Callable[[], bool], pause: float, stop: threading.Event) -> None:
        """Do `work` again at once while there is more of it, else after `pause` seconds."""
        while not stop.is_set():
            try:
                more = work()
            except Exception as error:  # noqa: BLE001 - the store may be away for a while: leases and sweeps repair
                log.error("round_failed", loop=name, error=_words(error))  # noqa: TRY400 - a trace would repeat each second
                self.metrics.error(name)
                stop.wait(max(AFTER_ERROR, pause))
                continue
            if not more:
                stop.wait(pause)


def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; raise ConfigError when the settings do not suffice."""
    configure_logging("worker", settings.log_level)
    options = worker_options()
    registry = CollectorRegistry()
    worker = build_worker(settings, options, registry)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.metrics_port is not None:
        worker.close = _closing(worker.close, _serve_metrics(options.metrics_host, options.metrics_port, registry))
    log.info("worker_started", channels=sorted(worker.dispatcher.notifiers), model=settings.llm_model)
    worker.run(stop)
    log.info("worker_stopped")


def _serve_metrics(host: str, port: int, registry: CollectorRegistry) -> Callable[[], None]:
    """Return what ends it; raise ConfigError for an address that cannot be listened on."""
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError([f"{PREFIX}METRICS_PORT: cannot listen on {host}:{port}: {error.strerror}"]) from None
    return _closing(server.shutdown, server.server_close, thread.join)


def worker_options() -> WorkerOptions:
    try:
        return WorkerOptions()
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        raise ConfigError(
            f"{PREFIX}{str(detail['loc'][0]).upper()}: {detail['msg'].removeprefix('Value error, ')}"
            for detail in details
        ) from None


def build_worker(
    settings: Settings, options: WorkerOptions, registry: CollectorRegistry, clock: Callable[[], datetime] | None = None
) -> Worker:
    """Wire everything; raise ConfigError where a channel lacks a setting."""
    clock = clock or _utc_now
    types = settings.alert_types
    database = Database(settings.database_url.get_secret_value(), pool_size=options.parallel + 4)
    metrics = DeliveryMetrics(registry)
    outbox = Outbox(database)
    history = PrometheusHistory(settings.prometheus_url)
    shortest = shortest_timeout(types)
    firing = AlertmanagerFiring(settings.alertmanager_url, warm_up=min(WARM_UP, shortest / 10))
    model = _model(settings)
    dispatcher = Dispatcher(
        outbox=outbox,
        notifiers=_notifiers(settings),
        secrets=settings.secrets,
        public_url=settings.public_url,
        owner=f"{socket.gethostname()[:36]}-{os.getpid()}",
        clock=clock,
        meter=metrics,
        alert_types=types,
        summariser=model,
        summary_budget=settings.llm_timeout,
        chart=AlertChart(history, MatplotlibCharts()),
        parallel=options.parallel,
    )
    sweep = Sweep(Sweeping(database, types, settings.ingest.channels), outbox, types, firing)
    return Worker(
        dispatcher=dispatcher,
        sweep=sweep,
        outbox=outbox,
        metrics=metrics,
        sweep_interval=options.sweep_interval or sweep_interval(types),
        clock=clock,
        close=_closing(history.close, firing.close, database.close, *([model.close] if model else [])),
    )


def shortest_timeout(types: AlertTypes) -> timedelta:
    return min(settings.session_timeout for settings in (types.default, *types.by_type.values()))


def sweep_interval(types: AlertTypes) -> timedelta:
    """A twentieth of the shortest session timeout, between half a second and fifteen."""
    return min(max(shortest_timeout(types) / 20, timedelta(seconds=0.5)), timedelta(seconds=15))


def _model(settings: Settings) -> OpenAiSummariser | None:
    if settings.llm_model is None:
        return None
    return OpenAiSummariser(model=settings.llm_model, api_key=settings.llm_api_key, base_url=settings.llm_base_url)


def _notifiers(settings: Settings) -> dict[str, Notifier]:
    """The default channels and those that merchants may have chosen."""
    token: SecretStr | None = settings.slack_bot_token
    if "slack" in settings.channels and not (token and settings.slack_channel):
        raise ConfigError(
            ["SENTINEL_CHANNELS: slack wants SENTINEL_SLACK_BOT_TOKEN and SENTINEL_SLACK_CHANNEL to be set"]
        )
    channels = {"console", "slack", *settings.channels}
    options: dict[str, dict[str, Any]] = {
        "console": {"public_url": settings.public_url},
        "slack": {
            "token": token,
            "channel": settings.slack_channel,
            "api_url": settings.slack_api_url,
            "insecure_webhooks": settings.insecure_webhooks,
        },
    }
    try:
        return build_notifiers(sorted(channels), options)
    except ValueError as error:
        raise ConfigError([f"SENTINEL_CHANNELS: {error}"]) from None


def _closing(*calls: Callable[[], object]) -> Callable[[], None]:
    def close() -> None:
        for call in calls:
            call()

    return close


def _words(error: Exception) -> str:
    """What went wrong, without the statement and the row's content that SQLAlchemy adds."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return " ".join(repr(cause).split())[:500]


def _utc_now() -> datetime:
    return datetime.now(UTC)
