"""who may do what, versions of configurations, flapping, answers given again"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

_TEXTS = (
    "CREATE INDEX ix_alert_texts ON alert USING gin (merchant_name gin_trgm_ops, account_id gin_trgm_ops, "
    "title gin_trgm_ops, summary gin_trgm_ops) WITH (fastupdate = off)"
)
# Insufficient privilege, not available, its file is not installed, it lies in a schema that is not searched.
_REFUSED = ("42501", "0A000", "58P01", "42704")

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_NEWEST = (sa.text("first_triggered_at DESC"), sa.text("alert_id DESC"))
_LOGGER = logging.getLogger(__name__)


_ALTERED = (
    "alert_dynamic",
    "alert_instance",
    "alert_trigger_log",
    "alert_config",
    "notification",
    "audit_log",
    "alert_template",
)
_TABLES = (
    "reception",
    "digest",
    "digested",
    "pace",
    "push_delivery",
    "push_subscription",
    "stream_event",
    "sms_message",
    "model_tokens",
    "lease",
    "handled_request",
    "api_key",
    "alert_flapping",
    "alert_config_version",
)
_AUDIT_INDEXES = (
    ["account_id", "created_at"],
    ["alert_id"],
    ["actor", "created_at"],
    ["authenticated_as", "created_at"],
)


def upgrade() -> None:
    """What takes long comes first, while others can read; what shuts everybody out is done last, and at once."""
    if op.get_bind().dialect.name == "postgresql":
        # In one mode from the start: writers wait before they have read, so that none of them waits for us in a ring.
        op.execute(f"LOCK TABLE alert, {', '.join(_ALTERED)} IN EXCLUSIVE MODE")
    _indexes()
    _alert_config_version()
    _alert_flapping()
    _api_key()
    _handled_request()
    _lease()
    _web_app()
    _pace_and_digest()
    _model_tokens()
    _sms_message()
    _reception()
    _columns()


def _indexes() -> None:
    """Of columns that are there already."""
    op.create_index("ix_alert_dynamic_gravest", "alert_dynamic", ["current_severity", *_NEWEST])
    op.create_index("ix_alert_dynamic_status_gravest", "alert_dynamic", ["status", "current_severity", *_NEWEST])
    _texts()
    told = sa.text("notify <> ''")
    op.create_index(
        "ix_alert_trigger_log_told_or_not",
        "alert_trigger_log",
        ["created_at"],
        sqlite_where=told,
        postgresql_where=told,
    )
    snoozed = sa.text("notify = 'withheld:snoozed'")
    op.create_index(
        "ix_alert_trigger_log_snoozed",
        "alert_trigger_log",
        ["account_id", "created_at"],
        sqlite_where=snoozed,
        postgresql_where=snoozed,
    )
    op.create_index(op.f("ix_notification_comment_id"), "notification", ["comment_id"])
    op.create_index(op.f("ix_notification_created_at"), "notification", ["created_at"])


def _columns() -> None:
    """None of them rewrites its table."""
    op.drop_index(op.f("ix_alert_dynamic_status_session_status"), "alert_dynamic")
    for column in (
        sa.Column("dismiss_reason", sa.String(length=32), nullable=True),
        sa.Column("feedback", sa.Text(), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=255), nullable=True),
        sa.Column("snoozed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("snoozed_by", sa.String(length=255), nullable=True),
        sa.Column("last_notified_count", sa.Integer(), server_default="0", nullable=False),
    ):
        op.add_column("alert_dynamic", column)
    op.add_column("alert_instance", sa.Column("source", sa.String(32), server_default="alertmanager", nullable=False))
    op.add_column("alert_instance", sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("alert_trigger_log", sa.Column("position", sa.Integer(), server_default="0", nullable=False))
    op.add_column(
        "alert_config", sa.Column("updated_by", sa.String(length=255), server_default="system", nullable=False)
    )
    op.add_column(
        "alert_template", sa.Column("created_by", sa.String(length=255), server_default="system", nullable=False)
    )
    op.add_column("alert_config", sa.Column("updated_by_role", sa.String(length=16), server_default="", nullable=False))
    op.add_column("notification", sa.Column("requested_by", sa.String(length=255), nullable=True))
    for column in (
        sa.Column("replayed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("target", sa.String(length=32), server_default="", nullable=False),
        sa.Column("handed_over_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("maybe_repeated", sa.Integer(), server_default="0", nullable=False),
        sa.Column("group_id", sa.Uuid(as_uuid=False), nullable=True),
    ):
        op.add_column("notification", column)
    op.create_index(op.f("ix_notification_group_id"), "notification", ["group_id"])
    for column in (
        sa.Column("authenticated_as", sa.String(length=255), server_default="", nullable=False),
        sa.Column("role", sa.String(length=16), server_default="", nullable=False),
        sa.Column("address", sa.String(length=64), server_default="", nullable=False),
        sa.Column("account_id", sa.String(length=255), nullable=True),
        sa.Column("subject", sa.String(length=255), server_default="", nullable=False),
    ):
        op.add_column("audit_log", column)
    for columns in _AUDIT_INDEXES:
        op.create_index(op.f(f"ix_audit_log_{'_'.join(columns)}"), "audit_log", columns)
    # Few rows: of what is closed nobody is told any more.
    told = "status = 'ACTIVE' AND last_notified_at IS NOT NULL"
    op.execute(f"UPDATE alert_dynamic SET last_notified_count = occurrence_count WHERE {told}")  # noqa: S608 - ours


def downgrade() -> None:
    for name in _TABLES:
        op.drop_table(name)
    with op.batch_alter_table("audit_log") as table:
        for columns in _AUDIT_INDEXES:
            table.drop_index(op.f(f"ix_audit_log_{'_'.join(columns)}"))
        for name in ("subject", "account_id", "address", "role", "authenticated_as"):
            table.drop_column(name)
    with op.batch_alter_table("notification") as table:
        table.drop_index(op.f("ix_notification_comment_id"))
        table.drop_index(op.f("ix_notification_group_id"))
        table.drop_index(op.f("ix_notification_created_at"))
        for name in (
            "group_id", "maybe_repeated", "handed_over_at", "target", "replayed_at", "requested_by",
        ):  # fmt: skip
            table.drop_column(name)
    with op.batch_alter_table("alert_config") as table:
        table.drop_column("updated_by_role")
        table.drop_column("updated_by")
    op.drop_index("ix_alert_trigger_log_snoozed", "alert_trigger_log")
    op.drop_index("ix_alert_trigger_log_told_or_not", "alert_trigger_log")
    op.drop_column("alert_template", "created_by")
    op.drop_column("alert_trigger_log", "position")
    op.drop_column("alert_instance", "ended_at")
    op.drop_column("alert_instance", "source")
    op.drop_index("ix_alert_texts", "alert", if_exists=True)  # the extension may serve others
    op.drop_index("ix_alert_dynamic_gravest", "alert_dynamic")
    op.drop_index("ix_alert_dynamic_status_gravest", "alert_dynamic")
    with op.batch_alter_table("alert_dynamic") as table:
        table.create_index(op.f("ix_alert_dynamic_status_session_status"), ["status", "session_status"])
        table.drop_column("last_notified_count")
        for name in ("snoozed_by", "snoozed_until", "acknowledged_by", "acknowledged_at", "feedback", "dismiss_reason"):
            table.drop_column(name)


def _texts() -> None:
    """Where the extension may not be made, search reads all alerts; the database's owner can add both at any time."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    try:
        with connection.begin_nested():
            op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            op.execute(_TEXTS)
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") not in _REFUSED:
            raise
        _LOGGER.warning("search reads all alerts: %s To add it: CREATE EXTENSION pg_trgm; %s", error.orig, _TEXTS)


def _alert_config_version() -> None:
    op.create_table(
        "alert_config_version",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("alert_type", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", JSON, nullable=False),
        sa.Column("changed_by", sa.String(length=255), nullable=False),
        sa.Column("changed_by_role", sa.String(length=16), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_config_version")),
        sa.UniqueConstraint(
            "account_id", "alert_type", "version", name=op.f("uq_alert_config_version_account_id_alert_type_version")
        ),
    )


def _alert_flapping() -> None:
    op.create_table(
        "alert_flapping",
        sa.Column("condition_fingerprint", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("alert_type", sa.String(length=64), nullable=False),
        sa.Column("restarts", JSON, nullable=False),
        sa.Column("flapping_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("condition_fingerprint", name=op.f("pk_alert_flapping")),
    )
    op.create_index(op.f("ix_alert_flapping_updated_at"), "alert_flapping", ["updated_at"])


def _api_key() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("account_ids", JSON, nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("replaced_by", sa.String(length=16), nullable=True),
        sa.CheckConstraint("role IN ('admin', 'ops', 'merchant')", name=op.f("ck_api_key_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_key_prefix")),
    )


def _handled_request() -> None:
    op.create_table(
        "handled_request",
        sa.Column("credential", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("route", sa.String(length=64), nullable=False),
        sa.Column("body_hash", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("answer", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("credential", "request_id", name=op.f("pk_handled_request")),
    )
    op.create_index(op.f("ix_handled_request_created_at"), "handled_request", ["created_at"])


def _lease() -> None:
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )


def _web_app() -> None:
    position = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "stream_event",
        sa.Column("position", position, sa.Identity(), nullable=False),
        sa.Column("notification_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_stream_event")),
        sa.UniqueConstraint("notification_id", name=op.f("uq_stream_event_notification_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_stream_event_account_id_position"), "stream_event", ["account_id", "position"])
    op.create_index(op.f("ix_stream_event_created_at"), "stream_event", ["created_at"])
    op.create_table(
        "push_subscription",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("endpoint_hash", sa.String(length=64), nullable=False),
        sa.Column("address", JSON, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("credential", sa.String(length=255), nullable=False),
        sa.Column("credential_mark", sa.String(length=64), server_default="", nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("account_ids", JSON, nullable=False),
        sa.Column("min_severity", sa.String(length=2), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_success_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_failure_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_failure", sa.Text(), server_default="", nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('admin', 'ops', 'merchant')", name=op.f("ck_push_subscription_role")),
        sa.CheckConstraint("min_severity IN ('P0', 'P1', 'P2', 'P3')", name=op.f("ck_push_subscription_min_severity")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_push_subscription")),
        sa.UniqueConstraint("endpoint_hash", name=op.f("uq_push_subscription_endpoint_hash")),
    )
    op.create_index(op.f("ix_push_subscription_credential"), "push_subscription", ["credential"])
    _push_delivery()


def _push_delivery() -> None:
    op.create_table(
        "push_delivery",
        sa.Column("notification_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("subscription_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["subscription_id"],
            ["push_subscription.id"],
            name=op.f("fk_push_delivery_subscription_id_push_subscription"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("notification_id", "subscription_id", name=op.f("pk_push_delivery")),
    )
    op.create_index(op.f("ix_push_delivery_subscription_id"), "push_delivery", ["subscription_id"])
    op.create_index(op.f("ix_push_delivery_created_at"), "push_delivery", ["created_at"])


def _pace_and_digest() -> None:
    op.create_table(
        "pace",
        sa.Column("target", sa.String(length=32), nullable=False),
        sa.Column("free_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("target", name=op.f("pk_pace")),
    )
    op.create_table(
        "digest",
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_digest")),
    )
    op.create_table(
        "digested",
        sa.Column("alert_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alert.id"], name=op.f("fk_digested_alert_id_alert"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_digested")),
    )


def _model_tokens() -> None:
    op.create_table(
        "model_tokens",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_model_tokens")),
    )


def _reception() -> None:
    op.create_table(
        "reception",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_reception")),
    )


def _sms_message() -> None:
    op.create_table(
        "sms_message",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("notification_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("number_key", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('SENDING', 'SENT', 'DELIVERED', 'FAILED')", name=op.f("ck_sms_message_status")),
        sa.ForeignKeyConstraint(
            ["notification_id"],
            ["notification.id"],
            name=op.f("fk_sms_message_notification_id_notification"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sms_message")),
        sa.UniqueConstraint("notification_id", "number_key", name=op.f("uq_sms_message_notification_id_number_key")),
    )
    op.create_index(op.f("ix_sms_message_number_key_created_at"), "sms_message", ["number_key", "created_at"])
