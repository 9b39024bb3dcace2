"""The page of the audit log: who changed what. A merchant sees what was done to its own accounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import Any

from flask import Blueprint, render_template, request

from webhook.domain.access import MAY, STAFF, Right
from webhook.storage.audit import AuditFilter, AuditRecord, list_audit
from webhook.web.access import require
from webhook.web.api import Api
from webhook.web.config_words import field_label, value_text
from webhook.web.parameters import Parameters, Place, Text, cursor
from webhook.web.wording import AUDIT_ACTIONS, humanise

ENTRIES = 50


class AuditPageQuery(Parameters):
    """Days are of UTC, and `until` is one of them too."""

    actor: Text = ""
    action: Text = ""
    account: Text = ""
    since: date | None = None
    until: date | None = None
    before: Place | None = None

    @property
    def given(self) -> dict[str, str]:
        shown = self.model_dump(mode="json", exclude={"before"})
        return {name: value for name, value in shown.items() if value}

    def wanted(self) -> AuditFilter:
        return AuditFilter(
            actor=self.actor,
            action=self.action,
            account_id=self.account,
            since=_midnight(self.since),
            until=_end(self.until),
            before=self.before,
        )


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), UTC)


def _end(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time.max, UTC)


def add_audit_page(pages: Blueprint, api: Api) -> None:
    def audit() -> str:
        asking, query = require(*MAY[Right.AUDIT]), AuditPageQuery.leniently(request.args)
        staff = asking.accounts is None
        with api.database.read() as connection:
            found = list_audit(connection, query.wanted(), accounts=asking.accounts, limit=ENTRIES)
        return render_template(
            "audit.html",
            query=query,
            entries=[(shown_to(record, staff=staff), details_of(record.details)) for record in found],
            more=cursor(found[-1].created_at, found[-1].id) if len(found) == ENTRIES else None,
            actions=AUDIT_ACTIONS,
            staff=staff,
        )

    pages.add_url_rule("/audit", "audit", audit)


def shown_to(record: AuditRecord, *, staff: bool) -> AuditRecord:
    """Who of the staff it was, and where anybody calls from, is no merchant's business."""
    if staff:
        return record
    if record.by_staff:
        return replace(record, address="", actor=STAFF, authenticated_as="")
    return replace(record, address="")


def details_of(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each detail with its name; of a configuration what was changed, from what to what."""
    found = []
    for name, value in details.items():
        if name == "changes" and isinstance(value, list):
            found += [_change(entry) for entry in value if entry[1] or entry[2] or entry[2] is False]
        elif value not in (None, "", [], {}):
            found.append((humanise(name), value_text(value)))
    return found


def _change(entry: Any) -> tuple[str, str]:  # noqa: ANN401 - from JSON
    path, before, after = entry
    return field_label(str(path)), f"{value_text(before)} → {value_text(after)}"
