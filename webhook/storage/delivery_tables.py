"""What delivery remembers beside its messages; part of the schema of `tables`."""

from __future__ import annotations

import sqlalchemy as sa

from webhook.storage.columns import id_column, metadata, time_column

# Where nothing may be sent before a time: its provider's limit, or its provider's wish. Channels have one too.
pace = sa.Table(
    "pace",
    metadata,
    sa.Column("target", sa.String(32), primary_key=True),
    time_column("free_at"),
)

# When a merchant was last told what had been held back.
digest = sa.Table(
    "digest",
    metadata,
    sa.Column("account_id", sa.String(255), primary_key=True),
    time_column("told_at"),
)

# Up to when it was summed up what was held back of an alert.
digested = sa.Table(
    "digested",
    metadata,
    sa.Column("alert_id", sa.Uuid(as_uuid=False), sa.ForeignKey("alert.id", ondelete="CASCADE"), primary_key=True),
    time_column("told_at"),
)

# Tokens that models were given and gave on a day, or have been promised.
model_tokens = sa.Table(
    "model_tokens",
    metadata,
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("tokens", sa.BigInteger, nullable=False),
)

# One number of one SMS: kept so that a further try leaves out who got it.
sms_message = sa.Table(
    "sms_message",
    metadata,
    id_column(),  # stands in the address that the provider reports to
    sa.Column(
        "notification_id", sa.Uuid(as_uuid=False), sa.ForeignKey("notification.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("number_key", sa.String(64), nullable=False),  # HMAC-SHA256 of the number
    sa.Column("provider_id", sa.String(64)),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("error", sa.Text),
    time_column("created_at"),
    time_column("updated_at"),
    sa.CheckConstraint("status IN ('SENDING', 'SENT', 'DELIVERED', 'FAILED')", name="status"),
    sa.UniqueConstraint("notification_id", "number_key"),
    sa.Index(None, "number_key", "created_at"),
)

# How deliveries have come: whether Alertmanager has failed with some is known by what it counts.
reception = sa.Table(
    "reception",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("mark", sa.Text, nullable=False),  # what the senders counted at the last look
    time_column("seen_at"),  # the last look
    time_column("changed_at"),  # the first look with this mark
    time_column("missing_since", nullable=True),  # what fired since then may not have been delivered
)
