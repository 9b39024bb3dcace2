"""The tables of the web app: what its stream tells, which browsers are told besides, and what each of them has got."""

from __future__ import annotations

import sqlalchemy as sa

from webhook.domain.access import Role
from webhook.domain.severity import Severity
from webhook.storage.columns import Json, id_column, metadata, one_of, time_column

# Numbered in the order in which the rows became visible, see `webhook.storage.stream`.
stream_event = sa.Table(
    "stream_event",
    metadata,
    sa.Column("position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
    sa.Column("notification_id", sa.Uuid(as_uuid=False), nullable=False, unique=True),
    sa.Column("account_id", sa.String(255), nullable=False),
    sa.Column("payload", Json, nullable=False),
    time_column("created_at"),
    sa.Index(None, "account_id", "position"),
    sa.Index(None, "created_at"),
    sqlite_autoincrement=True,  # a number that was given is not given again, whatever was deleted
)

push_subscription = sa.Table(
    "push_subscription",
    metadata,
    id_column(),
    sa.Column("endpoint_hash", sa.String(64), nullable=False, unique=True),  # SHA-256, to find it by
    sa.Column("address", Json, nullable=False),  # endpoint and auth encrypted, p256dh; host is for people
    sa.Column("name", sa.String(255), nullable=False),  # of who subscribed
    sa.Column("credential", sa.String(255), nullable=False),  # that they came with
    sa.Column("credential_mark", sa.String(64), nullable=False, server_default=""),  # of the admin token alone
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("account_ids", Json, nullable=False),  # a merchant's own; [] for staff, who are told of all
    sa.Column("min_severity", sa.String(2), nullable=False),
    time_column("created_at"),
    time_column("expires_at", nullable=True),  # of a login; an API key has its own end
    time_column("last_success_at", nullable=True),
    time_column("last_failure_at", nullable=True),
    sa.Column("last_failure", sa.Text, nullable=False, server_default=""),
    time_column("failing_since", nullable=True),
    time_column("not_before", nullable=True),  # its push service asked us to wait
    one_of("role", Role),
    one_of("min_severity", Severity),
    sa.Index(None, "credential"),
)

# Who got which message: a message that is tried again does not go to those who have it.
push_delivery = sa.Table(
    "push_delivery",
    metadata,
    sa.Column("notification_id", sa.Uuid(as_uuid=False), primary_key=True),
    sa.Column(
        "subscription_id",
        sa.Uuid(as_uuid=False),
        sa.ForeignKey("push_subscription.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    time_column("created_at"),
    sa.Index(None, "subscription_id"),
    sa.Index(None, "created_at"),
)
