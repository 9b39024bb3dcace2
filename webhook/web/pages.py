"""The pages: alert list, alert detail, trigger log. Rendered on the server; a script only keeps them fresh."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from http import HTTPStatus
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID

from flask import Blueprint, Flask, flash, redirect, render_template, request, url_for
from flask_wtf.csrf import CSRFError
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wrappers import Response

from webhook.domain.alert import AlertStatus, Outcome
from webhook.domain.message import printable
from webhook.domain.session import IllegalChange
from webhook.domain.severity import Severity
from webhook.ports import AlertNotFound, StoreUnavailable
from webhook.storage import queries
from webhook.storage.database import Database
from webhook.storage.records import AlertRecord, TriggerRecord
from webhook.web import readings, wording
from webhook.web.api import Api, action_text, api_blueprint, http_problem, invalid, readings_of
from webhook.web.auth import Gate, login_blueprint, require_credentials, require_login, secure_application
from webhook.web.config_api import ConfigSite, config_blueprint
from webhook.web.contracts import ADMIN_SESSION, Actions, Charts
from webhook.web.figures import Figures
from webhook.web.live import DEFAULT_SUBSCRIBERS, Broadcaster, live_blueprint
from webhook.web.parameters import (
    PAGE_SIZE,
    PERIODS,
    REASON_LENGTH,
    AlertPageQuery,
    DismissForm,
    Parameters,
    ResolveForm,
    TriggerPageQuery,
    cursor,
    day_start,
)
from webhook.web.problems import problem

ACTOR = "admin"
TIMELINE = 100
TRIGGERS = 50
CHARTED = 4
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


@dataclass(frozen=True, slots=True)
class Form:
    """What somebody typed into one of the two forms, to be shown again: with an error, or to be confirmed."""

    kind: str = ""
    values: Mapping[str, str] | None = None
    errors: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One trigger, or a run of repeats that changed nothing, newest first."""

    triggers: list[TriggerRecord]

    @property
    def first(self) -> TriggerRecord:
        return self.triggers[0]

    @property
    def repeats(self) -> bool:
        return len(self.triggers) > 1


def register_pages(
    app: Flask,
    *,
    database: Database,
    clock: Callable[[], datetime],
    actions: Actions,
    charts: Charts | None,
    admin_token: str,
    config: ConfigSite | None = None,
) -> Broadcaster:
    """Add pages, live events, login and read API to `app`; the ends of its streams are in the answer's `close`.

    Where `app.secret_key` is not set it is derived from `admin_token`. `app.config["LIVE_SUBSCRIBERS"]` bounds
    the streams of one process (each holds a thread). Raises ValueError for an empty token.
    """
    gate = secure_application(app, admin_token, clock)
    broadcaster = Broadcaster(database, clock, app.config.get("LIVE_SUBSCRIBERS", DEFAULT_SUBSCRIBERS))
    site = Api(database, clock, actions, charts)
    pages = _pages_blueprint(site)
    pages.before_request(require_login(gate))
    api, live = api_blueprint(site), live_blueprint(database, broadcaster, clock)
    configs = [config_blueprint(config)] if config is not None else []
    app.__dict__["validation_error_callback"] = invalid  # of flask_openapi3's routes on a plain application
    for protected in (api, live, *configs):
        protected.before_request(require_credentials(gate))
    assets = _assets_blueprint()
    for blueprint in (login_blueprint(gate), assets, api, live, *configs, pages):
        app.register_blueprint(blueprint)
    _add_template_words(app, assets, gate, clock)
    app.register_error_handler(HTTPException, _http_error)
    for away in (OperationalError, PoolTimeout, StoreUnavailable):
        app.register_error_handler(away, _database_away)
    return broadcaster


def _assets_blueprint() -> Blueprint:
    """Style, script and icon under /assets; a changed file has a changed address, so they are kept for long."""
    assets = Blueprint("assets", __name__, static_folder="static", static_url_path="/assets")

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
        return {"now": clock(), "signed_in": gate.has_session, "fragment": fragment}


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


def _database_away(_error: Exception) -> Response | tuple[str, int]:
    if _wants_problem():
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "The database cannot be reached.", Retry_After="5")
    return render_template("error.html", code=503, title="Service unavailable", text=ERRORS[503]), 503


def _pages_blueprint(site: Api) -> Blueprint:
    pages = Blueprint("pages", __name__, template_folder="templates")
    pages.add_url_rule("/", view_func=lambda: redirect(url_for("pages.alerts")), endpoint="home")
    pages.add_url_rule("/alerts", "alerts", partial(_alerts, site, Figures()))
    pages.add_url_rule("/alerts/<uuid:alert_id>", "alert", partial(_alert, site))
    pages.add_url_rule("/triggers", "triggers", partial(_triggers, site))
    pages.add_url_rule("/alerts/<uuid:alert_id>/resolve", "resolve", partial(_resolve, site), methods=["POST"])
    pages.add_url_rule("/alerts/<uuid:alert_id>/dismiss", "dismiss", partial(_dismiss, site), methods=["POST"])
    return pages


def _changed(endpoint: str, query: Parameters) -> Callable[..., str]:
    """Links to the same list with something changed: `link(severity='P1')`; the place in the list starts anew."""
    given = query.model_dump(mode="json", exclude_defaults=True, exclude={"page", "before"})

    def link(**changes: Any) -> str:  # noqa: ANN401 - query parameters
        merged = {name: value for name, value in (given | changes).items() if value not in (None, "")}
        return url_for(endpoint, **merged)

    return link


def _alerts(site: Api, figures: Figures) -> str:
    now, query = site.clock(), AlertPageQuery.leniently(request.args)
    wanted = query.wanted(now)
    with site.database.read() as connection:
        statistics = figures.statistics(connection, day_start(now), now)
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


def _alert(site: Api, alert_id: UUID) -> str:
    return _render_alert(site, str(alert_id), Form())


def _render_alert(site: Api, alert_id: str, form: Form) -> str:
    with site.database.read() as connection:
        record = queries.alert_by_id(connection, alert_id)
        if record is None:
            raise NotFound
        verdict = queries.latest_verdicts(connection, [alert_id])[alert_id]
        triggers = queries.list_triggers(
            connection, TriggerPageQuery(alert=UUID(alert_id)).wanted(site.clock()), TIMELINE
        )
        comments = queries.comments_of(connection, alert_id)
        notifications = queries.notifications_of(connection, alert_id)
    compared, others = readings.featured(readings_of(record, verdict))
    return render_template(
        "alert.html",
        alert=record,
        action=action_text(record.suggested_action),
        source=record.metadata.get("summary_source"),
        compared=compared,
        others=others,
        charted=[reading.metric for reading in compared if reading.recorded][:CHARTED] if site.charts else [],
        timeline=_timeline(triggers),
        truncated=len(triggers) == TIMELINE,
        escalations=_escalations(record),
        comments=comments,
        notifications=notifications,
        form=form,
        reason_length=REASON_LENGTH,
    )


def _timeline(triggers: list[TriggerRecord]) -> list[TimelineEntry]:
    """Repeats that follow each other become one entry: a running attack is heard of again every few minutes."""
    entries = []
    for outcome, group in groupby(triggers, key=lambda trigger: trigger.outcome):
        run = list(group)
        if outcome == Outcome.DUPLICATE:
            entries.append(TimelineEntry(run))
        else:
            entries += [TimelineEntry([trigger]) for trigger in run]
    return entries


def _escalations(record: AlertRecord) -> list[dict[str, Any]]:
    """Newest first; entries whose time cannot be read are shown without it."""
    found = []
    for entry in record.escalation_history.get("escalations") or []:
        try:
            at = datetime.fromisoformat(str(entry.get("escalated_at")))
        except ValueError:
            at = None
        found.append({**entry, "at": at})
    return found[::-1]


def _resolve(site: Api, alert_id: UUID) -> Response | tuple[str, int]:
    def act(form: ResolveForm) -> None:
        site.actions.resolve(
            str(alert_id), note=form.note, actor=ACTOR, authenticated_as=ADMIN_SESSION, now=site.clock()
        )

    return _act(site, str(alert_id), "resolve", ResolveForm, act)


def _dismiss(site: Api, alert_id: UUID) -> Response | tuple[str, int]:
    def act(form: DismissForm) -> None:
        site.actions.dismiss(
            str(alert_id), reason=form.text, actor=ACTOR, authenticated_as=ADMIN_SESSION, now=site.clock()
        )

    return _act(site, str(alert_id), "dismiss", DismissForm, act)


def _act(
    site: Api, alert_id: str, kind: str, model: type[Any], act: Callable[[Any], None]
) -> Response | tuple[str, int]:
    """Check, have it confirmed, act, and say what came of it on the alert's page."""
    typed = Form(kind, request.form.to_dict())
    try:
        form = model.model_validate(typed.values)
    except ValidationError as error:
        errors = {str(entry["loc"][0]): _hint(kind, str(entry["loc"][0])) for entry in error.errors()}
        return _render_alert(site, alert_id, replace(typed, errors=errors)), 422
    if kind == "dismiss" and form.reason == "Other" and not form.detail:
        return _render_alert(site, alert_id, replace(typed, errors={"detail": _hint(kind, "detail")})), 422
    if request.form.get("confirmed") != "yes":
        return _confirm(site, alert_id, typed), 200
    try:
        act(form)
    except AlertNotFound:
        raise NotFound from None
    except IllegalChange as error:
        flash(f"Nothing was changed: {error}.", "problem")
    else:
        flash("Resolved. Whoever was told of the attack is told that it ended." if kind == "resolve"
              else "Dismissed. Your reason is kept with the alert.", "done")  # fmt: skip
    return redirect(url_for("pages.alert", alert_id=alert_id), 303)


def _confirm(site: Api, alert_id: str, form: Form) -> str:
    with site.database.read() as connection:
        record = queries.alert_by_id(connection, alert_id)
    if record is None:
        raise NotFound
    return render_template("confirm.html", alert=record, form=form)


def _hint(kind: str, field: str) -> str:
    if kind == "resolve":
        return f"Say what was done, in at most {REASON_LENGTH} characters."
    return "Choose a reason." if field == "reason" else f"Say why, in at most {REASON_LENGTH} characters."


def _triggers(site: Api) -> str:
    query = TriggerPageQuery.leniently(request.args)
    with site.database.read() as connection:
        found = queries.list_triggers(connection, query.wanted(site.clock()), TRIGGERS)
    more = cursor(found[-1].created_at, found[-1].id) if len(found) == TRIGGERS else None
    return render_template(
        "triggers.html",
        query=query,
        link=_changed("pages.triggers", query),
        triggers=found,
        more=more,
        outcomes=list(Outcome),
        periods=PERIODS,
    )
