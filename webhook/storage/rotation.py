"""Every secret at rest, encrypted anew: configurations, their versions, messages, sent or not, browsers' addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from webhook.domain.access import Principal
from webhook.domain.masking import ENCRYPTED, SECRET_FIELDS, change_secrets
from webhook.ports import Secrets
from webhook.storage.audit import record_audit
from webhook.storage.database import Database
from webhook.storage.tables import alert_config, alert_config_version, notification
from webhook.storage.web_tables import push_subscription

BATCH = 500
"""Rows in one transaction: few enough that deliveries do not wait for it."""


def rotate_secrets(database: Database, secrets: Secrets, principal: Principal, now: datetime) -> dict[str, int]:
    """How many rows changed, by table; raise SecretUnreadable at the first that no key opens."""

    def rotated(_: str, text: str) -> str:
        return secrets.rotate(text)

    def of_document(document: Mapping[str, Any]) -> dict[str, Any]:
        return {**document, "channels": change_secrets(document["channels"], rotated)} if document else {}

    def of_message(content: Mapping[str, Any]) -> dict[str, Any]:
        settings = content.get("channel_settings") or {}
        return {**content, "channel_settings": change_secrets({"": settings}, rotated)[""]}

    def of_browser(address: Mapping[str, str]) -> dict[str, str]:
        return {**address, **{name: secrets.rotate(address[name]) for name in ("endpoint", "auth")}}

    def in_all(column: sa.Column[Any], change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> int:
        number = 0
        for ids in _holding_secrets(database, column):
            with database.write() as connection:
                rows = _rotate(connection, column, ids, change)
                details = {"table": column.table.name, "rows": rows}
                record_audit(connection, principal, "keys_rotated", now=now, details=details)
            number += rows
        return number

    return {
        "alert_config": in_all(alert_config.c.channel_preferences, lambda c: change_secrets(c, rotated)),
        "alert_config_version": in_all(alert_config_version.c.document, of_document),
        "notification": in_all(notification.c.content, of_message),
        "push_subscription": in_all(push_subscription.c.address, of_browser),
    }


def _rotate(
    connection: sa.Connection,
    column: sa.Column[Any],
    ids: list[str],
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> int:
    table = column.table
    found = connection.execute(sa.select(table.c.id, column).where(table.c.id.in_(ids)).with_for_update()).all()
    for row_id, value in found:
        connection.execute(sa.update(table).where(table.c.id == row_id).values({column.name: change(value)}))
    return len(found)


def _holding_secrets(database: Database, column: sa.Column[Any]) -> Iterator[list[str]]:
    """Ids in batches; rows that come while this goes on were written with the new key already."""
    text = sa.cast(column, sa.Text)
    marks = (f'"{ENCRYPTED}', *(f'"{name}"' for name in SECRET_FIELDS))
    query = sa.select(column.table.c.id).where(sa.or_(*(text.contains(mark, autoescape=True) for mark in marks)))
    with database.read() as connection:
        found = list(connection.scalars(query))
    for start in range(0, len(found), BATCH):
        yield found[start : start + BATCH]
