"""Who may come in, and what everybody changed; part of the schema of `tables`."""

from __future__ import annotations

import sqlalchemy as sa

from webhook.storage.columns import Json, id_column, metadata, time_column

audit_log = sa.Table(
    "audit_log",
    metadata,
    id_column(),
    sa.Column("actor", sa.String(255), nullable=False),  # as they call themselves
    sa.Column("authenticated_as", sa.String(255), nullable=False, server_default=""),  # the credential they came with
    sa.Column("role", sa.String(16), nullable=False, server_default=""),  # theirs at that time
    sa.Column("address", sa.String(64), nullable=False, server_default=""),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("account_id", sa.String(255)),  # none for what belongs to no merchant
    sa.Column("subject", sa.String(255), nullable=False, server_default=""),  # e.g. api_key/<id>
    sa.Column("alert_id", sa.Uuid(as_uuid=False)),
    sa.Column("details", Json, nullable=False),
    time_column("created_at"),
    sa.Index(None, "created_at"),
    sa.Index(None, "account_id", "created_at"),
    sa.Index(None, "alert_id"),
    sa.Index(None, "actor", "created_at"),
    sa.Index(None, "authenticated_as", "created_at"),
)

api_key = sa.Table(
    "api_key",
    metadata,
    id_column(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("prefix", sa.String(16), nullable=False, unique=True),  # shown, and looked up by
    sa.Column("secret_hash", sa.String(64), nullable=False),  # SHA-256 of the whole key: it is random, not a password
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("account_ids", Json, nullable=False),  # a merchant's own; [] for other roles
    sa.Column("created_by", sa.String(255), nullable=False),
    time_column("created_at"),
    time_column("expires_at", nullable=True),
    time_column("revoked_at", nullable=True),
    time_column("last_used_at", nullable=True),
    sa.Column("replaced_by", sa.String(16)),  # prefix of the key that a rotation made of it
    sa.CheckConstraint("role IN ('admin', 'ops', 'merchant')", name="role"),
)
