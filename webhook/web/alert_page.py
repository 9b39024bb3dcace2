"""The page of one alert, and what can be done there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

from webhook.domain.action import Doing, VersionChanged
from webhook.domain.alert import OPERATIONS_ACCOUNT, CommentType, Outcome
from webhook.domain.explanation import explain
from webhook.domain.runbook import runbook_address
from webhook.domain.session import IllegalChange
from webhook.ports import AlertNotFound
from webhook.storage import queries
from webhook.storage.acting import Acted, AlertActions
from webhook.storage.explaining import read_facts
from webhook.storage.records import AlertRecord, CommentRecord, NotificationFilter, TriggerFilter, TriggerRecord
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
    SeenForm,
    SnoozeForm,
)
from webhook.web.wording import channel_label

TIMELINE = 100
NEWS = 50
_NOTE, _TRIGGER = CommentType.USER_NOTE, CommentType.TRIGGER_EVENT
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
    """What one form of the page does and says then. It `asks` where the alert has changed, or if it `ends`."""

    form: type[Parameters]
    act: Callable[[AlertActions, str, Any, Doing], Acted]
    done: str
    asks: str = ""
    ends: bool = False


BUTTONS: Mapping[str, Button] = {
    "resolve": Button(
        ResolveForm,
        lambda actions, alert_id, form, doing: actions.resolve(alert_id, form.note, doing),
        "Resolved. Whoever was told of the attack is told that it ended.",
        asks="Resolve this alert?",
        ends=True,
    ),
    "dismiss": Button(
        DismissForm,
        lambda actions, alert_id, form, doing: actions.dismiss(alert_id, form.kind, form.detail, doing),
        "Dismissed. Your reason is kept with the alert.",
        asks="Dismiss this alert?",
        ends=True,
    ),
    "acknowledge": Button(
        NoForm,
        lambda actions, alert_id, _, doing: actions.acknowledge(alert_id, "", doing),
        "Acknowledged: the others see that you are on it.",
        asks="Acknowledge this alert?",
    ),
    "unacknowledge": Button(
        NoForm,
        lambda actions, alert_id, _, doing: actions.unacknowledge(alert_id, doing),
        "No longer acknowledged.",
        asks="Take the acknowledgement back?",
    ),
    "snooze": Button(
        SnoozeForm,
        lambda actions, alert_id, form, doing: actions.snooze(
            alert_id, doing.now + timedelta(hours=int(form.hours)), doing
        ),
        "Snoozed. A rise in severity is told all the same.",
        asks="Snooze this alert?",
    ),
    "unsnooze": Button(
        NoForm,
        lambda actions, alert_id, _, doing: actions.unsnooze(alert_id, doing),
        "The snooze is over.",
        asks="End the snooze?",
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
        asks="Send the message again?",
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
        triggers = list_triggers(connection, TriggerFilter(alert_id=alert_id), TIMELINE)
        comments = queries.comments_of(connection, alert_id)
        notifications = queries.list_notifications(connection, NotificationFilter(alert_id=alert_id))
    compared, others = readings.featured(readings_of(record, verdict))
    return render_template(
        "alert.html",
        alert=record,
        action=action_text(record.suggested_action),
        source=record.metadata.get("summary_source"),
        team=_team(record),
        compared=compared,
        others=others,
        charted=[reading.metric for reading in compared if reading.recorded][:CHARTED] if site.charts else [],
        timeline=_timeline(triggers.records),
        truncated=triggers.next is not None,
        escalations=_escalations(record),
        explanation=explain(facts, site.types[record.alert_type]),
        comments=comments,
        notifications=notifications,
        runbook="" if accounts is not None else runbook_address(str(record.metadata.get("runbook_url") or ""), ""),
        channels=sorted({sent.channel_type for sent in notifications}),
        form=form,
        reason_length=REASON_LENGTH,
    )


def _team(record: AlertRecord) -> str:
    """Who is to mend what an operations alert is about, where its rule says so."""
    labels = record.metadata.get("labels") or {}
    return str(labels.get("team") or "") if record.account_id == OPERATIONS_ACCOUNT else ""


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
    """Check, have it confirmed where it ends the alert or the alert is another by now, act, and say what came of it."""
    button, shown, typed = BUTTONS[kind], str(alert_id), Form(kind, request.form.to_dict())
    try:
        form = button.form.model_validate(typed.values)
    except ValidationError as error:
        errors = {str(entry["loc"][0]): _hint(kind, str(entry["loc"][0])) for entry in error.errors()}
        return _render_alert(site, shown, replace(typed, errors=errors)), 422
    if isinstance(form, DismissForm) and form.reason == "Other" and not form.detail:
        return _render_alert(site, shown, replace(typed, errors={"detail": _hint(kind, "detail")})), 422
    record, news = _looked_up(site, shown, button)
    if record.active and (news or (button.ends and request.form.get("confirmed") != "yes")):
        asked = {"question": button.asks, "kept": sorted(button.form.model_fields)}
        return render_template("confirm.html", alert=record, form=typed, news=news, **asked), 200
    try:
        acted = button.act(site.actions, shown, form, site.doing(None, _decided_on(record, button)))
    except AlertNotFound:
        raise NotFound from None
    except VersionChanged:
        flash("Nothing was changed: the alert changed at the same moment. Look at it again.", "problem")
    except IllegalChange as error:
        flash(f"Nothing was changed: {error}.", "problem")
    else:
        flash(button.done + (_mentioned(acted) if kind == "comment" else ""), "done")
    return redirect(url_for("pages.alert", alert_id=alert_id), 303)


def _mentioned(acted: Acted) -> str:
    """Whether those are told whom a note names."""
    if acted.untold:
        return f" Nobody was told of it: {acted.untold}."
    return f" It goes out on {', '.join(map(channel_label, acted.channels))}." if acted.channels else ""


def _looked_up(site: Api, alert_id: str, button: Button) -> tuple[AlertRecord, list[str]]:
    """The alert, and what happened to it since the page was rendered from which the button was pressed."""
    with site.database.read() as connection:
        record = queries.alert_by_id(connection, alert_id, principal().accounts)
        if record is None:
            raise NotFound
        seen = SeenForm.leniently(request.form)
        if not button.asks or seen.version in (None, record.version):
            return record, []
        comments = queries.comments_of(connection, alert_id, NEWS)
    return record, _news(seen, record, comments, fired=button.ends)


def _decided_on(record: AlertRecord, button: Button) -> int | None:
    """A note is welcome on any version; of a closed alert its state says what can be done."""
    return record.version if record.active and button.asks else None


def _news(seen: SeenForm, record: AlertRecord, comments: Sequence[CommentRecord], *, fired: bool) -> list[str]:
    """What happened since, oldest first. That it fired again counts only where the alert is to be closed."""
    since = seen.since or record.updated_at
    new = [comment for comment in reversed(comments) if comment.created_at > since]
    told = [f"{comment.created_by}: {comment.content}" for comment in new if comment.comment_type == _NOTE]
    told += [comment.content for comment in new if comment.comment_type not in (_NOTE, _TRIGGER)]
    if seen.severity not in (None, record.severity):
        told.insert(0, f"The severity was {seen.severity} and is {record.severity} now.")
    again = sum(comment.comment_type == _TRIGGER for comment in new)
    if fired and again:
        told.append(f"It fired again, {again} time{'s' if again > 1 else ''}.")
    return told


def _hint(kind: str, field: str) -> str:
    if kind == "resolve":
        return f"Say what was done, in at most {REASON_LENGTH} characters."
    if kind == "comment":
        return f"Write a note, in at most {REASON_LENGTH} characters."
    if kind == "snooze":
        return "Choose for how long."
    return "Choose a reason." if field == "reason" else f"Say why, in at most {REASON_LENGTH} characters."
