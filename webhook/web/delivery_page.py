"""The page of messages: what was sent, what waits, what was given up, and what staff does about that."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal
from uuid import UUID

from flask import Blueprint, flash, redirect, render_template, request, url_for
from pydantic import ValidationError
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response

from webhook.domain.access import MAY, Right
from webhook.domain.alert import NotificationStatus
from webhook.domain.metric import format_value, metric_words
from webhook.domain.severity import Severity
from webhook.notifiers.settings import Channels
from webhook.storage.channel_health import channel_health
from webhook.storage.dead_letters import WORDS
from webhook.storage.deliveries import Delivery, count_deliveries, list_deliveries
from webhook.storage.records import NotificationFilter
from webhook.web.access import principal, require
from webhook.web.api import Api
from webhook.web.parameters import Parameters, Place, Text, cursor
from webhook.web.wording import compared

MESSAGES = 50
_TOLD = 3


class LetterPageFilter(Parameters):
    """Empty fields do not filter."""

    channel: Text = ""
    account: Text = ""
    severity: Severity | None = None

    def wanted(self, status: NotificationStatus | None) -> NotificationFilter:
        return NotificationFilter(
            status=status,
            channel=self.channel,
            account_id=self.account,
            severity=self.severity,
            accounts=principal().accounts,
        )

    @property
    def given(self) -> dict[str, Any]:
        """As the parameters of a link or of a form."""
        shown = LetterPageFilter(channel=self.channel, account=self.account, severity=self.severity)
        return {name: value for name, value in shown.model_dump(mode="json").items() if value}


class DeliveryPageQuery(LetterPageFilter):
    """`before` is the place in the list."""

    status: NotificationStatus | None = None
    before: Place | None = None


class LetterForm(LetterPageFilter):
    """`count`: how many were confirmed; `letter`: one alone."""

    csrf_token: str = ""
    letter: UUID | None = None
    confirmed: Literal["yes"] | None = None
    count: int = -1


KINDS = ("replay", "discard")


def add_delivery_page(pages: Blueprint, api: Api) -> None:
    pages.add_url_rule("/notifications", "notifications", partial(_list, api, letters=False))
    pages.add_url_rule("/notifications/dead", "letters", partial(_list, api, letters=True))
    for kind in KINDS:
        view = partial(_act, api, kind)
        pages.add_url_rule(f"/notifications/dead/{kind}", f"letters_{kind}", view, methods=["POST"])


def _list(api: Api, *, letters: bool) -> str:
    query = DeliveryPageQuery.leniently(request.args)
    if letters:
        query = query.model_copy(update={"status": NotificationStatus.FAILED})
    given = query.given | ({"status": query.status.value} if query.status and not letters else {})
    with api.database.read() as connection:
        found = list_deliveries(connection, query.wanted(query.status), MESSAGES, query.before)
        dead = query.wanted(NotificationStatus.FAILED)
        everything = replace(dead, channel="", account_id="", severity=None)
        waiting = count_deliveries(connection, everything)
        matching = count_deliveries(connection, dead) if letters else 0
        health = {} if letters else channel_health(connection, api.clock(), principal().accounts)
    more = cursor(found[-1].sent.created_at, found[-1].sent.id) if len(found) == MESSAGES else None
    return render_template(
        "notifications.html",
        query=query,
        letters=letters,
        deliveries=[(entry, told_text(entry)) for entry in found],
        waiting=waiting,
        health=health,
        matching=matching,
        channels=list(Channels.model_fields),
        statuses=list(NotificationStatus),
        given=given,
        more=more,
        may_replay=principal().may(Right.REPLAY),
    )


def told_text(entry: Delivery) -> str:
    """The numbers of a message: `12 triggers, block rate 35.04 % (limit 20 %), …`."""
    told = [f"{entry.occurrences:,} trigger{'' if entry.occurrences == 1 else 's'}"] if entry.occurrences else []
    first = sorted(entry.metrics, key=lambda metric: metric not in entry.thresholds)
    for metric in first[:_TOLD]:
        label, value, limit = metric_words(metric).label, entry.metrics[metric], entry.thresholds.get(metric)
        if limit is None:
            told.append(f"{label} {format_value(metric, value)}")
        else:
            shown, bound = compared(metric, value, limit)
            told.append(f"{label} {shown} (limit {bound})")
    return ", ".join(told)


def _act(api: Api, kind: str) -> Response | str:
    """One at once; all that match, or what is lost for good, after a question that says how many these are."""
    require(*MAY[Right.REPLAY])
    form = _form()
    wanted, letter = form.wanted(NotificationStatus.FAILED), str(form.letter) if form.letter else None
    if letter is None or kind == "discard":
        with api.database.read() as connection:
            count = 1 if letter else count_deliveries(connection, wanted)
        if count and (form.confirmed is None or form.count != count):
            return render_template("letters_confirm.html", kind=kind, form=form, count=count, letter=letter)
    _change(api, kind, wanted, letter)
    return redirect(url_for("pages.letters", **form.given), 303)


def _change(api: Api, kind: str, wanted: NotificationFilter, letter: str | None) -> None:
    """Say how many it were, and why others stay."""
    if kind == "discard":
        changed, skipped = api.letters.discard(wanted, api.doing(None), letter), {}
    else:
        done = api.letters.replay(wanted, api.doing(None), letter)
        changed, skipped = done.count, dict(done.skipped)
    if changed:
        what = "discarded" if kind == "discard" else "queued, and sent in a moment"
        flash(f"{changed:,} message{'' if changed == 1 else 's'} {what}.", "done")
    for why, count in skipped.items():
        flash(f"{count:,} not sent again: {WORDS[why]}.", "problem")
    if not changed and not skipped:
        flash("Nothing was changed: it was dealt with meanwhile.", "problem")


def _form() -> LetterForm:
    """Strictly: a field that was dropped would let more match than was meant."""
    try:
        return LetterForm.model_validate({name: text for name, text in request.form.items() if text})
    except ValidationError:
        raise BadRequest from None
