"""The schema. Times are UTC, rates carry no unit, ids are UUID text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

import webhook.storage.access_tables
import webhook.storage.delivery_tables
import webhook.storage.web_tables  # noqa: F401 - their tables belong to the schema
from webhook.domain.alert import (
    ALERTMANAGER,
    AlertStatus,
    CommentType,
    NotificationStatus,
    SessionStatus,
    TriggerStatus,
)
from webhook.domain.severity import Severity
from webhook.storage.columns import (
    Json,
    UtcDateTime,
    alert_id_column,
    common_columns,
    id_column,
    metadata,
    one_of,
    time_column,
)

TEXTS = ("merchant_name", "account_id", "title", "summary")
"""Of an alert, that are searched."""

alert = sa.Table(
    "alert",
    metadata,
    id_column(),
    sa.Column("account_id", sa.String(255), nullable=False),
    sa.Column("merchant_name", sa.Text, nullable=False, server_default=""),
    sa.Column("alert_type", sa.String(64), nullable=False),
    sa.Column("original_severity", sa.String(2), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False, server_default=""),
    sa.Column("suggested_action", Json),
    sa.Column("template_id", sa.Uuid(as_uuid=False), sa.ForeignKey("alert_template.id")),
    sa.Column("condition_fingerprint", sa.String(32), nullable=False),
    sa.Column("metrics_data", Json, nullable=False),  # of the first trigger
    sa.Column("metadata", Json, nullable=False),  # labels, thresholds, generator_url
    sa.Column("created_by", sa.String(255), nullable=False, server_default="system"),
    sa.Column("updated_by", sa.String(255), nullable=False, server_default="system"),
    time_column("created_at"),
    time_column("updated_at"),
    *common_columns(),
    one_of("original_severity", Severity),
    sa.Index(None, "account_id", "created_at"),
    sa.Index(None, "created_at"),
)

# A part of a text is found by its trigrams; SQLite reads the table.
sa.Index(
    "ix_alert_texts",
    *(alert.c[name] for name in TEXTS),
    postgresql_using="gin",
    postgresql_ops=dict.fromkeys(TEXTS, "gin_trgm_ops"),
    postgresql_with={"fastupdate": "off"},  # else one delivery in thousands waits for the entries of all
).ddl_if(dialect="postgresql")

_newest: Sequence[sa.UnaryExpression[Any]] = (sa.desc("first_triggered_at"), sa.desc("alert_id"))
alert_dynamic = sa.Table(
    "alert_dynamic",
    metadata,
    id_column(),
    alert_id_column(unique=True),
    sa.Column("condition_fingerprint", sa.String(32), nullable=False),
    sa.Column("current_severity", sa.String(2), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("occurrence_count", sa.Integer, nullable=False),
    time_column("session_started_at"),
    time_column("session_last_active"),
    sa.Column("session_status", sa.String(16), nullable=False),
    time_column("first_triggered_at"),
    time_column("last_triggered_at"),
    sa.Column("latest_metrics", Json, nullable=False),  # of the last counted trigger
    sa.Column("escalation_history", Json, nullable=False),  # {"escalations": [...]}
    time_column("last_escalated_at", nullable=True),
    time_column("resolved_at", nullable=True),
    sa.Column("resolved_by", sa.String(255)),  # as they call themselves, or `system`
    sa.Column("authenticated_as", sa.String(64)),  # credential of the person who closed it; the system has none
    sa.Column("resolution_note", sa.Text),
    sa.Column("dismiss_reason", sa.String(32)),  # DismissReason
    sa.Column("feedback", sa.Text),  # of whoever dismissed it
    time_column("acknowledged_at", nullable=True),
    sa.Column("acknowledged_by", sa.String(255)),
    time_column("snoozed_until", nullable=True),
    sa.Column("snoozed_by", sa.String(255)),
    time_column("last_notified_at", nullable=True),
    sa.Column("last_notified_count", sa.Integer, nullable=False, server_default="0"),  # occurrences when last told
    sa.Column("version", sa.Integer, nullable=False),
    time_column("updated_at"),
    one_of("current_severity", Severity),
    one_of("status", AlertStatus),
    one_of("session_status", SessionStatus),
    sa.CheckConstraint("occurrence_count >= 1", name="occurrence_count"),
    sa.CheckConstraint("(status = 'ACTIVE') = (resolved_at IS NULL)", name="resolved_at"),
    sa.CheckConstraint("session_status <> 'ACTIVE' OR status = 'ACTIVE'", name="session_of_active_alert"),
    # Two deliveries at once cannot open two sessions of one attack.
    sa.Index(
        "uq_alert_dynamic_active_session",
        "condition_fingerprint",
        unique=True,
        sqlite_where=sa.text("session_status = 'ACTIVE'"),
        postgresql_where=sa.text("session_status = 'ACTIVE'"),
    ),
    sa.Index(None, "condition_fingerprint", "last_triggered_at"),
    # The gravest first, of all and of the active ones, each page of it read from the index alone.
    sa.Index("ix_alert_dynamic_gravest", "current_severity", *_newest),
    sa.Index("ix_alert_dynamic_status_gravest", "status", "current_severity", *_newest),
    sa.Index(None, "updated_at"),
)

alert_instance = sa.Table(
    "alert_instance",
    metadata,
    sa.Column("fingerprint", sa.String(128), primary_key=True),
    sa.Column("starts_at", UtcDateTime, primary_key=True),
    alert_id_column(nullable=True),  # none while every trigger of it was suppressed
    sa.Column("account_id", sa.String(255), nullable=False),
    sa.Column("alert_type", sa.String(64), nullable=False),
    sa.Column("alert_name", sa.String(255), nullable=False),
    sa.Column("source", sa.String(32), nullable=False, server_default=ALERTMANAGER),  # who says that it fires
    sa.Column("severity", sa.String(2), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    time_column("last_heard_at"),  # to be firing
    time_column("last_passed_at", nullable=True),  # evaluation, when heard: older than last_heard_at while suppressed
    time_column("last_counted_at", nullable=True),
    time_column("resolved_at", nullable=True),
    time_column("ended_at", nullable=True),  # when the sweep found that it had; resolved_at is when it was last heard
    one_of("status", TriggerStatus),
    one_of("severity", Severity),
    sa.Index(None, "alert_id", "status"),
    sa.Index(None, "status", "last_heard_at"),
)

alert_trigger_log = sa.Table(
    "alert_trigger_log",
    metadata,
    id_column(),
    sa.Column("alert_id", sa.Uuid(as_uuid=False), sa.ForeignKey("alert.id", ondelete="SET NULL")),
    sa.Column("source", sa.String(32), nullable=False),  # alertmanager, grafana, metrics, sweep
    sa.Column("fingerprint", sa.String(128), nullable=False),
    sa.Column("condition_fingerprint", sa.String(32), nullable=False),
    sa.Column("alert_name", sa.String(255), nullable=False),
    sa.Column("alert_type", sa.String(64), nullable=False),
    sa.Column("account_id", sa.String(255), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("severity", sa.String(2), nullable=False),
    time_column("starts_at", nullable=True),
    time_column("ends_at", nullable=True),
    sa.Column("metrics_data", Json, nullable=False),
    sa.Column("labels", Json, nullable=False),
    sa.Column("annotations", Json, nullable=False),
    sa.Column("verdict", Json, nullable=False),  # Verdict.as_json(); of a rejected trigger: {"error": ...}
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("outcome_reason", sa.Text, nullable=False, server_default=""),
    sa.Column("notify", sa.String(32), nullable=False, server_default=""),  # reason, or withheld:<why>
    sa.Column("position", sa.Integer, nullable=False, server_default="0"),  # in its delivery, decided in order
    time_column("created_at"),
    *common_columns(),
    sa.Index(None, "alert_id", "created_at"),
    sa.Index(None, "account_id", "created_at"),
    sa.Index(None, "created_at"),
    sa.Index(None, "outcome", "created_at"),
    sa.Index(
        "ix_alert_trigger_log_told_or_not",
        "created_at",
        sqlite_where=sa.text("notify <> ''"),
        postgresql_where=sa.text("notify <> ''"),
    ),
    sa.Index(  # they may have to be told long afterwards
        "ix_alert_trigger_log_snoozed",
        "account_id",
        "created_at",
        sqlite_where=sa.text("notify = 'withheld:snoozed'"),
        postgresql_where=sa.text("notify = 'withheld:snoozed'"),
    ),
)

alert_relationship = sa.Table(
    "alert_relationship",
    metadata,
    id_column(),
    alert_id_column(unique=True),
    sa.Column("account_id", sa.String(255), nullable=False),
    sa.Column("account_type", sa.String(32), nullable=False, server_default="merchant"),
    sa.Column("slack_channel", sa.String(255)),
    sa.Column("slack_bot", sa.String(255)),
    sa.Column("metadata", Json, nullable=False),
    time_column("created_at"),
    *common_columns(),
)

alert_comment = sa.Table(
    "alert_comment",
    metadata,
    id_column(),
    alert_id_column(),
    sa.Column("comment_type", sa.String(32), nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("metrics_snapshot", Json),
    sa.Column("metadata", Json),
    sa.Column("created_by", sa.String(255), nullable=False, server_default="system"),
    time_column("created_at"),
    *common_columns(),
    one_of("comment_type", CommentType),
    sa.Index(None, "alert_id", "created_at"),
)

alert_template = sa.Table(
    "alert_template",
    metadata,
    id_column(),
    sa.Column("template_name", sa.String(255), nullable=False),
    sa.Column("alert_type", sa.String(64), nullable=False),
    sa.Column("prompt_template", sa.Text, nullable=False),
    sa.Column("default_config", Json, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_by", sa.String(255), nullable=False, server_default="system"),
    time_column("created_at"),
    time_column("updated_at"),
    *common_columns(),
    sa.UniqueConstraint("alert_type", "version"),
)

alert_config = sa.Table(
    "alert_config",
    metadata,
    id_column(),
    sa.Column("account_id", sa.String(255), nullable=False),
    sa.Column("alert_type", sa.String(64), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("logic", sa.String(3), nullable=False),  # how the conditions combine
    sa.Column("channel_preferences", Json, nullable=False),
    sa.Column("notification_settings", Json, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("updated_by", sa.String(255), nullable=False, server_default="system"),
    sa.Column("updated_by_role", sa.String(16), nullable=False, server_default=""),
    time_column("created_at"),
    time_column("updated_at"),
    *common_columns(),
    sa.UniqueConstraint("account_id", "alert_type"),
    sa.CheckConstraint("logic IN ('all', 'any')", name="logic"),
)

# What a configuration was at each of its versions; it outlives the configuration.
alert_config_version = sa.Table(
    "alert_config_version",
    metadata,
    id_column(),
    sa.Column("account_id", sa.String(255), nullable=False),
    sa.Column("alert_type", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("document", Json, nullable=False),  # as in the API, secrets encrypted; {} when it was deleted
    sa.Column("changed_by", sa.String(255), nullable=False),
    sa.Column("changed_by_role", sa.String(16), nullable=False, server_default=""),
    time_column("created_at"),
    sa.UniqueConstraint("account_id", "alert_type", "version"),
)

# A condition that resolves and fires again and again; what it sends is held back while `flapping_since` is set.
alert_flapping = sa.Table(
    "alert_flapping",
    metadata,
    sa.Column("condition_fingerprint", sa.String(32), primary_key=True),
    sa.Column("account_id", sa.String(255), nullable=False),
    sa.Column("alert_type", sa.String(64), nullable=False),
    sa.Column("restarts", Json, nullable=False),  # times at which it fired again after a resolve, ISO 8601
    time_column("flapping_since", nullable=True),
    time_column("told_at", nullable=True),  # that it flaps
    time_column("updated_at"),
    sa.Index(None, "updated_at"),
)

trigger_condition = sa.Table(
    "trigger_condition",
    metadata,
    id_column(),
    sa.Column(
        "config_id",
        sa.Uuid(as_uuid=False),
        sa.ForeignKey("alert_config.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("metric_name", sa.String(255), nullable=False),
    sa.Column("operator", sa.String(16), nullable=False),
    sa.Column("threshold", Json, nullable=False),  # a number; a list for in / not_in; text for regex
    sa.Column("time_window", sa.String(16), nullable=False, server_default=""),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    *common_columns(),
    sa.CheckConstraint(
        "operator IN ('>', '>=', '<', '<=', '==', '!=', 'in', 'not_in', 'contains', 'regex')", name="operator"
    ),
)

notification = sa.Table(
    "notification",
    metadata,
    id_column(),
    alert_id_column(),
    sa.Column("comment_id", sa.Uuid(as_uuid=False), sa.ForeignKey("alert_comment.id", ondelete="SET NULL")),
    sa.Column("account_id", sa.String(255), nullable=False),
    sa.Column("alert_type", sa.String(64), nullable=False),
    sa.Column("channel_type", sa.String(32), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),  # rank of the severity: higher is sent first
    sa.Column("content", Json, nullable=False),  # what is told: severity, metrics, thresholds at this moment
    sa.Column("metadata", Json, nullable=False),  # what the provider answered
    time_column("created_at"),
    time_column("not_before"),
    sa.Column("lease_owner", sa.String(64)),
    time_column("lease_until", nullable=True),
    sa.Column("retry_count", sa.Integer, nullable=False),
    sa.Column("lost_leases", sa.Integer, nullable=False, server_default="0"),  # in a row: the worker died each time
    time_column("sent_at", nullable=True),
    time_column("delivered_at", nullable=True),
    time_column("failed_at", nullable=True),
    sa.Column("error_message", sa.Text),
    sa.Column("requested_by", sa.String(255)),  # the person who asked for it; what the system decided has none
    time_column("replayed_at", nullable=True),  # when a person queued it again after it was given up
    sa.Column("target", sa.String(32), nullable=False, server_default=""),  # where it goes: domain/target.py
    time_column("handed_over_at", nullable=True),  # when the sending of this try began
    sa.Column("maybe_repeated", sa.Integer, nullable=False, server_default="0"),  # tries that broke off after that
    sa.Column("group_id", sa.Uuid(as_uuid=False)),  # the message in which it was told together with others
    *common_columns(),
    one_of("status", NotificationStatus),
    sa.CheckConstraint("(status = 'SENDING') = (lease_until IS NOT NULL)", name="lease"),
    sa.CheckConstraint("(status = 'FAILED') = (failed_at IS NOT NULL)", name="failed_at"),
    sa.Index(None, "status", "not_before"),
    sa.Index(None, "alert_id"),
    sa.Index(None, "comment_id"),  # comments are deleted with their alerts
    sa.Index(None, "group_id"),
    sa.Index(None, "account_id", "alert_type", "created_at"),
    sa.Index(None, "created_at"),
)

# Answers that are given again to a request that comes again.
handled_request = sa.Table(
    "handled_request",
    metadata,
    sa.Column("credential", sa.String(64), primary_key=True),
    sa.Column("request_id", sa.String(128), primary_key=True),
    sa.Column("route", sa.String(64), nullable=False),
    sa.Column("body_hash", sa.String(64), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("answer", Json, nullable=False),
    time_column("created_at"),
    sa.Index(None, "created_at"),
)

# What only one process may do at a time, and until when it holds that right.
lease = sa.Table(
    "lease",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    time_column("until"),
)
