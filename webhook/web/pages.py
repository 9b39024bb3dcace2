"""The pages, wired; alert list and trigger log. Rendered on the server; scripts only save clicks and reloads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog
from flask import Blueprint, Flask, redirect, render_template, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.openapi import OpenAPI
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DataError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.wrappers import Response

from webhook.domain.access import Right, named_to
from webhook.domain.alert import AlertStatus, Outcome
from webhook.domain.message import printable
from webhook.domain.severity import Severity
from webhook.ports import StoreUnavailable
from webhook.storage import queries
from webhook.storage.trigger_search import list_triggers
from webhook.web import readings, wording
from webhook.web.access import allow, principal
from webhook.web.alert_page import add_alert_page
from webhook.web.api import Api
from webhook.web.api_actions import actions_blueprint
from webhook.web.api_alerts import alerts_blueprint, readings_of
from webhook.web.api_log import letters_blueprint, log_blueprint
from webhook.web.audit_api import audit_blueprint
from webhook.web.audit_page import add_audit_page
from webhook.web.auth import Gate, require_credentials, require_login
from webhook.web.channels_api import ChannelSite, channels_blueprint
from webhook.web.config_api import ConfigSite, config_blueprint
from webhook.web.delivery_page import add_delivery_page
from webhook.web.docs import document_blueprint, reader_blueprint, swagger_blueprint
from webhook.web.doors import Doors
from webhook.web.figures import Figures
from webhook.web.keys_api import keys_blueprint
from webhook.web.live import DEFAULT_SUBSCRIBERS, Broadcaster, live_blueprint
from webhook.web.login import login_blueprint
from webhook.web.openapi import http_problem
from webhook.web.parameters import (
    PAGE_SIZE,
    PERIODS,
    AlertPageQuery,
    Parameters,
    TriggerPageQuery,
    cursor,
    day_start,
)
from webhook.web.problems import problem
from webhook.web.push_api import PushSite, push_blueprint
from webhook.web.runbook_pages import add_runbook_pages
from webhook.web.settings_pages import add_settings_pages
from webhook.web.short_links import add_short_links
from webhook.web.statistics_page import add_statistics_page

TRIGGERS = 50
FRAGMENT_HEADER = "X-Sentinel-Fragment"
ERRORS = {
    400: "That request could not be understood.",
    404: "There is nothing at this address. An alert may have been removed, or the link is incomplete.",
    405: "This address cannot be used like that.",
    413: "That is more text than fits.",
    429: "Too many attempts.",
    500: "Something went wrong here. It has been logged; trying again may help.",
    503: "The database cannot be reached now. Alertmanager keeps alerts and sends them again. Try again later.",
}

log = structlog.get_logger(__name__)


def register_pages(
    app: OpenAPI,
    site: Api,
    doors: Doors,
    config: ConfigSite | None = None,
    *,
    channels: ChannelSite | None = None,
    push: PushSite | None = None,
) -> Broadcaster:
    """Add pages, live events, login and read API to `app`; the ends of its streams are in the answer's `close`.

    `app.config["LIVE_SUBSCRIBERS"]` bounds the streams of one process (each holds a thread).
    """
    database, clock, gate = site.database, site.clock, doors.gate
    broadcaster = Broadcaster(database, clock, app.config.get("LIVE_SUBSCRIBERS", DEFAULT_SUBSCRIBERS))
    pages, reader = _pages_blueprint(site, config), reader_blueprint()
    for page in (pages, reader):
        page.before_request(require_login(gate))
        page.before_request(allow(Right.READ, Right.ACT))
    live, document = live_blueprint(database, broadcaster, clock, gate.staying), document_blueprint()
    for protected in (live, document):
        protected.before_request(require_credentials(gate))
        protected.before_request(allow(Right.READ, Right.READ))
    apis = _apis(site, config, channels)
    if push is not None:
        apis.append((push_blueprint(push, gate.tenure), (Right.READ, Right.READ)))
    for api, rights in apis:
        api.before_request(require_credentials(gate))
        api.before_request(allow(*rights))
        app.register_api(api)
    assets = _assets_blueprint()
    for blueprint in (login_blueprint(gate, doors.oidc), assets, swagger_blueprint(), live, document, pages, reader):
        app.register_blueprint(blueprint)
    _add_template_words(app, assets, gate, clock)
    app.jinja_env.globals.update(has_settings=config is not None, has_push=push is not None, named=_named)
    _add_error_handlers(app)
    return broadcaster


def _apis(
    site: Api, config: ConfigSite | None, channels: ChannelSite | None
) -> list[tuple[APIBlueprint, tuple[Right, Right]]]:
    """Each part of the API, with the rights to read there and to change something."""
    apis = [
        (alerts_blueprint(site), (Right.READ, Right.ACT)),
        (actions_blueprint(site), (Right.READ, Right.ACT)),
        (log_blueprint(site), (Right.READ, Right.ACT)),
        (letters_blueprint(site), (Right.READ, Right.REPLAY)),
        (keys_blueprint(site.database, site.clock), (Right.KEYS, Right.KEYS)),
        (audit_blueprint(site.database), (Right.AUDIT, Right.AUDIT)),
    ]
    if config is not None:
        apis.append((config_blueprint(config), (Right.CONFIGURE, Right.CONFIGURE)))
    if channels is not None:
        apis.append((channels_blueprint(channels), (Right.DIRECT, Right.DIRECT)))
    return apis


def _named(name: str, role: str) -> str:
    return named_to(principal(), name, role)


def _add_error_handlers(app: Flask) -> None:
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(DataError, _unstorable)
    for away in (OperationalError, PoolTimeout, StoreUnavailable):
        app.register_error_handler(away, _database_away)


def _assets_blueprint() -> Blueprint:
    """Style, script and icon under /assets; a changed file has a changed address, so they are kept for long."""
    assets = Blueprint("assets", __name__, static_folder="static", static_url_path="/assets")

    @assets.get("/service-worker.js")
    def service_worker() -> Response:
        """At the root, for it to be in charge of all pages; browsers ask for it anew."""
        return assets.send_static_file("service-worker.js")

    @assets.after_request
    def keep(response: Response) -> Response:
        if response.status_code == HTTPStatus.OK and "v" in request.args:
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response

    return assets


def _add_template_words(app: Flask, assets: Blueprint, gate: Gate, clock: Callable[[], datetime]) -> None:
    folder = Path(assets.static_folder or "")
    versions = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in folder.iterdir()}

    def asset(name: str) -> str:
        return url_for("assets.static", filename=name, v=versions[name])

    app.jinja_env.globals.update(asset=asset, words=wording, reads=readings, Severity=Severity, AlertStatus=AlertStatus)
    app.jinja_env.filters["plain"] = printable

    @app.context_processor
    def context() -> dict[str, Any]:
        fragment = FRAGMENT_HEADER in request.headers
        try:
            visitor = gate.visitor()
        except SQLAlchemyError:  # the page that says so is rendered all the same
            visitor = None
        return {"now": clock(), "visitor": visitor, "signed_in": visitor is not None, "fragment": fragment}


def _wants_problem() -> bool:
    return request.path.startswith(("/api/", "/live/"))


def _http_error(error: HTTPException) -> Response | tuple[str, int] | HTTPException:
    code = error.code or 500
    if error.get_response().status_code < HTTPStatus.BAD_REQUEST:
        return error  # redirects are errors to werkzeug
    if _wants_problem():
        return http_problem(error)
    if isinstance(error, CSRFError):
        return render_template("expired.html", back=request.path.rsplit("/", 1)[0] or "/"), code
    text = error.description if code == HTTPStatus.TOO_MANY_REQUESTS else ERRORS.get(code, error.description)
    response = Response(render_template("error.html", code=code, title=HTTPStatus(code).phrase, text=text), code)
    response.mimetype = "text/html"
    for name, value in error.get_headers():
        if name.lower() in ("retry-after", "allow"):
            response.headers[name] = value
    return response


def _unstorable(error: DataError) -> Response | tuple[str, int] | HTTPException:
    """A value that the database cannot take, and that nobody refused before: the same again cannot help."""
    log.warning("value_refused_by_the_database", path=request.path, error=type(error.orig).__name__)
    return _http_error(BadRequest("A value is one that cannot be stored or looked up."))


def _database_away(_error: Exception) -> Response | tuple[str, int]:
    if _wants_problem():
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "The database cannot be reached.", Retry_After="5")
    return render_template("error.html", code=503, title="Service unavailable", text=ERRORS[503]), 503


def _pages_blueprint(site: Api, config: ConfigSite | None) -> Blueprint:
    pages = Blueprint("pages", __name__, template_folder="templates")
    pages.add_url_rule("/", view_func=lambda: redirect(url_for("pages.alerts")), endpoint="home")
    pages.add_url_rule("/alerts", "alerts", partial(_alerts, site, Figures()))
    pages.add_url_rule("/triggers", "triggers", partial(_triggers, site))
    for add in (add_alert_page, add_delivery_page, add_statistics_page, add_audit_page, add_short_links):
        add(pages, site)
    add_runbook_pages(pages)
    if config is not None:
        add_settings_pages(pages, site, config)
    return pages


def _changed(endpoint: str, query: Parameters) -> Callable[..., str]:
    """Links to the same list with something changed: `link(severity='P1')`; the place in the list starts anew."""
    given = query.model_dump(mode="json", exclude_defaults=True, exclude={"page", "before"})

    def link(**changes: Any) -> str:  # noqa: ANN401 - query parameters
        merged = {name: value for name, value in (given | changes).items() if value not in (None, "")}
        return url_for(endpoint, **merged)

    return link


def _alerts(site: Api, figures: Figures) -> str:
    now, query, accounts = site.clock(), AlertPageQuery.leniently(request.args), principal().accounts
    wanted = query.wanted(now, accounts)
    with site.database.read() as connection:
        statistics = figures.statistics(connection, day_start(now), now, accounts)
        total = queries.count_alerts(connection, wanted)
        pages = max(1, -(-total // PAGE_SIZE))
        page = min(query.page, pages)
        found = queries.list_alerts(
            connection, wanted, sort=query.order, limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE
        )
        verdicts = queries.latest_verdicts(connection, [record.id for record in found])
    rows = [(record, readings_of(record, verdicts[record.id])) for record in found]
    types = list(wording.ALERT_TYPES) + ([query.type] if query.type not in ("", *wording.ALERT_TYPES) else [])
    return render_template(
        "alerts.html",
        query=query,
        link=_changed("pages.alerts", query),
        statistics=statistics,
        rows=rows,
        total=total,
        page=page,
        pages=pages,
        page_size=PAGE_SIZE,
        types=types,
        periods=PERIODS,
    )


def _triggers(site: Api) -> str:
    query = TriggerPageQuery.leniently(request.args)
    with site.database.read() as connection:
        found = list_triggers(connection, query.wanted(site.clock(), principal().accounts), TRIGGERS)
    more = None if found.next is None else cursor(*found.next)
    return render_template(
        "triggers.html",
        query=query,
        link=_changed("pages.triggers", query),
        triggers=found.records,
        more=more,
        outcomes=list(Outcome),
        periods=PERIODS,
    )
