"""Who changed what: written in the transaction of the change, so that neither is there without the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.access import STAFF, Principal, Role
from webhook.storage.access_tables import audit_log


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """`actor` is a name or a credential, `action` the whole word or the beginning of it, e.g. `api_key`."""

    actor: str = ""
    action: str = ""
    account_id: str = ""
    alert_id: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[datetime, str] | None = None


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One change. `actor` is as they call themselves, `authenticated_as` the credential they came with."""

    id: str
    actor: str
    authenticated_as: str
    role: str
    address: str
    action: str
    account_id: str | None
    subject: str
    alert_id: str | None
    details: Mapping[str, Any]
    created_at: datetime

    @property
    def by_staff(self) -> bool:
        """Neither by a merchant nor by the system, which comes with no credential."""
        return self.role != Role.MERCHANT and bool(self.authenticated_as)


def record_audit(
    connection: sa.Connection,
    principal: Principal,
    action: str,
    *,
    now: datetime,
    account_id: str | None = None,
    alert_id: str | None = None,
    subject: str = "",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write one row; `subject` names what was changed, e.g. `api_key/sk_1a2b3c4d`. No secrets in `details`."""
    row = audit_row(principal, action, now, account_id=account_id, alert_id=alert_id, subject=subject, details=details)
    connection.execute(sa.insert(audit_log), row)


def audit_row(
    principal: Principal,
    action: str,
    now: datetime,
    *,
    account_id: str | None = None,
    alert_id: str | None = None,
    subject: str = "",
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One row for an insert of many."""
    return {
        "id": str(uuid4()),
        "actor": principal.name[:255],
        "authenticated_as": principal.credential,
        "role": principal.role.value,
        "address": principal.address,
        "action": action,
        "account_id": account_id,
        "alert_id": alert_id,
        "subject": subject[:255],
        "details": dict(details or {}),
        "created_at": now,
    }


def list_audit(
    connection: sa.Connection, wanted: AuditFilter, *, accounts: frozenset[str] | None = None, limit: int = 50
) -> list[AuditRecord]:
    """Newest first; ask on with `before` = (created_at, id) of the last one. `accounts` None is all.

    Who is bound to accounts finds staff by the name STAFF alone.
    """
    columns = [audit_log.c[name] for name in AuditRecord.__slots__]
    statement = sa.select(*columns).where(*_conditions(wanted))
    if wanted.actor:
        statement = statement.where(_by(wanted.actor, staff_is_named=accounts is None))
    if accounts is not None:
        statement = statement.where(audit_log.c.account_id.in_(sorted(accounts)))
    statement = statement.order_by(audit_log.c.created_at.desc(), audit_log.c.id.desc()).limit(limit)
    return [AuditRecord(**row) for row in connection.execute(statement).mappings()]


def _by(actor: str, *, staff_is_named: bool) -> sa.ColumnElement[bool]:
    log = audit_log.c
    named = (log.actor == actor) | (log.authenticated_as == actor)
    if staff_is_named:
        return named
    staff = (log.role != Role.MERCHANT.value) & (log.authenticated_as != "")
    return staff if actor == STAFF else named & ~staff


def _conditions(wanted: AuditFilter) -> list[sa.ColumnElement[bool]]:
    log = audit_log.c
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.action:
        conditions.append(log.action.startswith(wanted.action, autoescape=True))
    if wanted.account_id:
        conditions.append(log.account_id == wanted.account_id)
    if wanted.alert_id:
        conditions.append(log.alert_id == wanted.alert_id)
    if wanted.since:
        conditions.append(log.created_at >= wanted.since)
    if wanted.until:
        conditions.append(log.created_at <= wanted.until)
    if wanted.before:
        at, audit_id = wanted.before
        conditions += [log.created_at <= at, (log.created_at < at) | (log.id < audit_id)]
    return conditions
