"""What delivery remembers beside its messages; part of the schema of `tables`."""

from __future__ import annotations

import sqlalchemy as sa

from webhook.storage.columns import metadata, time_column

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

# Tokens that models were given and gave on a day, or have been promised.
model_tokens = sa.Table(
    "model_tokens",
    metadata,
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("tokens", sa.BigInteger, nullable=False),
)
