"""What the sweep tells people of its own accord: that an alert ended, or became graver by lasting."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from webhook.domain.alert import (
    SYSTEM,
    AlertSession,
    AlertStatus,
    CommentType,
    NotificationStatus,
    NotifyReason,
    TriggerStatus,
)
from webhook.domain.ledger import Channels, channels_of
from webhook.domain.severity import Escalation, Severity
from webhook.storage.configs import read_configs
from webhook.storage.tables import (
    alert,
    alert_comment,
    alert_dynamic,
    alert_instance,
    alert_trigger_log,
    audit_log,
    notification,
)


class Telling:
    """Comments and outbox rows of one transaction, dated `now`."""

    def __init__(self, connection: sa.Connection, channels: Channels, now: datetime) -> None:
        self._connection = connection
        self._channels = channels
        self._now = now

    def ended(self, alert_ids: Sequence[str], note: str) -> None:
        """A comment on each alert, and a message on each channel on which one went out or is queued."""
        if not alert_ids:
            return
        told, peaks, ends = self._told(alert_ids), self._peaks(alert_ids), self._ends(alert_ids)
        comments, notifications, audits = [], [], []
        for row in self._alerts(alert_ids):
            alert_id = row["alert_id"]
            comment = self._comment(alert_id, CommentType.SYSTEM_LOG, f"Alert resolved by {SYSTEM}: {note}", None)
            comments.append(comment)
            audits.append(self._audit(alert_id, note))
            ended_at = ends.get(alert_id) or row["last_triggered_at"]
            extra = {"peaks": peaks[alert_id], "resolved_at": ended_at.isoformat()}
            notifications += [
                self._notification(row, comment, channel, NotifyReason.RESOLVED, {**content, **extra})
                for channel, content in told[alert_id].items()
            ]
        self._insert(comments, notifications)
        self._connection.execute(sa.insert(audit_log), audits)

    def escalated(self, session: AlertSession, escalation: Escalation) -> None:
        """A comment, and a message on each channel that the merchant has now."""
        key = (session.account_id, session.alert_type)
        channels = channels_of(read_configs(self._connection, {key}).get(key), self._channels)
        told = self._told([session.alert_id])[session.alert_id]
        (row,) = self._alerts([session.alert_id])
        comment = self._comment(
            session.alert_id, CommentType.SEVERITY_ESCALATION, escalation.describe(), row["latest_metrics"]
        )
        last: Mapping[str, Any] = next(reversed(told.values()), {})
        notifications = [
            self._notification(
                row,
                comment,
                channel,
                NotifyReason.ESCALATED,
                {**told.get(channel, last), "channel_settings": dict(settings)},
            )
            for channel, settings in channels.items()
        ]
        self._insert([comment], notifications)

    def _insert(self, comments: list[dict[str, Any]], notifications: list[dict[str, Any]]) -> None:
        self._connection.execute(sa.insert(alert_comment), comments)
        if notifications:
            self._connection.execute(sa.insert(notification), notifications)

    def _alerts(self, alert_ids: Sequence[str]) -> Sequence[sa.RowMapping]:
        """The alerts as they stand after the change that is told."""
        query = (
            sa.select(alert_dynamic, alert.c.account_id, alert.c.alert_type, alert.c.merchant_name, alert.c.metadata)
            .join(alert, alert.c.id == alert_dynamic.c.alert_id)
            .where(alert_dynamic.c.alert_id.in_(alert_ids))
        )
        return self._connection.execute(query).mappings().all()

    def _told(self, alert_ids: Sequence[str]) -> Mapping[str, dict[str, dict[str, Any]]]:
        """Alert id → channel → the content last sent or queued there."""
        n = notification.c
        query = (
            sa.select(n.alert_id, n.channel_type, n.content)
            .where(n.alert_id.in_(alert_ids), n.status != NotificationStatus.FAILED.value)
            .order_by(n.created_at)
        )
        told: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for alert_id, channel, content in self._connection.execute(query):
            told[alert_id][channel] = content
        return told

    def _peaks(self, alert_ids: Sequence[str]) -> Mapping[str, dict[str, float]]:
        """Alert id → metric → its highest value in all triggers of the alert."""
        log = alert_trigger_log.c
        each = sa.func.jsonb_each_text if self._connection.dialect.name == "postgresql" else sa.func.json_each
        entry = each(log.metrics_data).table_valued("key", "value").render_derived(name="entry")
        if self._connection.dialect.name == "sqlite":
            entry = each(log.metrics_data).table_valued("key", "value", name="entry")
        query = (
            sa.select(log.alert_id, entry.c.key, sa.func.max(sa.cast(entry.c.value, sa.Double)))
            .select_from(alert_trigger_log.join(entry, sa.true()))
            .where(log.alert_id.in_(alert_ids), log.status == TriggerStatus.FIRING.value)
            .group_by(log.alert_id, entry.c.key)
        )
        peaks: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for alert_id, metric, peak in self._connection.execute(query):
            peaks[alert_id][metric] = float(peak)
        return peaks

    def _ends(self, alert_ids: Sequence[str]) -> dict[str, datetime]:
        """Alert id → when the last of its instances was resolved; one that was suppressed before ended then."""
        i = alert_instance.c
        ended_at = sa.case((i.last_passed_at == i.last_heard_at, i.resolved_at), else_=i.last_passed_at)
        query = (
            sa.select(i.alert_id, sa.func.max(ended_at).label("ended_at"))
            .where(i.alert_id.in_(alert_ids), ended_at.is_not(None))
            .group_by(i.alert_id)
        )
        return {row.alert_id: row.ended_at for row in self._connection.execute(query)}

    def _comment(
        self, alert_id: str, kind: CommentType, content: str, metrics: Mapping[str, float] | None
    ) -> dict[str, Any]:
        return {
            "id": str(uuid.uuid4()),
            "alert_id": alert_id,
            "comment_type": kind.value,
            "content": content,
            "metrics_snapshot": metrics,
            "metadata": {"source": "sweep"},
            "created_at": self._now,
        }

    def _audit(self, alert_id: str, note: str) -> dict[str, Any]:
        return {
            "id": str(uuid.uuid4()),
            "actor": SYSTEM,
            "action": "alert_resolved",
            "alert_id": alert_id,
            "details": {"note": note, "from": AlertStatus.ACTIVE.value, "to": AlertStatus.RESOLVED.value},
            "created_at": self._now,
        }

    def _notification(
        self,
        row: sa.RowMapping,
        comment: Mapping[str, Any],
        channel: str,
        reason: NotifyReason,
        content: Mapping[str, Any],
    ) -> dict[str, Any]:
        """An outbox row: what was told before on this channel, with the alert as it stands now."""
        metadata: Mapping[str, Any] = row["metadata"]
        severity = Severity(row["current_severity"])
        always = {
            "merchant_name": row["merchant_name"],
            "rule_summary": metadata.get("rule_summary", ""),
            "thresholds": metadata.get("thresholds", {}),
        }
        now_known = {
            "severity": severity.value,
            "status": AlertStatus(row["status"]).value,
            "reason": reason.value,
            "metrics": row["latest_metrics"],
            "occurrence_count": row["occurrence_count"],
            "first_triggered_at": row["first_triggered_at"].isoformat(),
            "last_triggered_at": row["last_triggered_at"].isoformat(),
        }
        return {
            "id": str(uuid.uuid4()),
            "alert_id": row["alert_id"],
            "comment_id": comment["id"],
            "account_id": row["account_id"],
            "alert_type": row["alert_type"],
            "channel_type": channel,
            "status": NotificationStatus.PENDING.value,
            "reason": reason.value,
            "priority": severity.rank,
            "content": {**always, **content, **now_known},
            "metadata": {},
            "created_at": self._now,
            "not_before": self._now,
            "retry_count": 0,
        }
