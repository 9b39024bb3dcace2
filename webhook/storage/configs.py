"""Merchant configurations as rows of `alert_config` and `trigger_condition`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any, Literal
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.storage.columns import among
from webhook.storage.database import Database
from webhook.storage.tables import alert_config, trigger_condition

Key = tuple[str, str]
"""Account id and alert type."""


def read_configs(connection: sa.Connection, keys: Collection[Key]) -> dict[Key, MerchantConfig]:
    """The configurations of these accounts and alert types, with their active conditions."""
    asked = {"accounts": sorted({key[0] for key in keys}), "alert_types": sorted({key[1] for key in keys})}
    grouped: dict[Key, list[sa.RowMapping]] = {}
    for row in connection.execute(_query(connection.dialect.name), asked).mappings():
        grouped.setdefault((row["account_id"], row["alert_type"]), []).append(row)
    return {key: _config(rows) for key, rows in grouped.items()}


@cache
def _query(dialect: str) -> sa.Select[Any]:
    c, t = alert_config.c, trigger_condition.c
    of_config = (t.metric_name, t.operator, t.threshold, t.priority, t.time_window)
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


def _config(rows: Sequence[sa.RowMapping]) -> MerchantConfig:
    first = rows[0]
    return MerchantConfig(
        account_id=first["account_id"],
        alert_type=first["alert_type"],
        enabled=first["enabled"],
        logic=first["logic"],
        conditions=tuple(
            Condition(row["metric_name"], row["operator"], row["threshold"], row["priority"], row["time_window"])
            for row in rows
            if row["metric_name"] is not None
        ),
        version=first["version"],
        channel_preferences=first["channel_preferences"],
        notification_settings=first["notification_settings"],
    )


Change = Literal["created", "updated", "unchanged"]


def save_configs(database: Database, configs: Sequence[MerchantConfig], now: datetime) -> Counter[Change]:
    """Write all of them in one transaction; a changed one gets the next version, an equal one keeps its own."""
    changes: Counter[Change] = Counter()
    with database.write() as connection:
        known = read_configs(connection, {(config.account_id, config.alert_type) for config in configs})
        for config in configs:
            changes[_save(connection, config, known.get((config.account_id, config.alert_type)), now)] += 1
    return changes


def _save(connection: sa.Connection, config: MerchantConfig, known: MerchantConfig | None, now: datetime) -> Change:
    if known is not None and replace(config, version=known.version) == known:
        return "unchanged"
    c = alert_config.c
    values: dict[str, Any] = {
        "enabled": config.enabled,
        "logic": config.logic,
        "channel_preferences": config.channel_preferences,
        "notification_settings": config.notification_settings,
        "updated_at": now,
    }
    if known is None:
        config_id = str(uuid4())
        identity = {"id": config_id, "account_id": config.account_id, "alert_type": config.alert_type}
        connection.execute(sa.insert(alert_config).values(**identity, **values, version=1, created_at=now))
    else:
        ours = sa.and_(c.account_id == config.account_id, c.alert_type == config.alert_type)
        config_id = str(connection.scalar(sa.select(c.id).where(ours)))
        connection.execute(sa.update(alert_config).where(ours).values(**values, version=c.version + 1))
        connection.execute(sa.delete(trigger_condition).where(trigger_condition.c.config_id == config_id))
    if config.conditions:
        connection.execute(sa.insert(trigger_condition), [_condition(config_id, item) for item in config.conditions])
    return "created" if known is None else "updated"


def _condition(config_id: str, condition: Condition) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "config_id": config_id,
        "metric_name": condition.metric_name,
        "operator": condition.operator,
        "threshold": condition.threshold,
        "priority": condition.priority,
        "time_window": condition.time_window,
        "is_active": True,
    }
