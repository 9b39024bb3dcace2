"""The worker process, wired: sends what is in the outbox, sweeps, shows its metrics, stops cleanly on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import sqlalchemy as sa
import structlog
from prometheus_client import CollectorRegistry

from webhook.adapters.alertmanager import WARM_UP, FiringAnywhere, firing_of
from webhook.adapters.charts import MatplotlibCharts
from webhook.adapters.prometheus import PrometheusHistory
from webhook.channels import build_channels
from webhook.config import ConfigError, Settings
from webhook.domain.access import token_mark
from webhook.grafana_charts import grafana_panels
from webhook.logs import configure_logging
from webhook.notifiers.deadline import cut_all_short
from webhook.notifiers.registry import paces
from webhook.pipeline.canary import Canary
from webhook.pipeline.chart import AlertChart
from webhook.pipeline.chart_metrics import ChartMetrics
from webhook.pipeline.delivery_metrics import DeliveryMetrics
from webhook.pipeline.dispatch import RECORD_WITHIN, Dispatcher
from webhook.pipeline.follow import Follow
from webhook.pipeline.reconcile import Reconciliation
from webhook.pipeline.sweep import Sweep, shortest_timeout, sweep_interval
from webhook.ports import FollowingNotifier, Notifier
from webhook.reconcile_wiring import build_reconciliation
from webhook.storage.channel_health import ChannelHealth, channel_health
from webhook.storage.database import Database
from webhook.storage.database_metrics import DatabaseMetrics
from webhook.storage.leases import Leases
from webhook.storage.outbox import Outbox
from webhook.storage.pacing import Paces
from webhook.storage.push import WebReaders
from webhook.storage.retention import BATCH as PURGED_AT_ONCE
from webhook.storage.retention import Purge, Retention
from webhook.storage.schema import unready
from webhook.storage.sms_log import StoredSmsLog
from webhook.storage.standing import Standings
from webhook.storage.sweeping import Sweeping
from webhook.summary_wiring import Words, build_words
from webhook.web.worker_status import serve_status, status_app
from webhook.worker_options import PREFIX, WorkerOptions, worker_options

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

IDLE = 0.1
"""Seconds between looks into an empty outbox."""

AFTER_ERROR = 1.0
SWEEP_LASTS = timedelta(seconds=60)
"""A sweep may take so long before another worker sweeps beside it, which is safe and only costs."""

PURGE_INTERVAL = timedelta(hours=1)
DIGEST_INTERVAL = timedelta(minutes=1)
STUCK = timedelta(minutes=2)
"""A round that lasts so long, beside the pause before it, does not end any more."""

STUCK_PURGE = timedelta(minutes=10)
"""It deletes many rows of a database that may be busy."""

FOLLOW_INTERVAL = timedelta(seconds=3)
"""Between looks at what people did: so long after it, messages that stay where they are show it."""

STUCK_LONG = timedelta(minutes=10)
"""Following changes one message after the other; reconciling asks about one alert after the other."""

STOP_WITHIN = 15.0
"""Seconds that texts and charts under way get when the worker is told to stop; then calls are broken off."""

log = structlog.get_logger()


@dataclass(slots=True)
class Worker:
    """Loops of which none waits for another: every worker sends and follows; one sweeps and sums up, one forgets."""

    dispatcher: Dispatcher
    sweep: Sweep
    reconciliation: Reconciliation
    follow: Follow
    purge: Purge
    leases: Leases
    outbox: Outbox
    metrics: DeliveryMetrics
    sweep_interval: timedelta
    clock: Callable[[], datetime]
    close: Callable[[], None]
    why_unready: Callable[[], str]
    health: Callable[[datetime], Mapping[str, ChannelHealth]] = lambda _: {}
    canary: Canary | None = None
    canary_interval: timedelta = timedelta(minutes=5)
    turned: dict[str, float] = field(default_factory=dict)
    """When each loop last began a round, in monotonic seconds."""

    def run(self, stop: threading.Event) -> bool:
        """Work until `stop` is set, then finish what is under way; False when something does not end in time."""
        others = [
            threading.Thread(target=self._loop, args=(name, work, pause.total_seconds(), stop), name=name)
            for name, work, pause in (
                ("sweep", self._sweep, self.sweep_interval),
                ("reconcile", self._reconcile, self.reconciliation.interval),
                ("follow", self._follow, FOLLOW_INTERVAL),
                ("purge", self._purge, PURGE_INTERVAL),
                ("digest", self._digest, DIGEST_INTERVAL),
                ("canary", self._try_out, self.canary_interval),
            )
        ]
        for thread in others:
            thread.start()
        try:
            self._loop("dispatch", self._dispatch, IDLE, stop)
        finally:
            log.info("worker_stopping")
            stop.set()
            until = monotonic() + STOP_WITHIN
            for thread in others:
                thread.join(max(0.0, until - monotonic()))
            self.dispatcher.finish(STOP_WITHIN)
            cut_all_short()
            self.dispatcher.close(RECORD_WITHIN.total_seconds())
            self._give_back()
            self.close()
        return not self.dispatcher.busy() and not any(thread.is_alive() for thread in others)

    def stuck(self) -> str:
        """Which loops have begun no round for too long, each by its own pace; empty when all turn."""
        longest = {
            "dispatch": STUCK,
            "sweep": self.sweep_interval + STUCK,
            "reconcile": self.reconciliation.interval + STUCK_LONG,
            "follow": FOLLOW_INTERVAL + STUCK_LONG,
            "purge": PURGE_INTERVAL + STUCK_PURGE,
            "digest": DIGEST_INTERVAL + STUCK,
            "canary": self.canary_interval + STUCK,
        }
        now = monotonic()
        late = [name for name, at in self.turned.copy().items() if now - at > longest[name].total_seconds()]
        return "; ".join(f"no round of {name} for {longest[name]}" for name in late)

    def unready(self) -> str:
        """Why the store cannot be used; empty when it can."""
        return self.why_unready()

    def _dispatch(self) -> bool:
        """Again at once while a channel is full: the dispatcher waits for its next free thread by itself."""
        return self.dispatcher.run_once(self.clock()) > 0 or self.dispatcher.full()

    def _sweep(self) -> bool:
        now, leads = self.clock(), False
        try:
            leads = self.leases.hold("sweep", now, 3 * self.sweep_interval + SWEEP_LASTS)
        finally:
            self.metrics.leading(leads=leads)
        if leads:
            self.metrics.swept(self.sweep.run_once(now), self.outbox.depth(), self.outbox.oldest_due(now), now)
        return False

    def _reconcile(self) -> bool:
        """By whoever did so last, or another when that one is gone."""
        now = self.clock()
        if self.leases.hold("reconcile", now, 3 * self.reconciliation.interval + SWEEP_LASTS):
            self.reconciliation.run_once(now)
        return False

    def _follow(self) -> bool:
        self.follow.run_once(self.clock())
        return False

    def _purge(self) -> bool:
        """Batch after batch while one is full."""
        now = self.clock()
        if not self.leases.hold("purge", now, PURGE_INTERVAL):
            return False
        rows = self.purge.run_once(now)
        self.metrics.purged(rows)
        return max(rows.values()) >= PURGED_AT_ONCE

    def _digest(self) -> bool:
        """By whoever sweeps."""
        now = self.clock()
        leads = self.leases.hold("digest", now, 3 * DIGEST_INTERVAL)
        self.metrics.channels(self.health(now) if leads else {})
        if leads:
            self.sweep.tell_held_back(now)
        return False

    def _try_out(self) -> bool:
        """One of all workers; whoever did so last does it again."""
        now = self.clock()
        if self.canary is not None and self.leases.hold("canary", now, 2 * self.canary_interval):
            self.canary.run_once(now)
        return False

    def _give_back(self) -> None:
        """Another worker goes on at once; while the store is away the leases end by themselves."""
        with suppress(sa.exc.SQLAlchemyError):
            for name in ("sweep", "reconcile", "purge", "digest", "canary"):
                self.leases.give_back(name)

    def _loop(self, name: str, work: Callable[[], bool], pause: float, stop: threading.Event) -> None:
        """Do `work` again at once while there is more of it, else after `pause` seconds."""
        while not stop.is_set():
            self.turned[name] = monotonic()
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
    configure_logging("worker", settings.log_level, settings.secrets())
    options = worker_options()
    registry = CollectorRegistry()
    worker = build_worker(settings, options, registry)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.metrics_port is not None:
        token = settings.metrics_token.get_secret_value() if settings.metrics_token else ""
        status = status_app(registry, healthy=worker.stuck, ready=worker.unready, token=token)
        worker.close = _closing(worker.close, _serve_status(status, options.metrics_host, options.metrics_port))
    worker.dispatcher.draw(MatplotlibCharts().warm_up)
    log.info(
        "worker_started",
        channels=sorted(worker.dispatcher.notifiers),
        models=[model.name for model in settings.summary_chain.models],
    )
    ended = worker.run(stop)
    log.info("worker_stopped", ended=ended)
    if (
        not ended
    ):  # the interpreter would wait for those threads for ever; what they hold is leased, and goes on elsewhere
        logging.shutdown()
        os._exit(0)


def _serve_status(app: WSGIApplication, host: str, port: int) -> Callable[[], None]:
    """Return what ends it; raise ConfigError for an address that cannot be listened on."""
    try:
        return serve_status(app, host, port)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigError([f"{PREFIX}METRICS_PORT: cannot listen on {host}:{port}: {why}"]) from None


def build_worker(
    settings: Settings, options: WorkerOptions, registry: CollectorRegistry, clock: Callable[[], datetime] | None = None
) -> Worker:
    """Wire everything; raise ConfigError where a channel lacks a setting."""
    clock, owner = clock or _utc_now, _owner()
    url = settings.database_url.get_secret_value()
    database = Database(url, pool_size=options.parallel + 4, meter=DatabaseMetrics(registry))
    metrics = DeliveryMetrics(registry)
    notifiers = build_channels(settings, StoredSmsLog(database, clock), _readers(settings, database))
    metrics.begun(notifiers)
    outbox = Outbox(database, Paces(*paces(notifiers, settings.notifier_options)))
    firing = _firing(settings)
    reconciliation = build_reconciliation(settings, database, registry, firing)
    words = build_words(settings, database, registry, clock, parallel=options.parallel)
    chart, close_chart = _chart(settings, registry)
    dispatcher = _dispatcher(
        settings, options, notifiers, outbox=outbox, owner=owner, clock=clock, meter=metrics, words=words, chart=chart
    )
    return Worker(
        dispatcher=dispatcher,
        sweep=_sweep(settings, database, outbox, firing),
        reconciliation=reconciliation,
        follow=_follow(settings, database, notifiers),
        purge=_purge(settings, database),
        leases=Leases(database, owner),
        outbox=outbox,
        metrics=metrics,
        sweep_interval=options.sweep_interval or sweep_interval(settings.alert_types),
        clock=clock,
        close=_closing(words.close, close_chart, reconciliation.close, firing.close, database.close),
        why_unready=partial(unready, database),
        health=partial(_health, database),
        **_canary(settings, dispatcher, metrics, clock),
    )


def _firing(settings: Settings) -> FiringAnywhere:
    return firing_of(settings.alertmanager_url, warm_up=min(WARM_UP, shortest_timeout(settings.alert_types) / 10))


def _chart(settings: Settings, registry: CollectorRegistry) -> tuple[AlertChart, Callable[[], None]]:
    """The charts, and what ends what they use."""
    history, panels = PrometheusHistory(settings.prometheus_url), grafana_panels(settings.grafana)
    chart = AlertChart(history, MatplotlibCharts(), history, panels, ChartMetrics(registry))
    return chart, _closing(history.close, *([panels.close] if panels is not None else []))


def _dispatcher(
    settings: Settings,
    options: WorkerOptions,
    notifiers: Mapping[str, Notifier],
    *,
    outbox: Outbox,
    owner: str,
    clock: Callable[[], datetime],
    meter: DeliveryMetrics,
    words: Words,
    chart: AlertChart,
) -> Dispatcher:
    return Dispatcher(
        outbox=outbox,
        notifiers=notifiers,
        secrets=settings.secret_box,
        public_url=settings.public_url,
        owner=owner,
        clock=clock,
        meter=meter,
        alert_types=settings.alert_types,
        summariser=words.summaries,
        summary_budget=settings.summary_chain.budget,
        chart=chart,
        parallel=options.parallel,
    )


def _follow(settings: Settings, database: Database, notifiers: Mapping[str, Notifier]) -> Follow:
    following = {name: one for name, one in notifiers.items() if isinstance(one, FollowingNotifier)}
    return Follow(Standings(database), following, settings.public_url, settings.secret_box)


def _sweep(settings: Settings, database: Database, outbox: Outbox, firing: FiringAnywhere) -> Sweep:
    sweeping = Sweeping(database, settings.alert_types, settings.ingest.channels, settings.ingest.operations)
    return Sweep(sweeping, outbox, settings.alert_types, firing)


def _purge(settings: Settings, database: Database) -> Purge:
    retention = Retention(settings.retention, settings.audit_retention, settings.version_retention)
    return Purge(database, retention, settings.alert_types)


def _canary(
    settings: Settings, dispatcher: Dispatcher, metrics: DeliveryMetrics, clock: Callable[[], datetime]
) -> dict[str, Any]:
    if settings.canary is None:
        return {}
    notifiers = build_channels(settings)
    canary = Canary(dispatcher, notifiers, settings.canary.channels, settings.public_url, metrics, clock)
    return {"canary": canary, "canary_interval": settings.canary.every}


def _health(database: Database, now: datetime) -> dict[str, ChannelHealth]:
    with database.read() as connection:
        return channel_health(connection, now)


def _owner() -> str:
    """Who holds leases: no other process, for in containers all are process 1 and long host names begin alike."""
    return f"{socket.gethostname()[-24:]}-{os.getpid()}-{uuid4().hex[:12]}"


def _readers(settings: Settings, database: Database) -> WebReaders:
    """The admin token, where this process has it, tells which subscriptions were made with an older one."""
    token = settings.admin_token.get_secret_value() if settings.admin_token else ""
    return WebReaders(database, settings.secret_box, token_mark(token) if token else "")


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
