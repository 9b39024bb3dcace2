"""Configurations as the pages list them: a line each, without their secrets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from webhook.storage.queries import within
from webhook.storage.tables import alert, alert_config, trigger_condition


@dataclass(frozen=True, slots=True)
class ConfigLine:
    """`merchant_name` is of the latest alert, empty where there was none; `channels` those that are switched on."""

    account_id: str
    merchant_name: str
    alert_type: str
    enabled: bool
    logic: str
    conditions: int
    channels: Sequence[str]
    snoozed_until: datetime | None
    version: int
    updated_at: datetime
    updated_by: str
    updated_by_role: str


def config_lines(
    connection: sa.Connection, accounts: frozenset[str] | None, search: str = "", *, limit: int, offset: int = 0
) -> list[ConfigLine]:
    """By account and type; `search` is part of an account id or of a merchant's name."""
    c, t = alert_config.c, trigger_condition.c
    conditions = sa.select(sa.func.count()).where(t.config_id == c.id, t.is_active == sa.true()).scalar_subquery()
    statement = (
        sa.select(alert_config, conditions.label("conditions"), _name(c.account_id).label("merchant_name"))
        .where(*_wanted(accounts, search))
        .order_by(c.account_id, c.alert_type)
        .limit(limit)
        .offset(offset)
    )
    return [_line(row) for row in connection.execute(statement).mappings()]


def count_configs(connection: sa.Connection, accounts: frozenset[str] | None, search: str = "") -> int:
    query = sa.select(sa.func.count()).select_from(alert_config).where(*_wanted(accounts, search))
    return connection.scalar(query) or 0


def merchant_name(connection: sa.Connection, account_id: str) -> str:
    """As its latest alert calls it; empty where there was none."""
    return connection.scalar(sa.select(_name(sa.literal(account_id)))) or ""


def _name(account_id: sa.ColumnElement[str]) -> sa.ScalarSelect[str]:
    latest = sa.select(alert.c.merchant_name).where(alert.c.account_id == account_id)
    return latest.order_by(alert.c.created_at.desc()).limit(1).scalar_subquery()


def _wanted(accounts: frozenset[str] | None, search: str) -> list[sa.ColumnElement[bool]]:
    account = alert_config.c.account_id
    conditions = within(account, accounts)
    if search:
        named = sa.select(alert.c.account_id).where(alert.c.merchant_name.icontains(search, autoescape=True))
        conditions.append(account.icontains(search, autoescape=True) | account.in_(named))
    return conditions


def _line(row: sa.RowMapping) -> ConfigLine:
    settings, channels = row["notification_settings"], row["channel_preferences"]
    return ConfigLine(
        account_id=row["account_id"],
        merchant_name=row["merchant_name"] or "",
        alert_type=row["alert_type"],
        enabled=row["enabled"],
        logic=row["logic"],
        conditions=row["conditions"],
        channels=[name for name, channel in channels.items() if channel.get("enabled", True)],
        snoozed_until=_time(settings.get("snooze_until")),
        version=row["version"],
        updated_at=row["updated_at"],
        updated_by=row["updated_by"],
        updated_by_role=row["updated_by_role"],
    )


def _time(text: Any) -> datetime | None:  # noqa: ANN401 - from JSON
    if not text:
        return None
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
