"""GET /api/v1/audit: who changed what, newest first. A merchant sees what was done to its own accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field

from webhook.domain.access import MAY, STAFF, Right
from webhook.storage.audit import AuditFilter, AuditRecord, list_audit
from webhook.storage.database import Database
from webhook.web.access import require
from webhook.web.api import one_page
from webhook.web.openapi import blueprint
from webhook.web.parameters import Instant, Place, Text, cursor


class AuditQuery(BaseModel):
    """`actor` is a name or a credential, `action` a word or its beginning; `before` is `next` of the answer before."""

    model_config = ConfigDict(extra="forbid")
    actor: Text = ""
    action: Text = ""
    merchant_id: Text = ""
    alert_id: UUID | None = None
    from_date: Instant | None = None
    to_date: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50
    before: Place | None = None

    def wanted(self) -> AuditFilter:
        return AuditFilter(
            actor=self.actor,
            action=self.action,
            account_id=self.merchant_id,
            alert_id=str(self.alert_id) if self.alert_id else "",
            since=self.from_date,
            until=self.to_date,
            before=self.before,
        )


class AuditEntry(BaseModel):
    """`actor` is as they call themselves, `authenticated_as` the credential by which they were let in.

    Merchants are told `staff` in both of whoever is none of theirs, and no addresses.
    """

    audit_id: str
    actor: str
    authenticated_as: str
    address: str
    action: str
    merchant_id: str | None
    alert_id: str | None
    subject: str
    details: dict[str, Any]
    created_at: str


class AuditPage(BaseModel):
    data: list[AuditEntry]
    next: str | None


def audit_blueprint(database: Database) -> APIBlueprint:
    routes = blueprint("api_audit", "Audit")

    @routes.get("/audit", responses={200: AuditPage})
    def audit(query: AuditQuery) -> Response:
        """Who changed what, newest first."""
        asking = require(*MAY[Right.AUDIT])
        with database.read() as connection:
            found = list_audit(connection, query.wanted(), accounts=asking.accounts, limit=query.limit + 1)
        listed, last = one_page(found, query.limit)
        following = last and cursor(last.created_at, last.id)
        # Who of the staff it was, and where anybody calls from, is no merchant's business.
        shown = [_entry(record, whole=asking.accounts is None) for record in listed]
        return Response(AuditPage(data=shown, next=following).model_dump_json(), mimetype="application/json")

    return routes


def _entry(record: AuditRecord, *, whole: bool) -> AuditEntry:
    named = whole or not record.by_staff
    return AuditEntry(
        audit_id=record.id,
        actor=record.actor if named else STAFF,
        authenticated_as=record.authenticated_as if named else STAFF,
        address=record.address if whole else "",
        action=record.action,
        merchant_id=record.account_id,
        alert_id=record.alert_id,
        subject=record.subject,
        details=dict(record.details),
        created_at=_time(record.created_at),
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"
