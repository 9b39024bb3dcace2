"""API keys: who holds one, for what, until when. Of the key itself only a digest is kept.

A key is `sk_<8 letters and digits>_<256 random bits>`. It is random, not a password, so one round of SHA-256 keeps it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.access import Principal, Role
from webhook.storage.access_tables import api_key
from webhook.storage.audit import record_audit

SECRET_BYTES = 32
USED_EVERY = timedelta(minutes=1)
"""`last_used_at` is written at most so often for each key: requests that read stay reads."""

_KEY = re.compile(r"(sk_[a-z0-9]{8})_[A-Za-z0-9_-]{43}", re.ASCII)
_LETTERS = string.ascii_lowercase + string.digits


class KeyNotFound(LookupError):  # noqa: N818 - an answer to a person
    """No key has this prefix."""


class KeyEnded(Exception):  # noqa: N818 - an answer to a person
    """The key is revoked or has expired: it cannot be rotated."""


class KeyReplaced(Exception):  # noqa: N818 - an answer to a person
    """The key was rotated already: only `successor`, a prefix, can be."""

    def __init__(self, prefix: str, successor: str) -> None:
        super().__init__(f"the key {prefix} was rotated already: rotate its successor {successor}")
        self.successor = successor


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as it may be shown, but for the digest."""

    id: str
    name: str
    prefix: str
    secret_hash: str
    role: Role
    account_ids: tuple[str, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    replaced_by: str | None

    def valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def opens(self, key: str) -> bool:
        return hmac.compare_digest(digest(key), self.secret_hash)

    def state(self, now: datetime) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.valid(now) else "expired"


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key is to be good for. Raise ValueError for a merchant's without accounts, or another's with some."""

    name: str
    role: Role
    account_ids: tuple[str, ...] = ()
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.role is Role.MERCHANT and not self.account_ids:
            raise ValueError("a merchant's key wants at least one account")
        if self.role is not Role.MERCHANT and self.account_ids:
            raise ValueError("only a merchant's key is bound to accounts")


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def prefix_of(key: str) -> str | None:
    """The part that is shown and looked up by; None for what cannot be a key."""
    found = _KEY.fullmatch(key)
    return found and found[1]


def create_key(connection: sa.Connection, new: NewKey, principal: Principal, now: datetime) -> tuple[KeyRecord, str]:
    """The record and the key itself, which is told this once."""
    record, key = _insert(connection, new, principal, now)
    record_audit(connection, principal, "api_key_created", now=now, subject=_subject(record), details=_told(record))
    return record, key


def rotate_key(
    connection: sa.Connection, prefix: str, grace: timedelta, principal: Principal, now: datetime
) -> tuple[KeyRecord, str]:
    """A new key with the same rights and lifetime; the old one ends after `grace`.

    Raise KeyNotFound, KeyEnded, or KeyReplaced: what is left of a rotated key is its grace, not its lifetime.
    """
    old = _locked(connection, prefix)
    if not old.valid(now):
        raise KeyEnded(f"the key {old.prefix} is {old.state(now)}")
    if old.replaced_by is not None:
        raise KeyReplaced(old.prefix, old.replaced_by)
    expires = old.expires_at and now + (old.expires_at - old.created_at)
    new, key = _insert(connection, NewKey(old.name, old.role, old.account_ids, expires), principal, now)
    ends = now + grace if old.expires_at is None else min(old.expires_at, now + grace)
    changed = sa.update(api_key).where(api_key.c.id == old.id).values(expires_at=ends, replaced_by=new.prefix)
    connection.execute(changed)
    told = {**_told(new), "replaces": old.prefix, "old_expires_at": ends.isoformat()}
    record_audit(connection, principal, "api_key_rotated", now=now, subject=_subject(new), details=told)
    return new, key


def revoke_key(connection: sa.Connection, prefix: str, principal: Principal, now: datetime) -> KeyRecord:
    """End a key at once; one that is revoked already stays as it is. Raise KeyNotFound."""
    found = _locked(connection, prefix)
    if found.revoked_at is not None:
        return found
    connection.execute(sa.update(api_key).where(api_key.c.id == found.id).values(revoked_at=now))
    record_audit(connection, principal, "api_key_revoked", now=now, subject=_subject(found), details=_told(found))
    return _locked(connection, prefix)


def list_keys(connection: sa.Connection) -> list[KeyRecord]:
    """Newest first, ended ones too."""
    statement = sa.select(api_key).order_by(api_key.c.created_at.desc(), api_key.c.id)
    return [_record(row) for row in connection.execute(statement).mappings()]


def key_by_prefix(connection: sa.Connection, prefix: str) -> KeyRecord | None:
    row = connection.execute(sa.select(api_key).where(api_key.c.prefix == prefix)).mappings().one_or_none()
    return None if row is None else _record(row)


def note_use(connection: sa.Connection, key_id: str, now: datetime) -> None:
    """Of several processes that note it in the same minute, one does."""
    used = api_key.c.last_used_at
    unnoted = used.is_(None) | (used <= now - USED_EVERY)
    connection.execute(sa.update(api_key).where(api_key.c.id == key_id, unnoted).values(last_used_at=now))


def _insert(connection: sa.Connection, new: NewKey, principal: Principal, now: datetime) -> tuple[KeyRecord, str]:
    prefix = "sk_" + "".join(secrets.choice(_LETTERS) for _ in range(8))
    key = f"{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    accounts = tuple(sorted(set(new.account_ids)))
    values: dict[str, Any] = {
        "id": str(uuid4()),
        "name": new.name,
        "prefix": prefix,
        "secret_hash": digest(key),
        "role": new.role,
        "account_ids": accounts,
        "created_by": principal.name,
        "created_at": now,
        "expires_at": new.expires_at,
        "revoked_at": None,
        "last_used_at": None,
        "replaced_by": None,
    }
    connection.execute(sa.insert(api_key), values | {"role": new.role.value, "account_ids": list(accounts)})
    return KeyRecord(**values), key


def _locked(connection: sa.Connection, prefix: str) -> KeyRecord:
    statement = sa.select(api_key).where(api_key.c.prefix == prefix).with_for_update()
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise KeyNotFound(prefix)
    return _record(row)


def _record(row: sa.RowMapping) -> KeyRecord:
    return KeyRecord(**{**row, "role": Role(row["role"]), "account_ids": tuple(row["account_ids"])})


def _subject(record: KeyRecord) -> str:
    return f"api_key/{record.prefix}"


def _told(record: KeyRecord) -> Mapping[str, Any]:
    return {
        "name": record.name,
        "role": record.role.value,
        "account_ids": list(record.account_ids),
        "expires_at": record.expires_at and record.expires_at.isoformat(),
    }
