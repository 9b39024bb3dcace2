"""One configuration that is being edited: rows come and go, it is tried on the last days, it is saved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa

from webhook.domain.access import named_to
from webhook.domain.configuration import config_of, document_of, masked_document
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.metric import metric_words
from webhook.notifiers.outgoing import ForbiddenAddress
from webhook.ports import SecretUnreadable, StaffOnly, StoreUnavailable, UnknownMasks, VersionConflict
from webhook.storage.config_rows import StoredConfig
from webhook.storage.records import TriggerFilter
from webhook.storage.trigger_search import list_triggers
from webhook.web.access import principal
from webhook.web.config_api import ConfigSite
from webhook.web.config_document import ConfigBody, warnings_of
from webhook.web.config_form import fields_of, read_form, rows_in, with_row, without_row
from webhook.web.config_words import Change, changes
from webhook.web.readings import as_number
from webhook.web.threshold_text import threshold_text

TRIED, EXAMPLES = timedelta(days=7), 3
_SEEN = 50
_KEPT = 200


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody else was faster: what they changed, and what saving would change in it now."""

    by: str
    at: datetime | None
    theirs: list[Change]
    yours: list[Change]


@dataclass(slots=True)
class Editing:
    """The form as it is shown next. `saved` says what was done, and then nothing else is shown."""

    fields: Mapping[str, str]
    stored: StoredConfig | None
    version: int
    errors: Mapping[str, str] = field(default_factory=dict)
    preview: Mapping[str, Any] | None = None
    changed: list[Change] = field(default_factory=list)
    conflict: Conflict | None = None
    added: int | None = None
    saved: str | None = None
    warnings: list[str] = field(default_factory=list)
    status: HTTPStatus | None = None

    @property
    def rows(self) -> list[int]:
        return rows_in(self.fields)


def editing_of(site: ConfigSite, account_id: str, alert_type: str) -> Editing:
    """As it is stored; the defaults where nothing is."""
    stored = _stored(site, account_id, alert_type)
    return Editing(fields_of(_document(stored)), stored, stored.config.version if stored else 0)


def edit(site: ConfigSite, account_id: str, alert_type: str, typed: Mapping[str, str]) -> Editing:
    """What the button that was pressed makes of what was `typed`; raise StoreUnavailable for reading alone."""
    stored, button = _stored(site, account_id, alert_type), typed.get("do", "")
    version = int(typed["version"]) if re.fullmatch("[0-9]{1,9}", typed.get("version", "")) else 0
    editing = Editing(typed, stored, version)
    if button == "add":
        editing.fields = with_row(typed)
        editing.added = editing.rows[-1]
        return editing
    if match := re.fullmatch("remove-([0-9]{1,4})", button):
        editing.fields = without_row(typed, int(match[1]))
        return editing
    read = read_form(typed, account_id, alert_type, _document(stored))
    editing.errors = read.errors
    if read.body is None:
        editing.status = HTTPStatus.UNPROCESSABLE_ENTITY
    elif button == "save":
        _save(site, editing, read.body)
    else:
        _try(site, editing, read.body)
    return editing


def _try(site: ConfigSite, editing: Editing, body: ConfigBody) -> None:
    try:
        config, _ = site.store.completed(body.config(), principal())
        editing.preview = site.preview(config, TRIED, site.clock(), EXAMPLES)
    except (UnknownMasks, StaffOnly) as error:
        _mark(editing, error)
    except StoreUnavailable:
        _refuse(editing, "", "The last days cannot be read now. Try again.", HTTPStatus.SERVICE_UNAVAILABLE)
    else:
        editing.changed = changes(editing.stored.config if editing.stored else None, config)


def _save(site: ConfigSite, editing: Editing, body: ConfigBody) -> None:
    try:
        config, known = site.store.completed(body.config(), principal())
        site.check_urls(config, known)
        (saved,) = site.store.save([config], principal(), site.clock(), versions={editing.version})
    except (UnknownMasks, StaffOnly) as error:
        _mark(editing, error)
    except ForbiddenAddress as error:
        place, _, words = str(error).partition(": ")
        said = f"The address {words}." if words else f"{error}."
        _refuse(editing, place.removeprefix("channels."), said, HTTPStatus.UNPROCESSABLE_ENTITY)
    except SecretUnreadable as error:
        _refuse(editing, "", f"Nothing was saved: {error}.", HTTPStatus.SERVICE_UNAVAILABLE)
    except VersionConflict:
        _tell_conflict(site, editing, config)
    except StoreUnavailable:
        _refuse(editing, "", "Nothing was saved: the database is busy. Try again.", HTTPStatus.SERVICE_UNAVAILABLE)
    else:
        unchanged = saved.change == "unchanged"
        editing.saved = (
            "Nothing was different, so nothing was saved." if unchanged else f"Saved as version {saved.version}."
        )
        editing.warnings = warnings_of(config, site.set_up)
        if saved.webhook_secret:
            editing.warnings.append(f"The signing secret of the webhook, shown this once: {saved.webhook_secret}")


def _mark(editing: Editing, error: UnknownMasks | StaffOnly) -> None:
    """Beside the fields that it names."""
    if isinstance(error, UnknownMasks):
        told = {place: f"This {why}." for place, why in error.problems.items()}
    else:
        told = dict.fromkeys(error.places, "This is set by staff alone: ask for it.")
    for place, words in told.items():
        _refuse(editing, place.removeprefix("channels."), words, HTTPStatus.UNPROCESSABLE_ENTITY)


def _refuse(editing: Editing, place: str, words: str, status: HTTPStatus) -> None:
    editing.errors, editing.status = {**editing.errors, place: words}, status


def _tell_conflict(site: ConfigSite, editing: Editing, config: MerchantConfig) -> None:
    """From here on the form stands on the present version: who saves again has seen it."""
    account_id, alert_type = config.account_id, config.alert_type
    versions = site.store.versions(account_id, alert_type, limit=_KEPT)
    seen = next((item for item in versions if item.version == editing.version and item.document), None)
    present = _stored(site, account_id, alert_type)
    before = config_of(account_id, seen.document) if seen else None
    editing.conflict = Conflict(
        by=named_to(principal(), versions[0].changed_by, versions[0].changed_by_role) if versions else "",
        at=versions[0].created_at if versions else None,
        theirs=changes(before, present.config if present else None),
        yours=changes(present.config if present else None, config),
    )
    editing.stored, editing.version = present, present.config.version if present else 0
    editing.status = HTTPStatus.CONFLICT


def _stored(site: ConfigSite, account_id: str, alert_type: str) -> StoredConfig | None:
    found = site.store.stored(accounts=[account_id], alert_type=alert_type)
    return found[0] if found else None


def _document(stored: StoredConfig | None) -> dict[str, Any]:
    return masked_document(document_of(stored.config)) if stored else {}


def known_metrics(connection: sa.Connection, account_id: str, alert_type: str) -> dict[str, str]:
    """Metrics of the account's latest triggers of this type, each with its name and last value."""
    wanted = TriggerFilter(account=account_id, alert_type=alert_type, accounts=frozenset({account_id}))
    found: dict[str, str] = {}
    for record in list_triggers(connection, wanted, _SEEN).records:
        for metric, value in record.metrics.items():
            number = as_number(value)
            if metric not in found and number is not None:
                found[metric] = f"{metric_words(metric).label}, last {threshold_text(metric, '>', round(number, 4))}"
    return dict(sorted(found.items()))
