"""Changes of merchant configurations: versions, secrets encrypted at rest, and an audit row, in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.access import SYSTEM_PRINCIPAL, Principal
from webhook.domain.configuration import config_of, difference, document_of
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.masking import change_secrets, unmasked
from webhook.ports import ConfigNotFound, Secrets, SecretUnreadable, UnknownMasks, VersionConflict
from webhook.storage.audit import record_audit
from webhook.storage.config_rows import StoredConfig, delete_config, read_configs, stored_configs, write_config
from webhook.storage.database import Database
from webhook.storage.tables import alert_config_version
from webhook.storage.transactions import transaction

__all__ = ["ANY_VERSION", "Change", "ConfigStore", "Saved", "VersionRecord", "read_configs", "save_configs"]

Change = Literal["created", "updated", "unchanged"]
ANY_VERSION = -1
"""Expected version of who wants to overwrite whatever there is."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of one configuration; `version` is the one that now counts."""

    id: str
    change: Change
    version: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version. `document` is empty when it was the deletion; its secrets are decrypted."""

    version: int
    document: Mapping[str, Any]
    changed_by: str
    created_at: datetime


class _NoSecrets:
    """Stands in where no key is wired: plain values pass, and none can be stored."""

    def encrypt(self, text: str) -> str:  # noqa: ARG002 - the port's signature
        raise SecretUnreadable("there is no key to encrypt it with")

    def decrypt(self, text: str) -> str:
        return text

    rotate = encrypt


@dataclass(frozen=True, slots=True)
class ConfigStore:
    """Configurations as people see and change them: secrets come and go in plain text, and rest encrypted.

    Every call is one transaction and raises StoreConflict, StoreUnavailable or, where a key lacks, SecretUnreadable.
    """

    database: Database
    secrets: Secrets

    def stored(self, *, accounts: Collection[str] | None = None, alert_type: str | None = None) -> list[StoredConfig]:
        """By account and type; None: all accounts. A secret whose key is lost stays encrypted."""
        with self.database.read() as connection:
            found = stored_configs(connection, accounts=accounts, alert_type=alert_type)
        return [self._decrypted(item) for item in found]

    def completed(self, config: MerchantConfig) -> tuple[MerchantConfig, StoredConfig | None]:
        """With masks replaced by what they stand for, and what is stored; raise UnknownMasks."""
        with self.database.read() as connection:
            known = self._known(connection, config.account_id, config.alert_type)
        return _unmasked(config, known), known

    def save(
        self,
        configs: Sequence[MerchantConfig],
        principal: Principal,
        now: datetime,
        *,
        expected: int | None = ANY_VERSION,
    ) -> list[Saved]:
        """Write all or none. A changed one gets the next version, an equal one keeps its own.

        `expected` is the version that the writer saw (0: there was none); None is refused for what exists already.
        Raise VersionConflict or UnknownMasks.
        """
        with transaction(self.database) as connection:
            return [self._save(connection, config, principal, now, expected) for config in configs]

    def delete(
        self, account_id: str, alert_type: str, principal: Principal, now: datetime, *, expected: int | None
    ) -> int:
        """Return the version that marks the deletion; raise ConfigNotFound or VersionConflict."""
        with transaction(self.database) as connection:
            known = self._known(connection, account_id, alert_type, lock=True)
            if known is None:
                raise ConfigNotFound(f"{account_id} {alert_type}")
            _check_version(known, expected)
            self._keep_present(connection, known)
            version = _next_version(connection, known.config)
            delete_config(connection, known)
            self._log(connection, replace(known.config, version=version), {}, principal.name, now)
            details = {"version": version}
            record_audit(connection, principal, "config_deleted", now=now, details=details, **_subject(known.config))
            return version

    def versions(self, account_id: str, alert_type: str, *, limit: int = 50) -> list[VersionRecord]:
        """Newest first."""
        v = alert_config_version.c
        query = (
            sa.select(v.version, v.document, v.changed_by, v.created_at)
            .where(v.account_id == account_id, v.alert_type == alert_type)
            .order_by(v.version.desc())
            .limit(limit)
        )
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        return [VersionRecord(row.version, self._opened(row.document), row.changed_by, row.created_at) for row in rows]

    def restore(
        self,
        account_id: str,
        alert_type: str,
        version: int,
        principal: Principal,
        now: datetime,
        *,
        expected: int | None,
    ) -> Saved:
        """The document of an old version becomes the next one; raise ConfigNotFound or VersionConflict."""
        v = alert_config_version.c
        query = sa.select(v.document).where(
            v.account_id == account_id, v.alert_type == alert_type, v.version == version
        )
        with transaction(self.database) as connection:
            document = connection.scalar(query)
            if not document:
                raise ConfigNotFound(f"{account_id} {alert_type} version {version}")
            config = config_of(account_id, self._opened(document))
            return self._save(connection, config, principal, now, expected, restored=version)

    def _save(
        self,
        connection: sa.Connection,
        config: MerchantConfig,
        principal: Principal,
        now: datetime,
        expected: int | None,
        *,
        restored: int | None = None,
    ) -> Saved:
        known = self._known(connection, config.account_id, config.alert_type, lock=True)
        _check_version(known, expected)
        config = _unmasked(config, known)
        changes = difference(known.config if known else None, config)
        if known is not None and not changes:
            return Saved(known.id, "unchanged", known.config.version, known.updated_at)
        if known is not None:
            self._keep_present(connection, known)
        version = _next_version(connection, known.config if known else config)
        sealed = replace(config, version=version, channel_preferences=self._sealed(config.channel_preferences))
        config_id = write_config(connection, sealed, known, principal.name, now)
        self._log(connection, sealed, document_of(sealed), principal.name, now)
        details: dict[str, Any] = {"version": version, "changes": [list(change) for change in changes]}
        if restored is not None:
            details["restored_version"] = restored
        action = "config_updated" if known else "config_created"
        record_audit(connection, principal, action, now=now, details=details, **_subject(config))
        return Saved(config_id, "updated" if known else "created", version, now)

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
            self._log(connection, config, document, known.updated_by, known.updated_at)

    @staticmethod
    def _log(
        connection: sa.Connection, config: MerchantConfig, document: Mapping[str, Any], by: str, now: datetime
    ) -> None:
        connection.execute(
            sa.insert(alert_config_version).values(
                id=str(uuid4()),
                account_id=config.account_id,
                alert_type=config.alert_type,
                version=config.version,
                document=document,
                changed_by=by[:255],
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


def save_configs(database: Database, configs: Sequence[MerchantConfig], now: datetime) -> Counter[Change]:
    """Write all of them in one transaction, as the system; none may hold a secret."""
    saved = ConfigStore(database, _NoSecrets()).save(configs, SYSTEM_PRINCIPAL, now)
    return Counter(item.change for item in saved)


def _check_version(known: StoredConfig | None, expected: int | None) -> None:
    present = known.config.version if known is not None else 0
    if expected in (ANY_VERSION, present) or (expected is None and known is None):
        return
    raise VersionConflict(present, named=expected is not None)


def _unmasked(config: MerchantConfig, known: StoredConfig | None) -> MerchantConfig:
    stored = known.config.channel_preferences if known is not None else {}
    channels, lost = unmasked(config.channel_preferences, stored)
    if lost:
        raise UnknownMasks(lost)
    return replace(config, channel_preferences=channels)


def _next_version(connection: sa.Connection, config: MerchantConfig) -> int:
    """Above all that there ever was: a configuration may come back after it was deleted."""
    v = alert_config_version.c
    query = sa.select(sa.func.max(v.version)).where(
        v.account_id == config.account_id, v.alert_type == config.alert_type
    )
    return (connection.scalar(query) or 0) + 1


def _subject(config: MerchantConfig) -> dict[str, str]:
    return {"account_id": config.account_id, "subject": f"config/{config.account_id}/{config.alert_type}"}
