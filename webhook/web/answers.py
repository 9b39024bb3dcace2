"""What the API answers: models for the document, filled from records. Times are UTC, rates carry no unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainSerializer

from webhook.domain.alert import AlertStatus, CommentType, SessionStatus
from webhook.domain.explanation import Explanation
from webhook.domain.severity import Severity
from webhook.storage.records import AlertRecord, CommentRecord, NotificationRecord, TriggerRecord
from webhook.web.metric_answers import MetricEntry, metric_entry
from webhook.web.readings import Reading


def time_text(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


Time = Annotated[datetime, PlainSerializer(time_text, return_type=str)]


def _example(value: object) -> dict[str, Any]:
    return {"example": value}


class Pagination(BaseModel):
    page: int
    page_size: int
    total_count: int | None = Field(description="Null where one goes on by cursor.")
    total_pages: int | None
    next_cursor: str | None = Field(description="For `cursor`; null at the end.")


class AlertEntry(BaseModel):
    alert_id: str
    merchant_id: str = Field(json_schema_extra=_example("acc_017"))
    merchant_name: str
    alert_type: str = Field(json_schema_extra=_example("CARD_TESTING"))
    severity: Severity
    title: str
    summary: str
    status: AlertStatus
    session_status: SessionStatus
    occurrence_count: int
    triggered_at: Time
    last_triggered_at: Time
    resolved_at: Time | None
    acknowledged_at: Time | None
    snoozed_until: Time | None
    metrics_summary: dict[str, float] = Field(json_schema_extra=_example({"block_rate": 0.45}))
    notification_channels: list[str]
    version: int


class AlertList(BaseModel):
    data: list[AlertEntry]
    pagination: Pagination


class NotificationEntry(BaseModel):
    notification_id: str
    alert_id: str
    merchant_id: str
    alert_type: str
    channel: str
    status: str = Field(json_schema_extra=_example("sent"))
    reason: str = Field(
        description="Why it was sent: first, escalated, threshold, interval, flapping, resolved, resend, mention."
    )
    created_at: Time
    not_before: Time
    sent_at: Time | None
    delivered_at: Time | None
    failed_at: Time | None
    retry_count: int
    error_message: str | None
    requested_by: str | None


class ActionEntry(BaseModel):
    action_type: str = Field(json_schema_extra=_example("acknowledged"))
    action_time: Time | None
    performed_by: str | None
    details: dict[str, Any]


class AlertDetail(BaseModel):
    alert_id: str
    merchant_id: str
    merchant_name: str
    alert_type: str
    severity: Severity
    original_severity: Severity
    title: str
    summary: str
    summary_source: str
    suggested_action: str
    status: AlertStatus
    session_status: SessionStatus
    occurrence_count: int
    triggered_at: Time
    last_triggered_at: Time
    resolved_at: Time | None
    acknowledged_at: Time | None
    acknowledged_by: str | None
    snoozed_until: Time | None
    snoozed_by: str | None
    dismiss_reason: str | None
    feedback: str | None
    metrics: list[MetricEntry]
    raw_metrics: dict[str, Any] = Field(
        description="What the source said of the event (labels; `event_metadata` of a report), with all values as "
        "`detailed_breakdown`."
    )
    metadata: dict[str, Any] = Field(description="Which rule it was, its thresholds and where it came from.")
    escalation_history: dict[str, Any]
    notifications: list[NotificationEntry]
    actions_taken: list[ActionEntry]
    version: int


class CommentEntry(BaseModel):
    comment_id: str
    alert_id: str
    comment_type: CommentType
    content: str
    mentions: list[str]
    metrics_snapshot: dict[str, Any] | None
    metadata: dict[str, Any]
    created_by: str
    created_at: Time


class CommentList(BaseModel):
    data: list[CommentEntry]
    next_cursor: str | None


class NotificationList(BaseModel):
    data: list[NotificationEntry]
    next_cursor: str | None


class TriggerEntry(BaseModel):
    trigger_id: str
    alert_id: str | None
    source: str
    alert_name: str
    alert_type: str
    merchant_id: str
    status: str
    severity: str
    starts_at: Time | None
    received_at: Time
    metrics: dict[str, Any]
    labels: dict[str, Any]
    verdict: dict[str, Any]
    outcome: str = Field(json_schema_extra=_example("session_updated"))
    outcome_reason: str
    notify: str = Field(description="Why people were told, or `withheld:` and why not.")


class TriggerList(BaseModel):
    """A page may hold fewer than were asked for, and still name a `next_cursor`: so far was looked through."""

    data: list[TriggerEntry]
    next_cursor: str | None


class StepEntry(BaseModel):
    at: Time
    kind: str = Field(json_schema_extra=_example("fired"))
    text: str
    data: dict[str, Any]


class ExplainedConfig(BaseModel):
    version: int
    document: dict[str, Any] = Field(description="As in the configuration's versions, secrets masked.")


class ExplanationAnswer(BaseModel):
    alert_id: str
    summary: str
    steps: list[StepEntry]
    configs: list[ExplainedConfig] = Field(description="That steps name as `config_version`, as far as they are kept.")
    more_triggers: int = Field(description="Triggers that are left out.")


class Resolved(BaseModel):
    alert_id: str
    status: AlertStatus
    resolved_at: Time
    message: str
    version: int


class Dismissed(BaseModel):
    alert_id: str
    status: AlertStatus
    dismissed_at: Time
    message: str
    version: int


class Acknowledged(BaseModel):
    alert_id: str
    acknowledged_at: Time | None
    acknowledged_by: str | None
    message: str
    version: int


class Snoozed(BaseModel):
    alert_id: str
    snoozed_until: Time | None
    snoozed_by: str | None
    message: str
    version: int


class Resent(BaseModel):
    alert_id: str
    message: str
    queued_channels: list[str]
    version: int


class LettersSkipped(BaseModel):
    reason: str
    count: int
    message: str


class LettersChanged(BaseModel):
    """`skipped`: those that match and yet stay where they are, by why."""

    count: int
    message: str
    skipped: list[LettersSkipped] = []


class Bucket(BaseModel):
    start: Time
    opened: int
    resolved: int


class MerchantFigure(BaseModel):
    merchant_id: str
    merchant_name: str
    alerts: int


class StatisticsAnswer(BaseModel):
    from_date: Time
    to_date: Time
    interval: str
    active_by_severity: dict[str, int] = Field(description="Now, whatever the period.")
    opened: int
    resolved: int
    series: list[Bucket]
    by_type: dict[str, int]
    top_merchants: list[MerchantFigure]
    trigger_outcomes: dict[str, int]
    notifications_by_status: dict[str, int]
    median_seconds_to_acknowledge: float | None
    median_seconds_to_resolve: float | None


def action_text(suggested: object) -> str:
    """The suggested action, which is text or, from older rows, an object that holds it."""
    if isinstance(suggested, Mapping):
        suggested = suggested.get("text") or suggested.get("action") or ""
    return suggested if isinstance(suggested, str) else ""


def _common(record: AlertRecord) -> dict[str, Any]:
    same = (
        "merchant_name alert_type severity title summary status session_status occurrence_count last_triggered_at "
        "resolved_at acknowledged_at snoozed_until version"
    )
    return {
        "alert_id": record.id,
        "merchant_id": record.account_id,
        "triggered_at": record.first_triggered_at,
        **{name: getattr(record, name) for name in same.split()},
    }


def alert_entry(record: AlertRecord, channels: list[str]) -> AlertEntry:
    return AlertEntry(**_common(record), metrics_summary=dict(record.metrics), notification_channels=channels)


def alert_detail(
    record: AlertRecord,
    shown: Sequence[Reading],
    annotations: Mapping[str, str],
    notifications: Sequence[NotificationRecord],
    actions: Sequence[CommentRecord],
) -> AlertDetail:
    same = "original_severity acknowledged_by snoozed_by dismiss_reason feedback"
    return AlertDetail(
        **_common(record),
        **{name: getattr(record, name) for name in same.split()},
        suggested_action=action_text(record.suggested_action),
        summary_source=str(record.metadata.get("summary_source", "template")),
        metrics=[metric_entry(reading, annotations) for reading in shown],
        raw_metrics={**record.metadata.get("labels", {}), "detailed_breakdown": dict(record.metrics)},
        metadata={name: value for name, value in record.metadata.items() if name != "labels"},
        escalation_history=dict(record.escalation_history),
        notifications=[notification_entry(sent) for sent in notifications],
        actions_taken=_actions_taken(record, actions),
    )


def _actions_taken(record: AlertRecord, actions: Sequence[CommentRecord]) -> list[ActionEntry]:
    """Newest first; the closing of an alert from its row, so that it is told of alerts without a history too."""
    found = [
        ActionEntry(
            action_type=str(details.pop("action")),
            action_time=comment.created_at,
            performed_by=comment.created_by,
            details=details,
        )
        for comment in actions
        if (details := dict(comment.metadata or {})).get("action")
    ]
    found = [entry for entry in found if entry.action_type not in ("resolved", "dismissed")]
    if record.active:
        return found
    closing = ActionEntry(
        action_type=record.status.lower(),
        action_time=record.resolved_at,
        performed_by=record.resolved_by,
        details={"note": record.resolution_note},
    )
    return [closing, *found]


def notification_entry(sent: NotificationRecord) -> NotificationEntry:
    same = "alert_id alert_type reason created_at not_before sent_at delivered_at failed_at retry_count error_message"
    return NotificationEntry(
        notification_id=sent.id,
        merchant_id=sent.account_id,
        channel=sent.channel_type,
        status=sent.status.lower(),
        requested_by=sent.requested_by,
        **{name: getattr(sent, name) for name in same.split()},
    )


def comment_entry(comment: CommentRecord, alert_id: str) -> CommentEntry:
    return CommentEntry(
        comment_id=comment.id,
        alert_id=alert_id,
        comment_type=CommentType(comment.comment_type),
        content=comment.content,
        mentions=comment.mentions,
        metrics_snapshot=None if comment.metrics_snapshot is None else dict(comment.metrics_snapshot),
        metadata=dict(comment.metadata or {}),
        created_by=comment.created_by,
        created_at=comment.created_at,
    )


def trigger_entry(record: TriggerRecord) -> TriggerEntry:
    same = "alert_id source alert_name alert_type status severity starts_at outcome outcome_reason notify"
    return TriggerEntry(
        trigger_id=record.id,
        merchant_id=record.account_id,
        received_at=record.created_at,
        metrics=dict(record.metrics),
        labels=dict(record.labels),
        verdict=dict(record.verdict),
        **{name: getattr(record, name) for name in same.split()},
    )


def explanation_answer(found: Explanation) -> ExplanationAnswer:
    steps = [StepEntry(at=step.at, kind=step.kind.value, text=step.text, data=dict(step.data)) for step in found.steps]
    configs = [
        ExplainedConfig(version=number, document=dict(found.configs[number])) for number in sorted(found.configs)
    ]
    return ExplanationAnswer(
        alert_id=found.alert_id,
        summary=found.summary,
        steps=steps,
        configs=configs,
        more_triggers=found.more_triggers,
    )
