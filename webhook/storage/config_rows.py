"""Merchant configurations as rows of `alert_config` and `trigger_condition`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.access import Principal
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.storage.columns import among
from webhook.storage.tables import alert_config, trigger_condition

Key = tuple[str, str]
"""Account id and alert type."""


def read_configs(connection: sa.Connection, keys: Collection[Key]) -> dict[Key, MerchantConfig]:
    """The configurations of these accounts and alert types, with their active conditions; secrets stay encrypted."""
    asked = {"accounts": sorted({key[0] for key in keys}), "alert_types": sorted({key[1] for key in keys})}
    grouped: dict[Key, list[sa.RowMapping]] = {}
    for row in connection.execute(_query(connection.dialect.name), asked).mappings():
        grouped.setdefault((row["account_id"], row["alert_type"]), []).append(row)
    return {
        key: _config(rows[0], [row for row in rows if row["metric_name"] is not None]) for key, rows in grouped.items()
    }


@cache
def _query(dialect: str) -> sa.Select[Any]:
    c, t = alert_config.c, trigger_condition.c
    of_config = (t.metric_name, t.operator, t.threshold, t.priority, t.time_window, t.is_active)
    return (
        sa.select(
            c.account_id,
            c.alert_type,
            c.enabled,
            c.logic,
            c.version,
            c.channel_preferences,
            c.notification_settings,
            *of_config,
        )
        .select_from(alert_config.outerjoin(trigger_condition, sa.and_(t.config_id == c.id, t.is_active == sa.true())))
        .where(
            among(c.account_id, "accounts", dialect),
            among(c.alert_type, "alert_types", dialect),
        )
        .order_by(c.account_id, c.alert_type, t.priority, t.id)
    )


def _config(row: sa.RowMapping, conditions: Sequence[sa.RowMapping]) -> MerchantConfig:
    return MerchantConfig(
        account_id=row["account_id"],
        alert_type=row["alert_type"],
        enabled=row["enabled"],
        logic=row["logic"],
        conditions=tuple(_condition(item) for item in conditions if item["is_active"]),
        inactive=tuple(_condition(item) for item in conditions if not item["is_active"]),
        version=row["version"],
        channel_preferences=row["channel_preferences"],
        notification_settings=row["notification_settings"],
    )


def _condition(row: sa.RowMapping) -> Condition:
    return Condition(row["metric_name"], row["operator"], row["threshold"], row["priority"], row["time_window"])


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """A configuration with what its row says of it."""

    id: str
    config: MerchantConfig
    updated_at: datetime
    updated_by: str
    updated_by_role: str = ""


def stored_configs(
    connection: sa.Connection,
    *,
    accounts: Collection[str] | None = None,
    alert_type: str | None = None,
    lock: bool = False,
) -> list[StoredConfig]:
    """By account and type, inactive conditions too; `lock` them until the transaction ends. None: all accounts."""
    c, t = alert_config.c, trigger_condition.c
    wanted: list[sa.ColumnElement[bool]] = []
    if accounts is not None:
        wanted.append(c.account_id.in_(sorted(accounts)))
    if alert_type is not None:
        wanted.append(c.alert_type == alert_type)
    rows = sa.select(alert_config).where(*wanted).order_by(c.account_id, c.alert_type)
    found = connection.execute(rows.with_for_update() if lock else rows).mappings().all()
    ids = sa.select(c.id).where(*wanted)
    conditions: dict[str, list[sa.RowMapping]] = {}
    of_them = sa.select(trigger_condition).where(t.config_id.in_(ids)).order_by(t.priority, t.id)
    for row in connection.execute(of_them).mappings():
        conditions.setdefault(row["config_id"], []).append(row)
    return [
        StoredConfig(
            row["id"],
            _config(row, conditions.get(row["id"], [])),
            row["updated_at"],
            row["updated_by"],
            row["updated_by_role"],
        )
        for row in found
    ]


def write_config(
    connection: sa.Connection, config: MerchantConfig, known: StoredConfig | None, by: Principal, now: datetime
) -> str:
    """Insert or replace with the version that `config` has; return its id."""
    values: dict[str, Any] = {
        "enabled": config.enabled,
        "logic": config.logic,
        "channel_preferences": config.channel_preferences,
        "notification_settings": config.notification_settings,
        "version": config.version,
        "updated_by": by.name[:255],
        "updated_by_role": by.role.value,
        "updated_at": now,
    }
    if known is None:
        config_id = str(uuid4())
        identity = {"id": config_id, "account_id": config.account_id, "alert_type": config.alert_type}
        connection.execute(sa.insert(alert_config).values(**identity, **values, created_at=now))
    else:
        config_id = known.id
        connection.execute(sa.update(alert_config).where(alert_config.c.id == config_id).values(**values))
        connection.execute(sa.delete(trigger_condition).where(trigger_condition.c.config_id == config_id))
    conditions = [(item, True) for item in config.conditions] + [(item, False) for item in config.inactive]
    ids = sorted(str(uuid4()) for _ in conditions)  # the order in which they were given, among equal priorities
    rows = [_row(row_id, config_id, item, active) for row_id, (item, active) in zip(ids, conditions, strict=True)]
    if rows:
        connection.execute(sa.insert(trigger_condition), rows)
    return config_id


def delete_config(connection: sa.Connection, known: StoredConfig) -> None:
    connection.execute(sa.delete(trigger_condition).where(trigger_condition.c.config_id == known.id))
    connection.execute(sa.delete(alert_config).where(alert_config.c.id == known.id))


def _row(row_id: str, config_id: str, condition: Condition, active: bool) -> dict[str, Any]:
    return {
        "id": row_id,
        "config_id": config_id,
        "metric_name": condition.metric_name,
        "operator": condition.operator,
        "threshold": condition.threshold,
        "priority": condition.priority,
        "time_window": condition.time_window,
        "is_active": active,
    }
