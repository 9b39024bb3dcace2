"""The pages of merchants' settings: the list, one configuration as a form, its history, restore and removal.

What the API does is done by the same functions: `ConfigStore`, the checks of `config_document`, `ConfigSite`'s preview.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from itertools import pairwise
from typing import Any
from uuid import UUID

from flask import Blueprint, flash, redirect, render_template, request, url_for
from pydantic import Field, ValidationError
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from webhook.domain.access import MAY, Right
from webhook.domain.configuration import STAFF_SETTINGS, config_of
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.masking import masked
from webhook.ports import ConfigNotFound, StaffOnly, StoreUnavailable, UnknownMasks, VersionConflict
from webhook.storage.config_list import config_lines, count_configs, merchant_name
from webhook.storage.configs import VersionRecord
from webhook.web.access import principal, require
from webhook.web.api import Api
from webhook.web.config_api import ConfigSite
from webhook.web.config_document import AccountId, AlertType
from webhook.web.config_editing import Editing, edit, editing_of, known_metrics
from webhook.web.config_form import channel_parts, languages
from webhook.web.config_words import FIELDS, Change, changes
from webhook.web.parameters import FURTHEST_PAGE, Parameters, Text, cursor

LINES, VERSIONS = 50, 50
Answer = Response | str | tuple[str, int]


class SettingsQuery(Parameters):
    """`account` is part of an account id or of a merchant's name."""

    account: Text = ""
    page: int = Field(1, ge=1, le=FURTHEST_PAGE)


class ConfigAddress(Parameters):
    """Which configuration is meant. Account ids may hold slashes, so it stands in the query."""

    account: AccountId
    type: AlertType


@dataclass(frozen=True, slots=True)
class VersionShown:
    """One version, with what it changed in the one before."""

    record: VersionRecord
    changed: list[Change]
    first: bool


def add_settings_pages(pages: Blueprint, api: Api, site: ConfigSite) -> None:
    rules: list[tuple[str, str, Any, str]] = [
        ("/settings", "settings", partial(_overview, api), "GET"),
        ("/settings/config", "config", partial(_show, api, site), "GET"),
        ("/settings/config", "config_submit", partial(_submit, api, site), "POST"),
        ("/settings/config/history", "config_history", partial(_history, api, site), "GET"),
        ("/settings/config/restore", "config_restore", partial(_restore, site), "POST"),
        ("/settings/config/remove", "config_remove", partial(_remove, api, site), "POST"),
    ]
    for rule, endpoint, view, method in rules:
        pages.add_url_rule(rule, endpoint, view, methods=[method])


def _address() -> ConfigAddress:
    """What is asked for, when it is one's own: another's does not exist."""
    try:
        asked = ConfigAddress.model_validate({name: request.args.get(name, "").strip() for name in ("account", "type")})
    except ValidationError:
        raise NotFound from None
    if not require(*MAY[Right.CONFIGURE]).may_see(asked.account):
        raise NotFound
    return asked


def _overview(api: Api) -> str:
    query, mine = SettingsQuery.leniently(request.args), require(*MAY[Right.CONFIGURE]).accounts
    with api.database.read() as connection:
        total = count_configs(connection, mine, query.account)
        pages = max(1, -(-total // LINES))
        page = min(query.page, pages)
        lines = config_lines(connection, mine, query.account, limit=LINES, offset=(page - 1) * LINES)
    return render_template(
        "settings.html",
        query=query,
        lines=lines,
        total=total,
        page=page,
        pages=pages,
        accounts=None if mine is None else sorted(mine),
    )


def _show(api: Api, site: ConfigSite) -> str:
    asked = _address()
    return _form(api, site, asked, editing_of(site, asked.account, asked.type))


def _submit(api: Api, site: ConfigSite) -> Answer:
    asked = _address()
    editing = edit(site, asked.account, asked.type, request.form.to_dict())
    if editing.saved is None:
        status = HTTPStatus.OK if editing.status is None else editing.status
        return _form(api, site, asked, editing), status
    flash(editing.saved, "done")
    for warning in editing.warnings:
        flash(warning, "note")
    return redirect(url_for("pages.config", **asked.model_dump()), 303)


def _form(api: Api, site: ConfigSite, asked: ConfigAddress, editing: Editing) -> str:
    with api.database.read() as connection:
        name = merchant_name(connection, asked.account)
        metrics = known_metrics(connection, asked.account, asked.type)
    return render_template(
        "config.html",
        asked=asked,
        editing=editing,
        merchant=name,
        metrics=metrics,
        channels=channel_parts(),
        part_names=FIELDS,
        languages=languages(editing.fields),
        set_up=site.set_up,
        kept=masked(editing.stored.config.channel_preferences) if editing.stored else {},
        locked=() if principal().may(Right.DIRECT) else STAFF_SETTINGS,
        examples=_examples(editing.preview),
    )


def _examples(preview: Mapping[str, Any] | None) -> list[tuple[dict[str, Any], datetime, str]]:
    """A few of each kind of change, with when it was and its place in the trigger log."""
    found = [(example, datetime.fromisoformat(example["time"])) for example in (preview["examples"] if preview else ())]
    return [(example, at, _just_after(at)) for example, at in found]


def _just_after(at: datetime) -> str:
    """The place in the trigger log from which the trigger of this time is the first one seen."""
    return cursor(at + timedelta(microseconds=1), str(UUID(int=0)))


def _history(api: Api, site: ConfigSite) -> str:
    asked = _address()
    found = site.store.versions(asked.account, asked.type, limit=VERSIONS + 1)
    with api.database.read() as connection:
        name = merchant_name(connection, asked.account)
    configs = [_config(asked, record) for record in found]
    shown = [
        VersionShown(record, changes(before, after), first=before is None)
        for record, (after, before) in zip(found, pairwise([*configs, None]), strict=True)
    ]
    stored = site.store.stored(accounts=[asked.account], alert_type=asked.type)
    present = stored[0].config.version if stored else 0
    return render_template(
        "config_history.html", asked=asked, merchant=name, versions=shown[:VERSIONS], present=present
    )


def _config(asked: ConfigAddress, record: VersionRecord) -> MerchantConfig | None:
    """None for a deletion."""
    return replace(config_of(asked.account, record.document), version=record.version) if record.document else None


def _restore(site: ConfigSite) -> Response:
    asked, given = _address(), {name: request.form.get(name, type=int) for name in ("restore_version", "version")}
    try:
        saved = site.store.restore(
            asked.account,
            asked.type,
            given["restore_version"] or 0,
            principal(),
            site.clock(),
            versions={given["version"] or 0},
        )
    except ConfigNotFound:
        raise NotFound from None
    except VersionConflict as error:
        flash(
            f"Nothing was restored: somebody has saved version {error.present} meanwhile. Look at it first.", "problem"
        )
    except (StaffOnly, UnknownMasks):
        flash("Nothing was restored: that version holds what staff alone may set. Ask for it.", "problem")
    except StoreUnavailable:
        flash("Nothing was restored: the database is busy. Try again.", "problem")
    else:
        said = f"Version {given['restore_version']} is in force again, as version {saved.version}."
        flash(said if saved.change != "unchanged" else "That version says what is in force already.", "done")
    return redirect(url_for("pages.config_history", **asked.model_dump()), 303)


def _remove(api: Api, site: ConfigSite) -> Answer:
    asked, version = _address(), request.form.get("version", type=int)
    if request.form.get("confirmed") != "yes":
        with api.database.read() as connection:
            name = merchant_name(connection, asked.account)
        return render_template("config_remove.html", asked=asked, merchant=name, version=version)
    try:
        site.store.delete(asked.account, asked.type, principal(), site.clock(), versions={version or 0})
    except ConfigNotFound:
        raise NotFound from None
    except VersionConflict as error:
        flash(
            f"Nothing was removed: somebody has saved version {error.present} meanwhile. Look at it first.", "problem"
        )
        return redirect(url_for("pages.config", **asked.model_dump()), 303)
    except StaffOnly:
        flash("Nothing was removed: staff set a part of it, which goes with staff alone. Ask for it.", "problem")
        return redirect(url_for("pages.config", **asked.model_dump()), 303)
    flash("Removed. The general rule decides from now on; the history keeps what was.", "done")
    return redirect(url_for("pages.config_history", **asked.model_dump()), 303)
