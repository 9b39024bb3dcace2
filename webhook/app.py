"""The web process, wired: receiver, health, metrics, pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from flask import Flask, Response, request
from flask_openapi3.openapi import OpenAPI
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import SecretStr, ValidationError
from werkzeug.wrappers import Response as AnyResponse

from webhook.adapters.charts import MatplotlibCharts
from webhook.adapters.frequency import FrequencyMetrics, RedisPlaces
from webhook.adapters.prometheus import PrometheusHistory
from webhook.channels import set_up, try_channels
from webhook.config import ConfigError, Settings
from webhook.domain.access import Right
from webhook.domain.evaluation import MerchantConfig
from webhook.grafana_charts import grafana_panels
from webhook.notifiers.outgoing import check_hosts
from webhook.notifiers.registry import BadOptions, Site, build_notifiers, option_problems
from webhook.notifiers.webapp import WebAppOptions, service_of, web_push
from webhook.pipeline.action_notes import ActionNotes
from webhook.pipeline.chart import AlertChart
from webhook.pipeline.chart_metrics import ChartMetrics
from webhook.pipeline.follow import Follow
from webhook.pipeline.ingest import IngestMetrics
from webhook.pipeline.preview import Previews
from webhook.pipeline.reports import ReportIntake
from webhook.ports import Notifier
from webhook.storage.acting import AlertActions
from webhook.storage.config_rows import StoredConfig
from webhook.storage.configs import ConfigStore
from webhook.storage.database import Database
from webhook.storage.database_metrics import DatabaseMetrics
from webhook.storage.dead_letters import DeadLetters
from webhook.storage.known_types import KnownTypes
from webhook.storage.push import PushSubscriptions
from webhook.storage.records import AlertRecord
from webhook.storage.replaying import StoredPast
from webhook.storage.reporting import ReportRuns
from webhook.storage.schema import unready
from webhook.storage.sms_log import StoredSmsLog
from webhook.storage.standing import Standings
from webhook.storage.store import AlertStore
from webhook.summary_wiring import build_words
from webhook.web.access import allow
from webhook.web.api import Api
from webhook.web.auth import require_credentials
from webhook.web.channel_trial import ChannelTrial
from webhook.web.channels_api import ChannelSite
from webhook.web.config_api import ConfigSite
from webhook.web.contracts import ImageFormat, Theme
from webhook.web.doors import Doors, DoorSettings, open_doors
from webhook.web.ingest_door import IngestDoor, IngestSecrets
from webhook.web.metrics_api import reports_blueprint
from webhook.web.openapi import application, describe
from webhook.web.pages import register_pages
from webhook.web.people import OidcSettings
from webhook.web.previewing import preview_answer
from webhook.web.push_api import PushSite
from webhook.web.rates import RateSettings
from webhook.web.receiver import register_receiver
from webhook.web.receiver_document import receiver_document
from webhook.web.scraping import refused
from webhook.web.slack_actions import SlackActions, register_slack_actions
from webhook.web.slack_document import slack_document
from webhook.web.sms_status import SmsReports, sms_status_blueprint
from webhook.web.templates_api import TemplateSite, templates_blueprint
from webhook.web.tracing import trace_requests

_CONNECTIONS = 20


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> Flask:
    """Build the web application; raise ConfigError where it lacks a setting. `clock` gives the time in UTC."""
    app = application()
    registry = CollectorRegistry()
    url = settings.database_url.get_secret_value()
    database = Database(url, pool_size=_CONNECTIONS, meter=DatabaseMetrics(registry))
    trace_requests(app, registry)
    doors = _open_doors(app, settings, database, clock)
    ingest_door = _ingest_door(settings, doors, clock)
    store = AlertStore(database, _places(settings, registry))
    ingest_metrics = IngestMetrics(registry)
    register_receiver(
        app,
        store,
        settings.ingest,
        door=ingest_door,
        max_body_bytes=settings.max_body_bytes,
        metrics=ingest_metrics,
        clock=clock,
    )
    intake = ReportIntake(store, ReportRuns(database), settings.ingest, ingest_metrics, clock)
    app.register_api(reports_blueprint(intake, KnownTypes(database), ingest_door))
    describe(app, receiver_document())
    reports = sms_status_blueprint(_sms_reports(settings, database, clock))
    reports.before_request(lambda: doors.gate.rates.take_address(request.remote_addr or ""))
    app.register_api(reports)
    _register_health(app, database)
    _register_metrics(app, registry, _text(settings.metrics_token) or "")
    ingest = settings.ingest
    actions = AlertActions(database, ingest.channels, ActionNotes(registry), ingest.operations)
    _register_pages(app, settings, database, doors, clock, registry=registry, actions=actions)
    register_slack_actions(app, _slack_actions(settings, database, actions, clock), rates=doors.gate.rates)
    describe(app, slack_document())
    _register_templates(app, settings, database, doors, clock, registry=registry)
    app.extensions["sentinel_database"] = database
    return app


def _places(settings: Settings, registry: CollectorRegistry) -> RedisPlaces | None:
    if settings.redis_url is None:
        return None
    return RedisPlaces(settings.redis_url.get_secret_value(), FrequencyMetrics(registry))


@dataclass(frozen=True, slots=True)
class _Charts:
    """The chart of an alert as it stands now."""

    chart_of: AlertChart
    clock: Callable[[], datetime]

    def chart(
        self,
        alert: AlertRecord,
        metric: str,
        *,
        threshold: float | None,
        operator: str,
        theme: Theme,
        image_format: ImageFormat,
    ) -> bytes:
        return self.chart_of.draw(
            metric=metric,
            threshold=threshold,
            operator=operator,
            account_id=alert.account_id,
            merchant=alert.merchant_name or alert.account_id,
            start=alert.first_triggered_at,
            end=alert.resolved_at,
            now=self.clock(),
            theme=theme,
            image_format=image_format,
            alert_type=alert.alert_type,
        )


def _open_doors(app: Flask, settings: Settings, database: Database, clock: Callable[[], datetime]) -> Doors:
    if not settings.admin_token:
        raise ConfigError(["SENTINEL_ADMIN_TOKEN: must be set"])
    if settings.secret_key:
        app.secret_key = settings.secret_key.get_secret_value()
    rates = RateSettings(
        settings.rate_limit_address, settings.rate_limit_read, settings.rate_limit_write, _text(settings.redis_url)
    )
    wanted = DoorSettings(
        settings.admin_token.get_secret_value(), settings.public_url, rates, settings.trusted_proxies, _oidc(settings)
    )
    try:
        return open_doors(app, wanted, database, clock)
    except ImportError as error:
        raise ConfigError([f"SENTINEL_OIDC_ISSUER: install sentinel[oidc]: {error}"]) from error


def _oidc(settings: Settings) -> OidcSettings | None:
    if settings.oidc_issuer is None:
        return None
    return OidcSettings(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id or "",
        client_secret=_text(settings.oidc_client_secret) or "",
        roles=settings.oidc_roles,
        scopes=settings.oidc_scopes,
        role_claim=settings.oidc_role_claim,
        accounts_claim=settings.oidc_accounts_claim,
    )


def _ingest_door(settings: Settings, doors: Doors, clock: Callable[[], datetime]) -> IngestDoor:
    if not settings.ingest_token:
        raise ConfigError(["SENTINEL_INGEST_TOKEN: must be set"])
    signed = _text(settings.ingest_hmac_secret) or ""
    secrets = IngestSecrets(settings.ingest_token.get_secret_value(), signed, settings.ingest_hmac)
    return IngestDoor(doors.gate, secrets, settings.max_body_bytes, clock)


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _register_pages(
    app: OpenAPI,
    settings: Settings,
    database: Database,
    doors: Doors,
    clock: Callable[[], datetime],
    *,
    registry: CollectorRegistry,
    actions: AlertActions,
) -> None:
    history = PrometheusHistory(settings.prometheus_url)
    config = _config_site(settings, database, history, clock)
    panels, metrics = grafana_panels(settings.grafana), ChartMetrics(registry)
    broadcaster = register_pages(
        app,
        Api(
            database=database,
            clock=clock,
            actions=actions,
            letters=DeadLetters(database, settings.ingest.channels, settings.ingest.operations),
            charts=_Charts(AlertChart(history, MatplotlibCharts(), history, panels, metrics), clock),
            types=settings.ingest.types,
        ),
        doors,
        config,
        channels=_channel_site(settings, database, config, clock),
        push=_push_site(settings, database, clock),
    )
    app.extensions["sentinel_broadcaster"] = broadcaster


def _push_site(settings: Settings, database: Database, clock: Callable[[], datetime]) -> PushSite:
    given, insecure = settings.channel_options.get("webapp", {}), settings.insecure_webhooks
    try:
        options = WebAppOptions.model_validate(given)
        push = web_push(options, insecure=insecure, clock=clock)
    except ValidationError as error:
        raise ConfigError(option_problems("webapp", error)) from None
    except ImportError:
        raise ConfigError(["channels.webapp: install sentinel[push]"]) from None
    subscriptions = PushSubscriptions(database, settings.secret_box)
    return PushSite(subscriptions, clock, service_of(options, insecure=insecure), options.public_key, push)


def _register_templates(
    app: OpenAPI,
    settings: Settings,
    database: Database,
    doors: Doors,
    clock: Callable[[], datetime],
    *,
    registry: CollectorRegistry,
) -> None:
    words = build_words(settings, database, registry, clock)
    site = TemplateSite(database, clock, words.surroundings, words.summaries, settings.summary_chain.budget)
    routes = templates_blueprint(site)
    routes.before_request(require_credentials(doors.gate))
    routes.before_request(allow(Right.TEMPLATES, Right.TEMPLATES))
    app.register_api(routes)


def _slack_actions(
    settings: Settings, database: Database, actions: AlertActions, clock: Callable[[], datetime]
) -> SlackActions | None:
    """None where no buttons are shown; raise ConfigError for options that are wrong."""
    if not settings.notifier_options["slack"].get("signing_secret"):
        return None
    from webhook.notifiers.slack import Slack  # noqa: PLC0415 - for those who use it

    try:
        slack = build_notifiers(["slack"], settings.notifier_options, Site(settings.public_url))["slack"]
    except BadOptions as error:
        raise ConfigError(error.problems) from None
    if not (isinstance(slack, Slack) and slack.buttons):
        return None
    standings = Standings(database)
    follow = Follow(standings, {"slack": slack}, settings.public_url)
    return SlackActions(
        actions=actions,
        told=lambda alert_id, receipt: standings.told(alert_id, "slack", receipt),
        show=lambda alert_id: follow.show({alert_id}, clock()),
        talk=slack,
        clock=clock,
        signing_secret=slack.signing_secret,
    )


def _config_site(
    settings: Settings, database: Database, history: PrometheusHistory, clock: Callable[[], datetime]
) -> ConfigSite:
    previews = Previews(StoredPast(database), history, settings.ingest)

    def previewed(config: MerchantConfig, span: timedelta, now: datetime, examples: int) -> dict[str, Any]:
        return preview_answer(previews.run(config, now, span, examples=examples))

    def check_urls(config: MerchantConfig, known: StoredConfig | None) -> None:
        """What is stored already was looked up when it was saved, and is again at each sending."""
        stored = known.config.channel_preferences if known is not None else {}
        new = {name: of for name, of in config.channel_preferences.items() if stored.get(name) != of}
        if not settings.insecure_webhooks:
            check_hosts(new)

    store = ConfigStore(database, settings.secret_box)
    return ConfigSite(store, clock, previewed, check_urls, set_up(settings))


def _channel_site(
    settings: Settings, database: Database, config: ConfigSite, clock: Callable[[], datetime]
) -> ChannelSite:
    @cache
    def built() -> tuple[dict[str, Notifier], dict[str, str]]:
        """When it is first asked for: the libraries of some channels take their time."""
        channels = try_channels(settings)
        return dict(channels.notifiers), dict(channels.problems)

    def check_urls(channels: Mapping[str, Mapping[str, Any]]) -> None:
        if not settings.insecure_webhooks:
            check_hosts(channels)

    trial = ChannelTrial(config.store, settings.public_url, check_urls, allow_http=settings.insecure_webhooks)
    return ChannelSite(database, clock, trial, frozenset(settings.ingest.channels), built)


def _sms_reports(settings: Settings, database: Database, clock: Callable[[], datetime]) -> SmsReports | None:
    """Where the gateway is set up and can reach us."""
    given = settings.channel_options.get("sms")
    if given is None:
        return None
    from webhook.notifiers.sms import SmsOptions, callback_url  # noqa: PLC0415 - for those who have a gateway

    try:
        options = SmsOptions.model_validate(given)
    except ValidationError:  # the worker says what is wrong with it
        return None
    url = callback_url(options, settings.public_url)
    return SmsReports(StoredSmsLog(database, clock), url, options.auth_token.get_secret_value()) if url else None


def _register_health(app: Flask, database: Database) -> None:
    def healthy() -> Response:
        return Response("healthy\n", mimetype="text/plain")

    def ready() -> Response:
        """200 when the database answers and has been migrated."""
        why_not = unready(database)
        return Response(f"{why_not or 'ready'}\n", status=503 if why_not else 200, mimetype="text/plain")

    app.add_url_rule("/-/healthy", "healthy", healthy)
    app.add_url_rule("/-/ready", "ready", ready)


def _register_metrics(app: Flask, registry: CollectorRegistry, token: str) -> None:
    def metrics() -> AnyResponse:
        """Of all worker processes together, where there are several."""
        if (refusal := refused(request.headers.get("Authorization", ""), token)) is not None:
            return refusal
        shown = registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            shown = CollectorRegistry()
            MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
        return Response(generate_latest(shown), content_type=CONTENT_TYPE_LATEST)

    app.add_url_rule("/metrics", "metrics", metrics)
