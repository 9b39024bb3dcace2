"""Prompt templates: each version is a row that stays, at most one of an alert type is active."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.access import Principal
from webhook.ports import TemplateNotFound, VersionConflict
from webhook.storage.audit import record_audit
from webhook.storage.database import Database
from webhook.storage.tables import alert_template
from webhook.storage.transactions import transaction

Versions = AbstractSet[int] | None
"""Of the active one that a change was decided on, 0 where there was none; None: whatever there is."""


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """One version."""

    id: str
    alert_type: str
    template_name: str
    prompt_template: str
    version: int
    is_active: bool
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TemplateStore:
    """Changes write an audit row in their transaction. They raise VersionConflict and StoreConflict."""

    database: Database

    def active(self) -> list[StoredTemplate]:
        """By alert type."""
        query = _select().where(alert_template.c.is_active).order_by(alert_template.c.alert_type)
        with self.database.read() as connection:
            return [_read(row) for row in connection.execute(query).mappings()]

    def versions(self, alert_type: str, *, limit: int = 200) -> list[StoredTemplate]:
        """Newest first, those that are not active too."""
        t = alert_template.c
        query = _select().where(t.alert_type == alert_type).order_by(t.version.desc()).limit(limit)
        with self.database.read() as connection:
            return [_read(row) for row in connection.execute(query).mappings()]

    def save(
        self, alert_type: str, text: str, name: str, principal: Principal, now: datetime, *, versions: Versions = None
    ) -> StoredTemplate:
        """The next version; the active one as it is where nothing differs."""
        with transaction(self.database) as connection:
            known = _locked(connection, alert_type, versions)
            if known is not None and (known.prompt_template, known.template_name) == (text, name):
                return known
            return _write(
                connection, alert_type, text, name, principal=principal, now=now, action="alert_template_saved"
            )

    def delete(
        self, alert_type: str, principal: Principal, now: datetime, *, versions: Versions = None
    ) -> StoredTemplate:
        """From then on the built-in one holds; the versions stay. Raise TemplateNotFound too."""
        with transaction(self.database) as connection:
            known = _locked(connection, alert_type, versions)
            if known is None:
                raise TemplateNotFound(alert_type)
            _retire(connection, alert_type, now)
            _audit(connection, principal, "alert_template_deleted", known, now)
            return known

    def restore(
        self, alert_type: str, version: int, principal: Principal, now: datetime, *, versions: Versions = None
    ) -> StoredTemplate:
        """The text of an old version becomes the next one. Raise TemplateNotFound too."""
        t = alert_template.c
        with transaction(self.database) as connection:
            known = _locked(connection, alert_type, versions)
            old = (
                connection.execute(_select().where(t.alert_type == alert_type, t.version == version)).mappings().first()
            )
            if old is None:
                raise TemplateNotFound(f"{alert_type} version {version}")
            text, name = old["prompt_template"], old["template_name"]
            if known is not None and (known.prompt_template, known.template_name) == (text, name):
                return known
            action = "alert_template_restored"
            return _write(
                connection, alert_type, text, name, principal=principal, now=now, action=action, restored=version
            )


def _select() -> sa.Select[tuple[object, ...]]:
    return sa.select(*(alert_template.c[name] for name in StoredTemplate.__slots__))


def _read(row: sa.RowMapping) -> StoredTemplate:
    return StoredTemplate(**row)


def _locked(connection: sa.Connection, alert_type: str, versions: Versions) -> StoredTemplate | None:
    """The active one; the unique version keeps two first ones apart."""
    t = alert_template.c
    query = _select().where(t.alert_type == alert_type, t.is_active).with_for_update()
    row = connection.execute(query).mappings().first()
    known = None if row is None else _read(row)
    present = known.version if known is not None else 0
    if versions is not None and present not in versions:
        raise VersionConflict(f"template {alert_type}", present)
    return known


def _write(
    connection: sa.Connection,
    alert_type: str,
    text: str,
    name: str,
    *,
    principal: Principal,
    now: datetime,
    action: str,
    restored: int | None = None,
) -> StoredTemplate:
    """Above all versions that there ever were: a template may come back after it was deleted."""
    t = alert_template.c
    newest = connection.scalar(sa.select(sa.func.max(t.version)).where(t.alert_type == alert_type)) or 0
    _retire(connection, alert_type, now)
    new = StoredTemplate(str(uuid4()), alert_type, name, text, newest + 1, True, principal.name[:255], now)
    values = {column: getattr(new, column) for column in StoredTemplate.__slots__}
    connection.execute(sa.insert(alert_template).values(**values, default_config={}, updated_at=now))
    _audit(connection, principal, action, new, now, restored=restored)
    return new


def _retire(connection: sa.Connection, alert_type: str, now: datetime) -> None:
    t = alert_template.c
    active = sa.update(alert_template).where(t.alert_type == alert_type, t.is_active)
    connection.execute(active.values(is_active=False, updated_at=now))


def _audit(
    connection: sa.Connection,
    principal: Principal,
    action: str,
    template: StoredTemplate,
    now: datetime,
    *,
    restored: int | None = None,
) -> None:
    details = {"version": template.version, **({} if restored is None else {"restored_version": restored})}
    record_audit(
        connection, principal, action, now=now, subject=f"alert_template/{template.alert_type}", details=details
    )
