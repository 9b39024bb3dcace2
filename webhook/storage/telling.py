"""What people are told beside what deliveries tell: an end, a rise by duration, what a person asks for or writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.action import CONVERSATIONS, MOST_MENTIONED, Doing
from webhook.domain.alert import (
    AlertSession,
    AlertStatus,
    CommentType,
    NotificationStatus,
    NotifyReason,
    TriggerStatus,
)
from webhook.domain.channel_choice import Channels, channels_of
from webhook.domain.session import IllegalChange
from webhook.domain.severity import Escalation
from webhook.storage.announcements import notification_row, state_of
from webhook.storage.config_rows import read_configs
from webhook.storage.holding import drop_held, replace_held
from webhook.storage.sessions import session_of
from webhook.storage.tables import alert, alert_comment, alert_dynamic, alert_instance, alert_trigger_log, notification


def tell_ends(connection: sa.Connection, comment_ids: Mapping[str, str], now: datetime) -> None:
    """Tell the end of alerts on each channel on which a message went out or is queued, whatever the limits.

    `comment_ids` names the alerts, and for each the comment that says why it ended.
    """
    alert_ids = list(comment_ids)
    if not alert_ids:
        return
    drop_held(connection, alert_ids, now)
    told, found = _told(connection, alert_ids), _alerts(connection, alert_ids)
    endings = _endings(connection, found)
    rows = []
    for row in found:
        alert_id = row["alert_id"]
        extra = endings[alert_id]
        rows += [
            _message(
                row, NotifyReason.RESOLVED, channel, content, comment_id=comment_ids[alert_id], now=now, extra=extra
            )
            for channel, content in told[alert_id].items()
        ]
    if rows:
        connection.execute(sa.insert(notification), rows)


def tell_escalation(
    connection: sa.Connection, default: Channels, session: AlertSession, escalation: Escalation, now: datetime
) -> bool:
    """A comment, and a message on each channel that the merchant has now; whether there is one.

    `default` are the channels of who chose none.
    """
    alert_id, key = session.alert_id, (session.account_id, session.alert_type)
    channels = channels_of(read_configs(connection, {key}).get(key), default, session.severity)
    told = _told(connection, [alert_id])[alert_id]
    (row,) = _alerts(connection, [alert_id])
    comment_id = str(uuid4())
    connection.execute(
        sa.insert(alert_comment).values(
            id=comment_id,
            alert_id=alert_id,
            comment_type=CommentType.SEVERITY_ESCALATION.value,
            content=escalation.describe(),
            metrics_snapshot=row["latest_metrics"],
            metadata=escalation.as_json(),
            created_at=now,
        )
    )
    last: Mapping[str, Any] = next(reversed(told.values()), {})
    rows = [
        _message(
            row,
            NotifyReason.ESCALATED,
            channel,
            told.get(channel, last),
            comment_id=comment_id,
            now=now,
            extra={"channel_settings": dict(settings)},
        )
        for channel, settings in channels.items()
    ]
    if rows:
        replace_held(connection, rows)
        connection.execute(sa.insert(notification), rows)
    return bool(rows)


def tell_again(
    connection: sa.Connection, default: Channels, session: AlertSession, wanted: Sequence[str], doing: Doing
) -> list[str]:
    """The alert as it stands, its end where it has ended, on the channels that are `wanted`, or on all of the merchant.

    Return the channels; raise IllegalChange for one that the merchant does not have.
    """
    key = (session.account_id, session.alert_type)
    channels = channels_of(read_configs(connection, {key}).get(key), default)
    unknown = sorted(set(wanted) - channels.keys())
    if unknown or not channels:
        have = ", ".join(channels) or "none"
        raise IllegalChange(f"this merchant has no channel {', '.join(unknown)} (it has: {have})".replace("  ", " "))
    told = _told(connection, [session.alert_id])[session.alert_id]
    last: Mapping[str, Any] = next(reversed(told.values()), {})
    (row,) = found = _alerts(connection, [session.alert_id])
    ended = session.status is not AlertStatus.ACTIVE
    ending = _endings(connection, found)[session.alert_id] if ended else {}
    queued = list(dict.fromkeys(wanted)) or list(channels)
    rows = [
        _message(
            row,
            NotifyReason.RESOLVED if ended else NotifyReason.RESEND,
            channel,
            told.get(channel, last),
            comment_id=None,
            now=doing.now,
            extra={**ending, "channel_settings": dict(channels[channel])},
        )
        | {"requested_by": doing.actor, "not_before": doing.now, "error_message": None}  # whoever asks means now
        for channel in queued
    ]
    replace_held(connection, rows)
    connection.execute(sa.insert(notification), rows)
    return queued


def tell_mention(
    connection: sa.Connection,
    default: Channels,
    session: AlertSession,
    comment: tuple[str, str],
    doing: Doing,
) -> tuple[list[str], str]:
    """A `comment`, its id and text, that names others, where the merchant's people talk.

    Return the channels, and where there are none, why.
    """
    n = notification.c
    recent = sa.select(sa.func.count(sa.distinct(n.comment_id))).where(
        n.alert_id == session.alert_id,
        n.reason == NotifyReason.MENTION.value,
        n.created_at > doing.now - timedelta(hours=1),
    )
    key = (session.account_id, session.alert_type)
    channels = channels_of(read_configs(connection, {key}).get(key), default)
    wanted = [name for name in channels if name in CONVERSATIONS]
    if not wanted:
        return [], f"none of the alert's channels is one on which people talk ({', '.join(sorted(CONVERSATIONS))})"
    if (connection.scalar(recent) or 0) >= MOST_MENTIONED:
        return [], f"{MOST_MENTIONED} comments on this alert were told of within the hour"
    (row,) = _alerts(connection, [session.alert_id])
    rows = [
        _message(
            row,
            NotifyReason.MENTION,
            name,
            {},
            comment_id=comment[0],
            now=doing.now,
            extra={"channel_settings": dict(channels[name]), "comment": comment[1], "comment_by": doing.actor},
        )
        | {"requested_by": doing.actor}
        for name in wanted
    ]
    connection.execute(sa.insert(notification), rows)
    return wanted, ""


def _endings(connection: sa.Connection, found: Collection[sa.RowMapping]) -> dict[str, dict[str, Any]]:
    """Alert id → what the word of its end says besides: the highest values, and when the attack ended."""
    alert_ids = [row["alert_id"] for row in found]
    peaks, ends = _peaks(connection, alert_ids), _ends(connection, alert_ids)
    ended_at = {row["alert_id"]: ends.get(row["alert_id"]) or row["last_triggered_at"] for row in found}
    return {a: {"peaks": peaks[a], "resolved_at": ended_at[a].isoformat()} for a in alert_ids}


def _message(
    row: sa.RowMapping,
    reason: NotifyReason,
    channel: str,
    told: Mapping[str, Any],
    *,
    comment_id: str | None,
    now: datetime,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """An outbox row: what was `told` before on this channel, with the alert as it stands now, and `extra`."""
    metadata: Mapping[str, Any] = row["metadata"]
    session = session_of(row)
    content = {
        "merchant_name": row["merchant_name"],
        "rule_summary": metadata.get("rule_summary", ""),
        "runbook_url": metadata.get("runbook_url", ""),
        "rule_description": metadata.get("rule_description", ""),
        "thresholds": metadata.get("thresholds", {}),
        **told,
        **state_of(session, reason),
        "metrics": row["latest_metrics"],
        **extra,
    }
    return notification_row(session, reason, channel, content, comment_id=comment_id, now=now)


def _alerts(connection: sa.Connection, alert_ids: Collection[str]) -> Collection[sa.RowMapping]:
    """The alerts as they stand after the change that is told."""
    query = (
        sa.select(alert_dynamic, alert.c.account_id, alert.c.alert_type, alert.c.merchant_name, alert.c.metadata)
        .join(alert, alert.c.id == alert_dynamic.c.alert_id)
        .where(alert_dynamic.c.alert_id.in_(alert_ids))
    )
    return connection.execute(query).mappings().all()


def _told(connection: sa.Connection, alert_ids: Collection[str]) -> Mapping[str, dict[str, dict[str, Any]]]:
    """Alert id → channel → the content last sent or queued there."""
    n = notification.c
    query = (
        sa.select(n.alert_id, n.channel_type, n.content)
        .where(
            n.alert_id.in_(alert_ids),
            n.status != NotificationStatus.FAILED.value,
            n.reason != NotifyReason.MENTION.value,
        )
        .order_by(n.created_at)
    )
    told: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for alert_id, channel, content in connection.execute(query):
        told[alert_id][channel] = content
    return told


def _peaks(connection: sa.Connection, alert_ids: Collection[str]) -> Mapping[str, dict[str, float]]:
    """Alert id → metric → its highest value in all triggers of the alert."""
    log = alert_trigger_log.c
    each = sa.func.jsonb_each_text if connection.dialect.name == "postgresql" else sa.func.json_each
    entry = each(log.metrics_data).table_valued("key", "value").render_derived(name="entry")
    if connection.dialect.name == "sqlite":
        entry = each(log.metrics_data).table_valued("key", "value", name="entry")
    query = (
        sa.select(log.alert_id, entry.c.key, sa.func.max(sa.cast(entry.c.value, sa.Double)))
        .select_from(alert_trigger_log.join(entry, sa.true()))
        .where(log.alert_id.in_(alert_ids), log.status == TriggerStatus.FIRING.value)
        .group_by(log.alert_id, entry.c.key)
    )
    peaks: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for alert_id, metric, peak in connection.execute(query):
        peaks[alert_id][metric] = float(peak)
    return peaks


def _ends(connection: sa.Connection, alert_ids: Collection[str]) -> dict[str, datetime]:
    """Alert id → when the last of its instances was resolved; one that was suppressed before ended then."""
    i = alert_instance.c
    ended_at = sa.case((i.last_passed_at == i.last_heard_at, i.resolved_at), else_=i.last_passed_at)
    query = (
        sa.select(i.alert_id, sa.func.max(ended_at).label("ended_at"))
        .where(i.alert_id.in_(alert_ids), ended_at.is_not(None))
        .group_by(i.alert_id)
    )
    return {row.alert_id: row.ended_at for row in connection.execute(query)}
