"""Rows as the pipeline writes them, and stand-ins for what the pages are given: for the tests of the pages."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from flask import Flask
from stores import migrate

from webhook.domain.access import Principal, Role
from webhook.domain.action import DismissReason, Doing
from webhook.domain.alert import AlertTypes
from webhook.domain.evaluation import Condition, MerchantConfig, evaluate
from webhook.ports import HistoryUnavailable
from webhook.storage.acting import Acted, AlertActions
from webhook.storage.database import Database
from webhook.storage.dead_letters import DeadLetters
from webhook.storage.records import AlertRecord
from webhook.storage.tables import alert, alert_comment, alert_dynamic, alert_trigger_log, notification
from webhook.web.api import Api
from webhook.web.config_api import ConfigSite
from webhook.web.doors import DoorSettings, open_doors
from webhook.web.openapi import application
from webhook.web.pages import register_pages
from webhook.web.push_api import PushSite

TOKEN = "a-long-admin-token-for-tests"
ADMIN = Principal("admin", Role.ADMIN, "admin token")
NOW = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)
HOSTILE = '<script>alert(1)</script>"\' onmouseover="x" {{7*7}} \u202egnp.exe & Söhne'
LONG = "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz-Vertriebs-GmbH-und-Co-KG-" * 2
METRICS = {"block_rate": 0.35038363171355497, "failed_auth_rate": 0.61, "transaction_count": 1204.0}
THRESHOLDS = {"block_rate": 0.2, "failed_auth_rate": 0.5}
CHANNELS: dict[str, dict[str, Any]] = {"slack": {}, "console": {}}
ACTION = "Ask for 3-D Secure on cards that were not seen before, and limit attempts per card and device."


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


class NotedActions(AlertActions):
    """Keeps what it was asked."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, CHANNELS)
        self.asked: list[tuple[str, str, str, str]] = []

    def resolve(self, alert_id: str, note: str, doing: Doing) -> Acted:
        self.asked.append((alert_id, "RESOLVED", note, doing.actor))
        return super().resolve(alert_id, note, doing)

    def dismiss(self, alert_id: str, reason: DismissReason, feedback: str, doing: Doing) -> Acted:
        self.asked.append((alert_id, "DISMISSED", f"{reason} {feedback}".strip(), doing.actor))
        return super().dismiss(alert_id, reason, feedback, doing)


@dataclass
class FakeCharts:
    """One colour a theme; `away` plays a Prometheus that does not answer."""

    away: bool = False
    asked: list[tuple[str, float | None, str, str]] = field(default_factory=list)

    def chart(
        self,
        _alert: AlertRecord,
        metric: str,
        *,
        threshold: float | None,
        operator: str,  # noqa: ARG002 - the port's
        theme: str,
        image_format: str,
    ) -> bytes:
        self.asked.append((metric, threshold, theme, image_format))
        if self.away:
            raise HistoryUnavailable
        if image_format == "svg":
            return b'<svg xmlns="http://www.w3.org/2000/svg" width="12" height="6"/>'
        return png(b"\x20\x26\x30" if theme == "dark" else b"\xe8\xec\xf4")


def png(colour: bytes, width: int = 120, height: int = 60) -> bytes:
    """A plain picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + colour * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def open_store(url: str) -> Database:
    migrate(url)
    return Database(url)


def make_app(
    database: Database,
    clock: Any = None,
    charts: FakeCharts | None = None,
    *,
    token: str = TOKEN,
    secret_key: str | bytes | None = None,
    config: ConfigSite | None = None,
    push: PushSite | None = None,
) -> tuple[Flask, NotedActions]:
    app, actions = application(), NotedActions(database)
    app.secret_key = secret_key
    clock = clock or Clock()
    doors = open_doors(app, DoorSettings(token), database, clock)
    site = Api(database, clock, actions, DeadLetters(database, CHANNELS), charts, AlertTypes())
    app.extensions["sentinel_broadcaster"] = register_pages(app, site, doors, config, push=push)
    return app, actions


@dataclass(frozen=True)
class AlertRow:
    """One alert that is not ACTIVE ended ten minutes after `at`, if not told when."""

    account_id: str = "acc_017"
    merchant_name: str = "Nordlicht Elektronik"
    alert_type: str = "CARD_TESTING"
    title: str = ""
    summary: str = "Blocked payments rose from 4 % to 35.0 % within ten minutes, with 1,204 payments on 212 cards."
    severity: str = "P1"
    original_severity: str | None = None
    status: str = "ACTIVE"
    at: datetime = NOW - timedelta(minutes=12)
    count: int = 12
    metrics: Mapping[str, float] = field(default_factory=lambda: METRICS)
    thresholds: Mapping[str, float] = field(default_factory=lambda: THRESHOLDS)
    resolved_at: datetime | None = None
    note: str | None = None
    escalations: tuple[Mapping[str, Any], ...] = ()
    source: str = "template"
    session_status: str | None = None
    last: datetime | None = None

    @property
    def ended_at(self) -> datetime | None:
        return None if self.status == "ACTIVE" else self.resolved_at or self.at + timedelta(minutes=10)

    def values(self, fingerprint: str) -> dict[str, Any]:
        kinds = {"CARD_TESTING": "Card testing attack", "VELOCITY_ATTACK": "Velocity attack"}
        title = f"{kinds.get(self.alert_type, 'Attack')}: {self.merchant_name}"[:100]
        return {
            "account_id": self.account_id, "merchant_name": self.merchant_name, "alert_type": self.alert_type,
            "original_severity": self.original_severity or self.severity, "title": self.title or title,
            "summary": self.summary, "suggested_action": ACTION, "condition_fingerprint": fingerprint,
            "metrics_data": dict(self.metrics), "created_at": self.at, "updated_at": self.at,
            "metadata": {"thresholds": dict(self.thresholds), "labels": {}, "summary_source": self.source},
        }  # fmt: skip

    def dynamic_values(self, fingerprint: str) -> dict[str, Any]:
        last, active = self.last or self.at, self.status == "ACTIVE"
        return {
            "condition_fingerprint": fingerprint, "current_severity": self.severity, "status": self.status,
            "occurrence_count": self.count, "session_started_at": self.at, "session_last_active": last,
            "session_status": self.session_status or ("ACTIVE" if active else "RESOLVED"),
            "first_triggered_at": self.at, "last_triggered_at": last, "latest_metrics": dict(self.metrics),
            "escalation_history": {"escalations": list(self.escalations)}, "resolved_at": self.ended_at,
            "resolved_by": "system" if self.status == "RESOLVED" else None, "resolution_note": self.note,
            "version": 1, "updated_at": self.ended_at or last,
        }  # fmt: skip


def insert_alert(database: Database, **fields: Any) -> str:
    """An alert with its dynamic row; what is not told is as AlertRow has it."""
    row, alert_id, fingerprint = AlertRow(**fields), str(uuid4()), uuid4().hex
    with database.write() as connection:
        connection.execute(sa.insert(alert).values(id=alert_id, **row.values(fingerprint)))
        dynamic = {"id": str(uuid4()), "alert_id": alert_id, **row.dynamic_values(fingerprint)}
        connection.execute(sa.insert(alert_dynamic).values(**dynamic))
    return alert_id


def verdict_of(metrics: Mapping[str, float], own: Mapping[str, float], *, enabled: bool = True) -> dict[str, Any]:
    """What the evaluation says of a merchant whose own thresholds are `own`; none: it has set none."""
    if not own and enabled:
        return evaluate(None, metrics).as_json()
    conditions = tuple(Condition(name, ">", limit) for name, limit in own.items())
    return evaluate(MerchantConfig("acc", "CARD_TESTING", enabled, "all", conditions, 3), metrics).as_json()


def insert_trigger(
    database: Database,
    alert_id: str | None = None,
    *,
    account_id: str = "acc_017",
    merchant_name: str = "Nordlicht Elektronik",
    alert_type: str = "CARD_TESTING",
    alert_name: str = "CardTestingSevere",
    severity: str = "P1",
    status: str = "FIRING",
    outcome: str = "created",
    outcome_reason: str = "",
    notify: str = "",
    at: datetime = NOW - timedelta(minutes=12),
    metrics: Mapping[str, float] = METRICS,
    thresholds: Mapping[str, float] = THRESHOLDS,
    verdict: Mapping[str, Any] | None = None,
) -> str:
    trigger_id = str(uuid4())
    with database.write() as connection:
        connection.execute(
            sa.insert(alert_trigger_log).values(
                id=trigger_id, alert_id=alert_id, source="alertmanager", fingerprint=uuid4().hex[:16],
                condition_fingerprint=uuid4().hex, alert_name=alert_name, alert_type=alert_type,
                account_id=account_id, status=status, severity=severity, starts_at=at, ends_at=None,
                metrics_data=dict(metrics), labels={"merchant_name": merchant_name},
                annotations={f"threshold_{name}": str(value) for name, value in thresholds.items()},
                verdict=dict(verdict if verdict is not None else verdict_of(metrics, {})), outcome=outcome,
                outcome_reason=outcome_reason, notify=notify, created_at=at,
            )
        )  # fmt: skip
    return trigger_id


def insert_notification(
    database: Database,
    alert_id: str,
    *,
    channel: str = "slack",
    status: str = "SENT",
    reason: str = "first",
    at: datetime = NOW - timedelta(minutes=11),
    retries: int = 0,
    error: str | None = None,
) -> str:
    notification_id = str(uuid4())
    sent = status in ("SENT", "DELIVERED")
    with database.write() as connection:
        connection.execute(
            sa.insert(notification).values(
                id=notification_id, alert_id=alert_id, account_id="acc_017", alert_type="CARD_TESTING",
                channel_type=channel, status=status, reason=reason, priority=2, content={}, metadata={},
                created_at=at, not_before=at + timedelta(minutes=retries), retry_count=retries,
                lease_until=NOW + timedelta(minutes=1) if status == "SENDING" else None,
                sent_at=at + timedelta(seconds=1) if sent else None,
                failed_at=at + timedelta(minutes=5) if status == "FAILED" else None, error_message=error,
            )
        )  # fmt: skip
    return notification_id


def insert_comment(
    database: Database, alert_id: str, content: str, *, kind: str = "USER_NOTE", by: str = "on-call", at: datetime = NOW
) -> None:
    with database.write() as connection:
        connection.execute(
            sa.insert(alert_comment).values(
                id=str(uuid4()), alert_id=alert_id, comment_type=kind, content=content, created_by=by, created_at=at
            )
        )


def _minutes(now: datetime, minutes: float) -> datetime:
    return now - timedelta(minutes=minutes)


def seed_attack(database: Database, now: datetime) -> str:
    """One attack with everything that can happen to it, running since 46 minutes."""
    start = _minutes(now, 46)
    escalations = (
        {"from_severity": "P3", "to_severity": "P2", "reason": "rule_severity", "occurrence_count": 2,
         "escalated_at": _minutes(now, 41).isoformat()},
        {"from_severity": "P2", "to_severity": "P1", "reason": "occurrence_count_threshold", "occurrence_count": 50,
         "escalated_at": _minutes(now, 7).isoformat()},
    )  # fmt: skip
    metrics = METRICS | {"unique_card_count": 212.0, "transaction_rate": 10.03}
    alert_id = insert_alert(
        database, at=start, last=_minutes(now, 2), count=52, escalations=escalations, original_severity="P3",
        metrics=metrics, source="gpt-test",
        summary="Someone is probably trying out stolen card numbers. 35.0 % of the payments were blocked, where "
        "20 % is this business's limit, and 61.0 % failed authorisation.\n\nThe attack began 46 minutes ago and uses "
        "212 different cards.",
    )  # fmt: skip
    own = {"block_rate": 0.3, "failed_auth_rate": 0.5}
    common = {"metrics": metrics, "verdict": verdict_of(metrics, own)}
    insert_trigger(
        database, alert_id, at=start, severity="P3", alert_name="CardTestingDetected", notify="first", **common
    )
    for minutes in (44, 43.5, 42):
        insert_trigger(database, alert_id, at=_minutes(now, minutes), outcome="duplicate", severity="P3",
                       alert_name="CardTestingDetected", **common)  # fmt: skip
    insert_trigger(database, alert_id, at=_minutes(now, 41), outcome="session_updated", severity="P2",
                   notify="escalated", **common)  # fmt: skip
    insert_trigger(database, alert_id, at=_minutes(now, 20), outcome="session_updated", notify="withheld:frequency",
                   metrics={"failed_auth_rate": 0.58}, verdict=verdict_of({"failed_auth_rate": 0.58}, own))  # fmt: skip
    insert_trigger(database, alert_id, at=_minutes(now, 7), outcome="session_updated", notify="escalated", **common)
    insert_trigger(
        database, alert_id, at=_minutes(now, 2), outcome="session_updated", notify="withheld:strategy", **common
    )
    _tell_of_attack(database, alert_id, now)
    return alert_id


def _tell_of_attack(database: Database, alert_id: str, now: datetime) -> None:
    start = _minutes(now, 46)
    insert_notification(database, alert_id, at=start, status="DELIVERED")
    insert_notification(database, alert_id, at=start, channel="sms", status="FAILED", retries=3,
                        error="The gateway refused the number: 21211 invalid 'To' phone number")  # fmt: skip
    insert_notification(database, alert_id, at=_minutes(now, 41), reason="escalated")
    insert_notification(database, alert_id, at=_minutes(now, 7), reason="escalated", status="PENDING", retries=1,
                        error="ratelimited")  # fmt: skip
    insert_comment(database, alert_id, "Called the merchant: they will switch 3-D Secure on. @dana please watch.",
                   at=_minutes(now, 30))  # fmt: skip
    insert_comment(database, alert_id, "Severity rose from P2 to P1: 50 triggers.", kind="SEVERITY_ESCALATION",
                   by="system", at=_minutes(now, 7))  # fmt: skip


def seed(database: Database, now: datetime = NOW) -> dict[str, str]:
    """A day of alerts; the ids of the telling ones by name."""
    ids = {"attack": seed_attack(database, now), **seed_odd(database, now), **seed_closed(database, now)}
    seed_without_alert(database, now)
    return ids


def seed_odd(database: Database, now: datetime) -> dict[str, str]:
    """Names that are hostile or very long."""
    ids = {}
    ids["hostile"] = insert_alert(
        database, account_id="acc_<b>", merchant_name=HOSTILE, title=HOSTILE, summary=HOSTILE, severity="P2",
        at=_minutes(now, 4), count=1, last=_minutes(now, 4),
    )  # fmt: skip
    insert_trigger(database, ids["hostile"], merchant_name=HOSTILE, alert_name=HOSTILE, account_id="acc_<b>",
                   outcome_reason=HOSTILE, at=_minutes(now, 4))  # fmt: skip
    insert_comment(database, ids["hostile"], HOSTILE, by=HOSTILE)
    insert_notification(database, ids["hostile"], status="FAILED", error=HOSTILE)
    ids["long"] = insert_alert(
        database, account_id="acc_031", merchant_name=LONG, title=f"Velocity attack: {LONG}", severity="P0",
        alert_type="VELOCITY_ATTACK", at=_minutes(now, 395), count=214, last=_minutes(now, 3),
        metrics={"transaction_rate": 48.73, "transaction_count": 5848.0}, thresholds={"transaction_rate": 10.0},
    )  # fmt: skip
    insert_trigger(database, ids["long"], merchant_name=LONG, account_id="acc_031", at=_minutes(now, 3),
                   metrics={"transaction_rate": 48.73}, thresholds={"transaction_rate": 10.0}, severity="P0",
                   alert_type="VELOCITY_ATTACK", alert_name="VelocityAttackCritical",
                   outcome="session_updated")  # fmt: skip
    return ids


def seed_closed(database: Database, now: datetime) -> dict[str, str]:
    """Alerts that are over."""
    ids = {}
    ids["resolved"] = insert_alert(
        database, account_id="acc_008", merchant_name="Café Zürich", severity="P2", status="RESOLVED",
        at=_minutes(now, 310), resolved_at=_minutes(now, 250), alert_type="CHARGEBACK_FRAUD", count=9,
        metrics={"chargeback_rate": 0.021, "chargeback_count": 7.0}, thresholds={"chargeback_rate": 0.02},
        note="All instances ended and nothing fired again within the session timeout.",
        title="Chargeback fraud: Café Zürich",
    )  # fmt: skip
    ids["dismissed"] = insert_alert(
        database, account_id="acc_022", merchant_name="Blue Harbour Tickets", severity="P3", status="DISMISSED",
        at=_minutes(now, 1500), alert_type="VELOCITY_ATTACK", note="Normal business: the festival's presale", count=3,
        metrics={"transaction_rate": 22.5}, thresholds={"transaction_rate": 10.0},
    )  # fmt: skip
    for number in range(22):
        insert_alert(
            database, account_id=f"acc_1{number:02}", merchant_name=f"Merchant {number}", severity="P3",
            status="RESOLVED", at=_minutes(now, 2000 + number * 7), count=2, alert_type="BLOCK_SURGE",
            metrics={"block_rate": 0.31 + number / 100}, thresholds={"block_rate": 0.3},
        )  # fmt: skip
    return ids


def seed_without_alert(database: Database, now: datetime) -> None:
    """Triggers that were held back or refused."""
    metrics = {"block_rate": 0.2412, "failed_auth_rate": 0.55}
    for minutes in (9, 5):
        insert_trigger(database, account_id="acc_029", merchant_name="Mistral Outdoor", outcome="suppressed",
                       at=_minutes(now, minutes), metrics=metrics, severity="P3", alert_name="CardTestingDetected",
                       verdict=verdict_of(metrics, {"block_rate": 0.3, "failed_auth_rate": 0.5}),
                       outcome_reason="conditions not met: block_rate 0.2412 is not > 0.3")  # fmt: skip
    insert_trigger(database, account_id="acc_033", merchant_name="Osaka Sneakers", outcome="suppressed",
                   at=_minutes(now, 15), outcome_reason="disabled",
                   verdict=verdict_of(metrics, {}, enabled=False))  # fmt: skip
    insert_trigger(database, account_id="acc_034", merchant_name="", outcome="rejected", alert_name="Broken",
                   at=_minutes(now, 16), outcome_reason="severity 'urgent' is none of P0, P1, P2, P3", metrics={},
                   thresholds={}, verdict={"error": "severity"})  # fmt: skip
