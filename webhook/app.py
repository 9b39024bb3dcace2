"""The web process, wired: receiver, health, metrics, pages."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from webhook.adapters.charts import MatplotlibCharts
from webhook.adapters.prometheus import PrometheusHistory
from webhook.config import ConfigError, Settings
from webhook.domain.evaluation import MerchantConfig
from webhook.notifiers.outgoing import check_hosts
from webhook.pipeline import actions
from webhook.pipeline.chart import AlertChart
from webhook.pipeline.ingest import IngestMetrics
from webhook.pipeline.preview import preview
from webhook.storage.configs import ConfigStore
from webhook.storage.database import Database
from webhook.storage.records import AlertRecord
from webhook.storage.replaying import StoredPast
from webhook.storage.store import AlertStore
from webhook.storage.tables import alert_trigger_log
from webhook.web.config_api import ConfigSite
from webhook.web.contracts import ImageFormat, Theme
from webhook.web.pages import register_pages
from webhook.web.previewing import preview_answer
from webhook.web.receiver import register_receiver

_CONNECTIONS = 20


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> Flask:
    """Build the web application; raise ConfigError where it lacks a setting. `clock` gives the time in UTC."""
    if not settings.ingest_token:
        raise ConfigError(["SENTINEL_INGEST_TOKEN: must be set"])
    app = Flask("webhook", static_folder=None)
    database = Database(settings.database_url.get_secret_value(), pool_size=_CONNECTIONS)
    store = AlertStore(database)
    registry = CollectorRegistry()
    register_receiver(
        app,
        store,
        settings.ingest,
        token=settings.ingest_token.get_secret_value(),
        max_body_bytes=settings.max_body_bytes,
        metrics=IngestMetrics(registry),
        clock=clock,
    )
    _register_health(app, database)
    _register_metrics(app, registry)
    _register_pages(app, settings, database, store, clock)
    app.extensions["sentinel_database"] = database
    return app


@dataclass(frozen=True, slots=True)
class _Actions:
    """The pipeline's actions on this process' store."""

    store: AlertStore

    def resolve(self, alert_id: str, *, note: str, actor: str, authenticated_as: str, now: datetime) -> None:
        actions.resolve(self.store, alert_id, note=note, actor=actor, authenticated_as=authenticated_as, now=now)

    def dismiss(self, alert_id: str, *, reason: str, actor: str, authenticated_as: str, now: datetime) -> None:
        actions.dismiss(self.store, alert_id, reason=reason, actor=actor, authenticated_as=authenticated_as, now=now)


@dataclass(frozen=True, slots=True)
class _Charts:
    """The chart of an alert as it stands now."""

    chart_of: AlertChart
    clock: Callable[[], datetime]

    def chart(
        self, alert: AlertRecord, metric: str, *, threshold: float | None, theme: Theme, image_format: ImageFormat
    ) -> bytes:
        return self.chart_of.draw(
            metric=metric,
            threshold=threshold,
            account_id=alert.account_id,
            merchant=alert.merchant_name or alert.account_id,
            start=alert.first_triggered_at,
            end=alert.resolved_at,
            now=self.clock(),
            theme=theme,
            image_format=image_format,
        )


def _register_pages(
    app: Flask, settings: Settings, database: Database, store: AlertStore, clock: Callable[[], datetime]
) -> None:
    if not settings.admin_token:
        raise ConfigError(["SENTINEL_ADMIN_TOKEN: must be set"])
    if settings.secret_key:
        app.secret_key = settings.secret_key.get_secret_value()
    history = PrometheusHistory(settings.prometheus_url)
    broadcaster = register_pages(
        app,
        database=database,
        clock=clock,
        actions=_Actions(store),
        charts=_Charts(AlertChart(history, MatplotlibCharts()), clock),
        config=_config_site(settings, database, history, clock),
        admin_token=settings.admin_token.get_secret_value(),
    )
    app.extensions["sentinel_broadcaster"] = broadcaster


def _config_site(
    settings: Settings, database: Database, history: PrometheusHistory, clock: Callable[[], datetime]
) -> ConfigSite:
    def previewed(config: MerchantConfig, span: timedelta, now: datetime) -> dict[str, Any]:
        return preview_answer(preview(StoredPast(database), history, config, settings.ingest, now, span=span))

    def check_urls(config: MerchantConfig) -> None:
        if not settings.insecure_webhooks:
            check_hosts(config.channel_preferences)

    store = ConfigStore(database, settings.secrets)
    return ConfigSite(store, clock, previewed, check_urls)


def _register_health(app: Flask, database: Database) -> None:
    def healthy() -> Response:
        return Response("healthy\n", mimetype="text/plain")

    def ready() -> Response:
        """200 when the database answers and has been migrated."""
        try:
            with database.read() as connection:
                connection.execute(sa.select(alert_trigger_log.c.id).limit(1))
        except sa.exc.SQLAlchemyError as error:
            reason = type(getattr(error, "orig", None) or error).__name__
            return Response(f"the database cannot be used: {reason}\n", status=503, mimetype="text/plain")
        return Response("ready\n", mimetype="text/plain")

    app.add_url_rule("/-/healthy", "healthy", healthy)
    app.add_url_rule("/-/ready", "ready", ready)


def _register_metrics(app: Flask, registry: CollectorRegistry) -> None:
    def metrics() -> Response:
        """Of all worker processes together, where there are several."""
        shown = registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            shown = CollectorRegistry()
            MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
        return Response(generate_latest(shown), content_type=CONTENT_TYPE_LATEST)

    app.add_url_rule("/metrics", "metrics", metrics)
