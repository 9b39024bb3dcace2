"""Changes of merchant configurations: versions, secrets encrypted at rest, and an audit row, in one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.access import Principal, Role
from webhook.domain.configuration import config_of, difference, document_of, staff_settings, within_rights
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.masking import change_secrets, unmasked
from webhook.domain.signing import rotated, with_secret
from webhook.ports import ConfigNotFound, Secrets, SecretUnreadable, StaffOnly, UnknownMasks, VersionConflict
from webhook.storage.audit import record_audit
from webhook.storage.config_rows import StoredConfig, delete_config, read_configs, stored_configs, write_config
from webhook.storage.database import Database
from webhook.storage.tables import alert_config_version
from webhook.storage.transactions import transaction

__all__ = ["Change", "ConfigStore", "Saved", "VersionRecord", "read_configs"]

Change = Literal["created", "updated", "unchanged"]
Versions = AbstractSet[int] | None
"""Those that a change was decided on, 0 where there was no configuration; None: whatever there is."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of one configuration; `version` is the one that now counts.

    `webhook_secret`: what signs messages from now on, where it was made here: it is shown once.
    """

    id: str
    change: Change
    version: int
    updated_at: datetime
    webhook_secret: str = ""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version. `document` is empty when it was the deletion; its secrets are decrypted."""

    version: int
    document: Mapping[str, Any]
    changed_by: str
    created_at: datetime
    changed_by_role: str = ""


@dataclass(frozen=True, slots=True)
class ConfigStore:
    """Configurations as people see and change them: secrets come and go in plain text, and rest encrypted.

    Every call is one transaction and raises StoreConflict, StoreUnavailable or, where a key lacks, SecretUnreadable.
    Those that change something raise VersionConflict, and StaffOnly where it is not the principal's to change.
    """

    database: Database
    secrets: Secrets

    def stored(self, *, accounts: Collection[str] | None = None, alert_type: str | None = None) -> list[StoredConfig]:
        """By account and type; None: all accounts. A secret whose key is lost stays encrypted."""
        with self.database.read() as connection:
            found = stored_configs(connection, accounts=accounts, alert_type=alert_type)
        return [self._decrypted(item) for item in found]

    def completed(self, config: MerchantConfig, principal: Principal) -> tuple[MerchantConfig, StoredConfig | None]:
        """As `save` would write it, and what is stored; raise UnknownMasks or StaffOnly."""
        with self.database.read() as connection:
            known = self._known(connection, config.account_id, config.alert_type)
        config = _completed(config, known, principal)
        return with_secret(config, known.config if known else None, None)[0], known

    def save(
        self,
        configs: Sequence[MerchantConfig],
        principal: Principal,
        now: datetime,
        *,
        versions: Versions = None,
        gone: Sequence[MerchantConfig] = (),
    ) -> list[Saved]:
        """Write all and delete those that are `gone`, or nothing at all; raise UnknownMasks or ConfigNotFound too.

        A changed one gets the next version, an equal one keeps its own; what is gone is so in the version given.
        """
        with transaction(self.database) as connection:
            saved = [self._save(connection, config, principal, now, versions) for config in configs]
            for config in gone:
                self._delete(
                    connection, config.account_id, config.alert_type, principal, now, versions={config.version}
                )
            return saved

    def delete(
        self, account_id: str, alert_type: str, principal: Principal, now: datetime, *, versions: Versions = None
    ) -> int:
        """Return the version that marks the deletion; raise ConfigNotFound too."""
        with transaction(self.database) as connection:
            return self._delete(connection, account_id, alert_type, principal, now, versions=versions)

    def _delete(
        self,
        connection: sa.Connection,
        account_id: str,
        alert_type: str,
        principal: Principal,
        now: datetime,
        *,
        versions: Versions,
    ) -> int:
        known = self._known(connection, account_id, alert_type, lock=True)
        if known is None:
            raise ConfigNotFound(f"{account_id} {alert_type}")
        _check_version(known.config, known, versions)
        if kept := staff_settings(known.config, principal):
            raise StaffOnly(kept)
        self._keep_present(connection, known)
        version = _next_version(connection, known.config)
        delete_config(connection, known)
        self._log(connection, replace(known.config, version=version), {}, principal, now)
        details = {"version": version}
        record_audit(connection, principal, "config_deleted", now=now, details=details, **_subject(known.config))
        return version

    def rotate_webhook_secret(
        self, account_id: str, alert_type: str, principal: Principal, now: datetime, *, versions: Versions = None
    ) -> Saved:
        """Another secret from the next message on; raise ConfigNotFound too, also where no webhook is set."""
        with transaction(self.database) as connection:
            known = self._known(connection, account_id, alert_type, lock=True)
            changed = rotated(known.config, new_secret) if known is not None else None
            if changed is None:
                raise ConfigNotFound(f"{account_id} {alert_type}")
            config, secret = changed
            return self._save(connection, config, principal, now, versions, secret=secret)

    def versions(self, account_id: str, alert_type: str, *, limit: int = 50) -> list[VersionRecord]:
        """Newest first."""
        v = alert_config_version.c
        query = (
            sa.select(v.version, v.document, v.changed_by, v.created_at, v.changed_by_role)
            .where(v.account_id == account_id, v.alert_type == alert_type)
            .order_by(v.version.desc())
            .limit(limit)
        )
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        return [VersionRecord(row[0], self._opened(row[1]), *row[2:]) for row in rows]

    def restore(
        self,
        account_id: str,
        alert_type: str,
        version: int,
        principal: Principal,
        now: datetime,
        *,
        versions: Versions = None,
    ) -> Saved:
        """The document of an old version becomes the next one; raise ConfigNotFound too."""
        v = alert_config_version.c
        query = sa.select(v.document).where(
            v.account_id == account_id, v.alert_type == alert_type, v.version == version
        )
        with transaction(self.database) as connection:
            document = connection.scalar(query)
            if not document:
                raise ConfigNotFound(f"{account_id} {alert_type} version {version}")
            config = config_of(account_id, self._opened(document))
            return self._save(connection, config, principal, now, versions, restored=version)

    def _save(
        self,
        connection: sa.Connection,
        config: MerchantConfig,
        principal: Principal,
        now: datetime,
        versions: Versions,
        *,
        restored: int | None = None,
        secret: str = "",
    ) -> Saved:
        known = self._known(connection, config.account_id, config.alert_type, lock=True)
        _check_version(config, known, versions)
        config = _completed(config, known, principal)
        config, made = with_secret(config, known.config if known else None, new_secret)
        changes = difference(known.config if known else None, config)
        if known is not None and not changes:
            return Saved(known.id, "unchanged", known.config.version, known.updated_at)
        if known is not None:
            self._keep_present(connection, known)
        version = _next_version(connection, known.config if known else config)
        sealed = replace(config, version=version, channel_preferences=self._sealed(config.channel_preferences))
        config_id = write_config(connection, sealed, known, principal, now)
        self._log(connection, sealed, document_of(sealed), principal, now)
        details: dict[str, Any] = {"version": version, "changes": [list(change) for change in changes]}
        if restored is not None:
            details["restored_version"] = restored
        action = "config_updated" if known else "config_created"
        record_audit(connection, principal, action, now=now, details=details, **_subject(config))
        return Saved(config_id, "updated" if known else "created", version, now, secret or made)

    def _known(
        self, connection: sa.Connection, account_id: str, alert_type: str, *, lock: bool = False
    ) -> StoredConfig | None:
        found = stored_configs(connection, accounts=[account_id], alert_type=alert_type, lock=lock)
        return self._decrypted(found[0]) if found else None

    def _keep_present(self, connection: sa.Connection, known: StoredConfig) -> None:
        """A configuration that is older than the table of versions leaves its last state there."""
        v, config = alert_config_version.c, known.config
        ours = sa.and_(
            v.account_id == config.account_id, v.alert_type == config.alert_type, v.version == config.version
        )
        if connection.scalar(sa.select(v.id).where(ours)) is None:
            document = document_of(replace(config, channel_preferences=self._sealed(config.channel_preferences)))
            by = Principal(known.updated_by, Role(known.updated_by_role or Role.ADMIN), "")
            self._log(connection, config, document, by, known.updated_at)

    @staticmethod
    def _log(
        connection: sa.Connection, config: MerchantConfig, document: Mapping[str, Any], by: Principal, now: datetime
    ) -> None:
        connection.execute(
            sa.insert(alert_config_version).values(
                id=str(uuid4()),
                account_id=config.account_id,
                alert_type=config.alert_type,
                version=config.version,
                document=document,
                changed_by=by.name[:255],
                changed_by_role=by.role.value,
                created_at=now,
            )
        )

    def _sealed(self, channels: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        return change_secrets(channels, lambda _, text: self.secrets.encrypt(text))

    def _plain(self, channels: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        def opened(_: str, text: str) -> str:
            try:
                return self.secrets.decrypt(text)
            except SecretUnreadable:
                return text

        return change_secrets(channels, opened)

    def _decrypted(self, stored: StoredConfig) -> StoredConfig:
        channels = self._plain(stored.config.channel_preferences)
        return replace(stored, config=replace(stored.config, channel_preferences=channels))

    def _opened(self, document: Mapping[str, Any]) -> dict[str, Any]:
        return {**document, "channels": self._plain(document["channels"])} if document else {}


def new_secret() -> str:
    """256 bits, in characters that survive any form and shell."""
    return secrets.token_urlsafe(32)


def _check_version(config: MerchantConfig, known: StoredConfig | None, versions: Versions) -> None:
    present = known.config.version if known is not None else 0
    if versions is not None and present not in versions:
        raise VersionConflict(f"{config.account_id} {config.alert_type}", present)


def _completed(config: MerchantConfig, known: StoredConfig | None, principal: Principal) -> MerchantConfig:
    """With masks replaced by what they stand for, and with what staff set."""
    stored = known.config if known is not None else None
    channels, wrong = unmasked(config.channel_preferences, stored.channel_preferences if stored is not None else {})
    if wrong:
        raise UnknownMasks(wrong)
    allowed, refused = within_rights(replace(config, channel_preferences=channels), stored, principal)
    if refused:
        raise StaffOnly(refused)
    return allowed


def _next_version(connection: sa.Connection, config: MerchantConfig) -> int:
    """Above all that there ever was: a configuration may come back after it was deleted."""
    v = alert_config_version.c
    query = sa.select(sa.func.max(v.version)).where(
        v.account_id == config.account_id, v.alert_type == config.alert_type
    )
    return (connection.scalar(query) or 0) + 1


def _subject(config: MerchantConfig) -> dict[str, str]:
    return {"account_id": config.account_id, "subject": f"config/{config.account_id}/{config.alert_type}"}
