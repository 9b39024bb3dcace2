"""`/a/<short id>`: what a text message names an alert by. Whoever follows it has to log in, and sees its own alone."""

from __future__ import annotations

from functools import partial

from flask import Blueprint, redirect, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from webhook.domain.text_message import short_range
from webhook.storage.short_links import alert_between
from webhook.web.access import principal
from webhook.web.api import Api


def add_short_links(pages: Blueprint, api: Api) -> None:
    pages.add_url_rule("/a/<short_id>", "short_link", partial(_follow, api))


def _follow(api: Api, short_id: str) -> Response:
    between = short_range(short_id.lower().replace("-", ""))
    if between is None:
        raise NotFound
    with api.database.read() as connection:
        alert_id = alert_between(connection, *between, principal().accounts)
    if alert_id is None:
        raise NotFound
    return redirect(url_for("pages.alert", alert_id=alert_id), 302)
