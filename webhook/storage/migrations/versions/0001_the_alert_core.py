"""the alert core"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import CheckConstraint, ForeignKeyConstraint
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    _alert_config()
    _alert_template()
    _audit_log()
    _alert()
    _trigger_condition()
    _alert_comment()
    _alert_dynamic()
    _alert_dynamic_indexes()
    _alert_instance()
    _alert_relationship()
    _alert_trigger_log()
    _alert_trigger_log_indexes()
    _notification()
    _notification_indexes()


def downgrade() -> None:
    op.drop_table("notification")
    op.drop_table("alert_trigger_log")
    op.drop_table("alert_relationship")
    op.drop_table("alert_instance")
    op.drop_table("alert_dynamic")
    op.drop_table("alert_comment")
    op.drop_table("trigger_condition")
    op.drop_table("alert")
    op.drop_table("audit_log")
    op.drop_table("alert_template")
    op.drop_table("alert_config")


def _alert_config() -> None:
    op.create_table(
        "alert_config",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("alert_type", sa.String(length=64), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("logic", sa.String(length=3), nullable=False),
        sa.Column("channel_preferences", JSON, nullable=False),
        sa.Column("notification_settings", JSON, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("namespace", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("checkpoint", sa.String(length=64), server_default="", nullable=False),
        CheckConstraint("logic IN ('all', 'any')", name=op.f("ck_alert_config_logic")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_config")),
        sa.UniqueConstraint("account_id", "alert_type", name=op.f("uq_alert_config_account_id_alert_type")),
    )


def _alert_template() -> None:
    op.create_table(
        "alert_template",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("template_name", sa.String(length=255), nullable=False),
        sa.Column("alert_type", sa.String(length=64), nullable=False),
        sa.Column("prompt_template", sa.Text(), nullable=False),
        sa.Column("default_config", JSON, nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("namespace", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("checkpoint", sa.String(length=64), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_template")),
        sa.UniqueConstraint("alert_type", "version", name=op.f("uq_alert_template_alert_type_version")),
    )


def _audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("alert_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("details", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_created_at"), "audit_log", ["created_at"], unique=False)


def _alert() -> None:
    op.create_table(
        "alert",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("merchant_name", sa.Text(), server_default="", nullable=False),
        sa.Column("alert_type", sa.String(length=64), nullable=False),
        sa.Column("original_severity", sa.String(length=2), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), server_default="", nullable=False),
        sa.Column("suggested_action", JSON, nullable=True),
        sa.Column("template_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("condition_fingerprint", sa.String(length=32), nullable=False),
        sa.Column("metrics_data", JSON, nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_by", sa.String(length=255), server_default="system", nullable=False),
        sa.Column("updated_by", sa.String(length=255), server_default="system", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("namespace", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("checkpoint", sa.String(length=64), server_default="", nullable=False),
        CheckConstraint("original_severity IN ('P0', 'P1', 'P2', 'P3')", name=op.f("ck_alert_original_severity")),
        ForeignKeyConstraint(["template_id"], ["alert_template.id"], name=op.f("fk_alert_template_id_alert_template")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert")),
    )
    op.create_index(op.f("ix_alert_account_id_created_at"), "alert", ["account_id", "created_at"], unique=False)
    op.create_index(op.f("ix_alert_created_at"), "alert", ["created_at"], unique=False)


def _trigger_condition() -> None:
    op.create_table(
        "trigger_condition",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("config_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("metric_name", sa.String(length=255), nullable=False),
        sa.Column("operator", sa.String(length=16), nullable=False),
        sa.Column("threshold", JSON, nullable=False),
        sa.Column("time_window", sa.String(length=16), server_default="", nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("namespace", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("checkpoint", sa.String(length=64), server_default="", nullable=False),
        CheckConstraint(
            "operator IN ('>', '>=', '<', '<=', '==', '!=', 'in', 'not_in', 'contains', 'regex')",
            name=op.f("ck_trigger_condition_operator"),
        ),
        ForeignKeyConstraint(
            ["config_id"],
            ["alert_config.id"],
            name=op.f("fk_trigger_condition_config_id_alert_config"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trigger_condition")),
    )
    op.create_index(op.f("ix_trigger_condition_config_id"), "trigger_condition", ["config_id"], unique=False)


def _alert_comment() -> None:
    op.create_table(
        "alert_comment",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("alert_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("comment_type", sa.String(length=32), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("metrics_snapshot", JSON, nullable=True),
        sa.Column("metadata", JSON, nullable=True),
        sa.Column("created_by", sa.String(length=255), server_default="system", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("namespace", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("checkpoint", sa.String(length=64), server_default="", nullable=False),
        CheckConstraint(
            "comment_type IN ('TRIGGER_EVENT', 'SEVERITY_ESCALATION', 'USER_NOTE', 'SYSTEM_LOG')",
            name=op.f("ck_alert_comment_comment_type"),
        ),
        ForeignKeyConstraint(
            ["alert_id"], ["alert.id"], name=op.f("fk_alert_comment_alert_id_alert"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_comment")),
    )
    op.create_index(
        op.f("ix_alert_comment_alert_id_created_at"), "alert_comment", ["alert_id", "created_at"], unique=False
    )


def _alert_dynamic() -> None:
    op.create_table(
        "alert_dynamic",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("alert_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("condition_fingerprint", sa.String(length=32), nullable=False),
        sa.Column("current_severity", sa.String(length=2), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("occurrence_count", sa.Integer(), nullable=False),
        sa.Column("session_started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_last_active", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_status", sa.String(length=16), nullable=False),
        sa.Column("first_triggered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_triggered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("latest_metrics", JSON, nullable=False),
        sa.Column("escalation_history", JSON, nullable=False),
        sa.Column("last_escalated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_by", sa.String(length=255), nullable=True),
        sa.Column("authenticated_as", sa.String(length=64), nullable=True),
        sa.Column("resolution_note", sa.Text(), nullable=True),
        sa.Column("last_notified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        CheckConstraint("(status = 'ACTIVE') = (resolved_at IS NULL)", name=op.f("ck_alert_dynamic_resolved_at")),
        CheckConstraint("current_severity IN ('P0', 'P1', 'P2', 'P3')", name=op.f("ck_alert_dynamic_current_severity")),
        CheckConstraint(
            "session_status <> 'ACTIVE' OR status = 'ACTIVE'", name=op.f("ck_alert_dynamic_session_of_active_alert")
        ),
        CheckConstraint(
            "session_status IN ('ACTIVE', 'EXPIRED', 'RESOLVED')", name=op.f("ck_alert_dynamic_session_status")
        ),
        CheckConstraint("status IN ('ACTIVE', 'RESOLVED', 'DISMISSED')", name=op.f("ck_alert_dynamic_status")),
        CheckConstraint("occurrence_count >= 1", name=op.f("ck_alert_dynamic_occurrence_count")),
        ForeignKeyConstraint(
            ["alert_id"], ["alert.id"], name=op.f("fk_alert_dynamic_alert_id_alert"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_dynamic")),
        sa.UniqueConstraint("alert_id", name=op.f("uq_alert_dynamic_alert_id")),
    )


def _alert_dynamic_indexes() -> None:
    op.create_index(
        op.f("ix_alert_dynamic_condition_fingerprint_last_triggered_at"),
        "alert_dynamic",
        ["condition_fingerprint", "last_triggered_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_alert_dynamic_status_session_status"), "alert_dynamic", ["status", "session_status"], unique=False
    )
    op.create_index(op.f("ix_alert_dynamic_updated_at"), "alert_dynamic", ["updated_at"], unique=False)
    op.create_index(
        op.f("uq_alert_dynamic_active_session"),
        "alert_dynamic",
        ["condition_fingerprint"],
        unique=True,
        sqlite_where=sa.text("session_status = 'ACTIVE'"),
        postgresql_where=sa.text("session_status = 'ACTIVE'"),
    )


def _alert_instance() -> None:
    op.create_table(
        "alert_instance",
        sa.Column("fingerprint", sa.String(length=128), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("alert_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("alert_type", sa.String(length=64), nullable=False),
        sa.Column("alert_name", sa.String(length=255), nullable=False),
        sa.Column("severity", sa.String(length=2), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("last_heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_passed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_counted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        CheckConstraint("severity IN ('P0', 'P1', 'P2', 'P3')", name=op.f("ck_alert_instance_severity")),
        CheckConstraint("status IN ('FIRING', 'RESOLVED')", name=op.f("ck_alert_instance_status")),
        ForeignKeyConstraint(
            ["alert_id"], ["alert.id"], name=op.f("fk_alert_instance_alert_id_alert"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("fingerprint", "starts_at", name=op.f("pk_alert_instance")),
    )
    op.create_index(op.f("ix_alert_instance_alert_id_status"), "alert_instance", ["alert_id", "status"], unique=False)
    op.create_index(
        op.f("ix_alert_instance_status_last_heard_at"), "alert_instance", ["status", "last_heard_at"], unique=False
    )


def _alert_relationship() -> None:
    op.create_table(
        "alert_relationship",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("alert_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("account_type", sa.String(length=32), server_default="merchant", nullable=False),
        sa.Column("slack_channel", sa.String(length=255), nullable=True),
        sa.Column("slack_bot", sa.String(length=255), nullable=True),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("namespace", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("checkpoint", sa.String(length=64), server_default="", nullable=False),
        ForeignKeyConstraint(
            ["alert_id"], ["alert.id"], name=op.f("fk_alert_relationship_alert_id_alert"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_relationship")),
        sa.UniqueConstraint("alert_id", name=op.f("uq_alert_relationship_alert_id")),
    )


def _alert_trigger_log() -> None:
    op.create_table(
        "alert_trigger_log",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("alert_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("fingerprint", sa.String(length=128), nullable=False),
        sa.Column("condition_fingerprint", sa.String(length=32), nullable=False),
        sa.Column("alert_name", sa.String(length=255), nullable=False),
        sa.Column("alert_type", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("severity", sa.String(length=2), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("metrics_data", JSON, nullable=False),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("annotations", JSON, nullable=False),
        sa.Column("verdict", JSON, nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("outcome_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("notify", sa.String(length=32), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("namespace", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("checkpoint", sa.String(length=64), server_default="", nullable=False),
        ForeignKeyConstraint(
            ["alert_id"], ["alert.id"], name=op.f("fk_alert_trigger_log_alert_id_alert"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_trigger_log")),
    )


def _alert_trigger_log_indexes() -> None:
    op.create_index(
        op.f("ix_alert_trigger_log_account_id_created_at"),
        "alert_trigger_log",
        ["account_id", "created_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_alert_trigger_log_alert_id_created_at"), "alert_trigger_log", ["alert_id", "created_at"], unique=False
    )
    op.create_index(op.f("ix_alert_trigger_log_created_at"), "alert_trigger_log", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_alert_trigger_log_outcome_created_at"), "alert_trigger_log", ["outcome", "created_at"], unique=False
    )


def _notification() -> None:
    op.create_table(
        "notification",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("alert_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("comment_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("alert_type", sa.String(length=64), nullable=False),
        sa.Column("channel_type", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        sa.Column("lost_leases", sa.Integer(), server_default="0", nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("namespace", sa.String(length=64), server_default="default", nullable=False),
        sa.Column("checkpoint", sa.String(length=64), server_default="", nullable=False),
        CheckConstraint("(status = 'FAILED') = (failed_at IS NOT NULL)", name=op.f("ck_notification_failed_at")),
        CheckConstraint("(status = 'SENDING') = (lease_until IS NOT NULL)", name=op.f("ck_notification_lease")),
        CheckConstraint(
            "status IN ('PENDING', 'SENDING', 'SENT', 'DELIVERED', 'FAILED')", name=op.f("ck_notification_status")
        ),
        ForeignKeyConstraint(
            ["alert_id"], ["alert.id"], name=op.f("fk_notification_alert_id_alert"), ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["comment_id"],
            ["alert_comment.id"],
            name=op.f("fk_notification_comment_id_alert_comment"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification")),
    )


def _notification_indexes() -> None:
    op.create_index(
        op.f("ix_notification_account_id_alert_type_created_at"),
        "notification",
        ["account_id", "alert_type", "created_at"],
        unique=False,
    )
    op.create_index(op.f("ix_notification_alert_id"), "notification", ["alert_id"], unique=False)
    op.create_index(op.f("ix_notification_status_not_before"), "notification", ["status", "not_before"], unique=False)
