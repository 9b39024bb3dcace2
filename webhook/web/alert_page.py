"""The page of one alert, and what can be done there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any
from uuid import UUID

from flask import Blueprint, flash, redirect, render_template, request, url_for
from pydantic import ValidationError
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from webhook.domain.action import Doing
from webhook.domain.alert import Outcome
from webhook.domain.explanation import explain
from webhook.domain.session import IllegalChange
from webhook.ports import AlertNotFound
from webhook.storage import queries
from webhook.storage.acting import AlertActions
from webhook.storage.explaining import read_facts
from webhook.storage.records import AlertRecord, NotificationFilter, TriggerFilter, TriggerRecord
from webhook.storage.trigger_search import list_triggers
from webhook.web import readings
from webhook.web.access import principal
from webhook.web.answers import action_text
from webhook.web.api import Api
from webhook.web.api_alerts import readings_of
from webhook.web.parameters import (
    REASON_LENGTH,
    CommentForm,
    DismissForm,
    NoForm,
    Parameters,
    ResendForm,
    ResolveForm,
    SnoozeForm,
)

TIMELINE = 100
CHARTED = 4


@dataclass(frozen=True, slots=True)
class Form:
    """What somebody typed into a form, to be shown again: with an error, or to be confirmed."""

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


@dataclass(frozen=True, slots=True)
class Button:
    """What one form of the page does, and what is said then. What ends an alert is asked for twice."""

    form: type[Parameters]
    act: Callable[[AlertActions, str, Any, Doing], object]
    done: str
    asks: bool = False


BUTTONS: Mapping[str, Button] = {
    "resolve": Button(
        ResolveForm,
        lambda actions, alert_id, form, doing: actions.resolve(alert_id, form.note, doing),
        "Resolved. Whoever was told of the attack is told that it ended.",
        asks=True,
    ),
    "dismiss": Button(
        DismissForm,
        lambda actions, alert_id, form, doing: actions.dismiss(alert_id, form.kind, form.detail, doing),
        "Dismissed. Your reason is kept with the alert.",
        asks=True,
    ),
    "acknowledge": Button(
        NoForm,
        lambda actions, alert_id, _, doing: actions.acknowledge(alert_id, "", doing),
        "Acknowledged: the others see that you are on it.",
    ),
    "unacknowledge": Button(
        NoForm,
        lambda actions, alert_id, _, doing: actions.unacknowledge(alert_id, doing),
        "No longer acknowledged.",
    ),
    "snooze": Button(
        SnoozeForm,
        lambda actions, alert_id, form, doing: actions.snooze(
            alert_id, doing.now + timedelta(hours=int(form.hours)), doing
        ),
        "Snoozed. A rise in severity is told all the same.",
    ),
    "unsnooze": Button(
        NoForm, lambda actions, alert_id, _, doing: actions.unsnooze(alert_id, doing), "The snooze is over."
    ),
    "comment": Button(
        CommentForm,
        lambda actions, alert_id, form, doing: actions.comment(alert_id, form.content, doing),
        "Your note is kept with the alert.",
    ),
    "resend": Button(
        ResendForm,
        lambda actions, alert_id, form, doing: actions.resend(alert_id, [form.channel] if form.channel else [], doing),
        "The message is queued and goes out in a moment.",
    ),
}


def add_alert_page(pages: Blueprint, site: Api) -> None:
    pages.add_url_rule("/alerts/<uuid:alert_id>", "alert", partial(_alert, site))
    for kind in BUTTONS:
        pages.add_url_rule(f"/alerts/<uuid:alert_id>/{kind}", kind, partial(_act, site, kind), methods=["POST"])


def _alert(site: Api, alert_id: UUID) -> str:
    return _render_alert(site, str(alert_id), Form())


def _render_alert(site: Api, alert_id: str, form: Form) -> str:
    accounts = principal().accounts
    with site.database.read() as connection:
        record = queries.alert_by_id(connection, alert_id, accounts)
        facts = read_facts(connection, alert_id, accounts)
        if record is None or facts is None:
            raise NotFound
        verdict = queries.latest_verdicts(connection, [alert_id])[alert_id]
        triggers = list_triggers(connection, TriggerFilter(alert_id=alert_id), TIMELINE).records
        comments = queries.comments_of(connection, alert_id)
        notifications = queries.list_notifications(connection, NotificationFilter(alert_id=alert_id))
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
        explanation=explain(facts, site.types[record.alert_type]),
        comments=comments,
        notifications=notifications,
        channels=sorted({sent.channel_type for sent in notifications}),
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


def _act(site: Api, kind: str, alert_id: UUID) -> Response | tuple[str, int]:
    """Check, have it confirmed where it ends the alert, act, and say what came of it on the alert's page."""
    button, shown, typed = BUTTONS[kind], str(alert_id), Form(kind, request.form.to_dict())
    try:
        form = button.form.model_validate(typed.values)
    except ValidationError as error:
        errors = {str(entry["loc"][0]): _hint(kind, str(entry["loc"][0])) for entry in error.errors()}
        return _render_alert(site, shown, replace(typed, errors=errors)), 422
    if isinstance(form, DismissForm) and form.reason == "Other" and not form.detail:
        return _render_alert(site, shown, replace(typed, errors={"detail": _hint(kind, "detail")})), 422
    if button.asks and request.form.get("confirmed") != "yes":
        return _confirm(site, shown, typed), 200
    try:
        button.act(site.actions, shown, form, site.doing(None))
    except AlertNotFound:
        raise NotFound from None
    except IllegalChange as error:
        flash(f"Nothing was changed: {error}.", "problem")
    else:
        flash(button.done, "done")
    return redirect(url_for("pages.alert", alert_id=alert_id), 303)


def _confirm(site: Api, alert_id: str, form: Form) -> str:
    with site.database.read() as connection:
        record = queries.alert_by_id(connection, alert_id, principal().accounts)
    if record is None:
        raise NotFound
    return render_template("confirm.html", alert=record, form=form)


def _hint(kind: str, field: str) -> str:
    if kind == "resolve":
        return f"Say what was done, in at most {REASON_LENGTH} characters."
    if kind == "comment":
        return f"Write a note, in at most {REASON_LENGTH} characters."
    if kind == "snooze":
        return "Choose for how long."
    return "Choose a reason." if field == "reason" else f"Say why, in at most {REASON_LENGTH} characters."
