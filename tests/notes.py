"""Notes, messages and stored alerts to test delivery with."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from stores import migrate

from webhook.domain.alert import AlertStatus, NotifyReason
from webhook.domain.message import Message, Note, compose
from webhook.domain.severity import Severity
from webhook.domain.summary import template_summary
from webhook.domain.target import target_of
from webhook.storage.database import Database
from webhook.storage.tables import alert, alert_dynamic, alert_instance, alert_trigger_log, notification

NOW = datetime(2025, 11, 21, 10, 42, 30, tzinfo=UTC)
BLOCK_RATE = 0.35038363171355497


def make_note(**changes: Any) -> Note:
    values: dict[str, Any] = {
        "notification_id": "11111111-1111-4111-8111-111111111111",
        "alert_id": "22222222-2222-4222-8222-222222222222",
        "account_id": "acc_017",
        "merchant_name": "Northwind Books",
        "alert_type": "CARD_TESTING",
        "severity": Severity.P1,
        "status": AlertStatus.ACTIVE,
        "reason": NotifyReason.FIRST,
        "rule_summary": "Blocked payments above the limit",
        "metrics": {"block_rate": BLOCK_RATE, "failed_auth_rate": 0.671, "transaction_count": 1234.0},
        "thresholds": {"block_rate": 0.2, "failed_auth_rate": 0.5},
        "occurrence_count": 3,
        "first_triggered_at": NOW - timedelta(minutes=12, seconds=5),
        "last_triggered_at": NOW,
        "resolved_at": None,
        "channel_type": "slack",
        "channel_settings": {},
        "retry_count": 0,
        "created_at": NOW,
    }
    return Note(**{**values, **changes})


def ended_note(**changes: Any) -> Note:
    ended: dict[str, Any] = {
        "reason": NotifyReason.RESOLVED,
        "status": AlertStatus.RESOLVED,
        "resolved_at": NOW - timedelta(minutes=1),
        "peaks": {"block_rate": 0.4519},
    }
    return make_note(**{**ended, **changes})


def make_message(note: Note | None = None) -> Message:
    note = note or make_note()
    return compose(note, template_summary(note), "http://sentinel.example:8080/")


class Shop:
    """A store with alerts in it, as ingest leaves them."""

    def __init__(self, url: str) -> None:
        migrate(url)
        self.database = Database(url)

    def close(self) -> None:
        self.database.close()

    def add_alert(self, *, started: datetime = NOW, last_active: datetime | None = None, **changes: Any) -> str:
        alert_id = str(uuid.uuid4())
        both = {"condition_fingerprint": uuid.uuid4().hex}
        active = last_active or started
        names = {"account_id", "merchant_name", "alert_type"}
        fixed = {
            "id": alert_id,
            "account_id": "acc_017",
            "merchant_name": "Northwind Books",
            "alert_type": "CARD_TESTING",
            "original_severity": "P2",
            "title": "as the rule says",
            "metrics_data": {"block_rate": 0.31},
            "metadata": {"thresholds": {"block_rate": 0.2}, "rule_summary": "Blocked payments"},
            "created_at": started,
            "updated_at": started,
        }
        moving = {
            "id": str(uuid.uuid4()),
            "alert_id": alert_id,
            "current_severity": "P2",
            "status": "ACTIVE",
            "occurrence_count": 2,
            "session_started_at": started,
            "session_last_active": active,
            "session_status": "ACTIVE",
            "first_triggered_at": started,
            "last_triggered_at": active,
            "latest_metrics": {"block_rate": BLOCK_RATE},
            "escalation_history": {"escalations": []},
            "version": 1,
            "updated_at": active,
        }
        of_alert = {name: value for name, value in changes.items() if name in names}
        of_session = {name: value for name, value in changes.items() if name not in names}
        with self.database.write() as connection:
            connection.execute(sa.insert(alert).values({**fixed, **both, **of_alert}))
            connection.execute(sa.insert(alert_dynamic).values({**moving, **both, **of_session}))
        return alert_id

    def add_instance(
        self,
        alert_id: str | None,
        *,
        heard: datetime,
        resolved: datetime | None = None,
        fingerprint: str = "",
        passed: datetime | None = None,
    ) -> str:
        """`passed`: when evaluation was last passed; whenever it was heard, where not said otherwise."""
        fingerprint = fingerprint or uuid.uuid4().hex[:16]
        row = {
            "fingerprint": fingerprint,
            "starts_at": heard - timedelta(minutes=5),
            "alert_id": alert_id,
            "account_id": "acc_017",
            "alert_type": "CARD_TESTING",
            "alert_name": "CardTestingDetected",
            "severity": "P2",
            "status": "RESOLVED" if resolved else "FIRING",
            "last_heard_at": heard,
            "last_passed_at": (passed or heard) if alert_id else None,
            "last_counted_at": heard,
            "resolved_at": resolved,
        }
        with self.database.write() as connection:
            connection.execute(sa.insert(alert_instance).values(row))
        return fingerprint

    def add_trigger(self, alert_id: str, metrics: dict[str, float], at: datetime = NOW) -> None:
        texts = ("condition_fingerprint", "alert_name", "alert_type", "account_id")
        row = {
            **dict.fromkeys(texts, "x"),
            "id": str(uuid.uuid4()),
            "alert_id": alert_id,
            "source": "alertmanager",
            "fingerprint": "f",
            "status": "FIRING",
            "severity": "P2",
            "starts_at": at,
            "metrics_data": metrics,
            "labels": {},
            "annotations": {},
            "verdict": {},
            "outcome": "created",
            "created_at": at,
        }
        with self.database.write() as connection:
            connection.execute(sa.insert(alert_trigger_log).values(row))

    def add_notification(self, alert_id: str, *, at: datetime = NOW, **changes: Any) -> str:
        notification_id = str(uuid.uuid4())
        row: dict[str, Any] = {
            "id": notification_id,
            "alert_id": alert_id,
            "account_id": "acc_017",
            "alert_type": "CARD_TESTING",
            "channel_type": "slack",
            "status": "PENDING",
            "reason": "first",
            "priority": 1,
            "content": {
                "severity": "P2",
                "status": "ACTIVE",
                "reason": "first",
                "merchant_name": "Northwind Books",
                "rule_summary": "Blocked payments",
                "metrics": {"block_rate": BLOCK_RATE},
                "thresholds": {"block_rate": 0.2},
                "occurrence_count": 1,
                "channel_settings": {"channel": "#northwind"},
            },
            "metadata": {},
            "created_at": at,
            "not_before": at,
            "retry_count": 0,
        }
        with self.database.write() as connection:
            row |= changes
            row.setdefault("target", target_of(row["channel_type"], row["content"].get("channel_settings", {})))
            connection.execute(sa.insert(notification).values(row))
        return notification_id

    def row(self, notification_id: str) -> dict[str, Any]:
        with self.database.read() as connection:
            query = sa.select(notification).where(notification.c.id == notification_id)
            return dict(connection.execute(query).mappings().one())

    def rows(self, table: sa.Table, **where: Any) -> list[dict[str, Any]]:
        query = sa.select(table).where(*(table.c[name] == value for name, value in where.items()))
        if "created_at" in table.c:
            query = query.order_by(table.c.created_at)
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def alert(self, alert_id: str) -> dict[str, Any]:
        with self.database.read() as connection:
            query = (
                sa.select(alert_dynamic, alert.c.title, alert.c.summary, alert.c.suggested_action, alert.c.metadata)
                .join(alert, alert.c.id == alert_dynamic.c.alert_id)
                .where(alert.c.id == alert_id)
            )
            return dict(connection.execute(query).mappings().one())


@pytest.fixture
def shop(store_url: str) -> Iterator[Shop]:
    shop = Shop(store_url)
    yield shop
    shop.close()
