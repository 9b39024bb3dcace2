"""Browsers that want push messages: who subscribed them, and which of them are told of an alert.

Who may be told is asked anew for every message: a key that was revoked, has expired or lost an account tells nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import sqlalchemy as sa

from webhook.domain.access import Principal, Role, Tenure
from webhook.domain.message import Message
from webhook.domain.severity import Severity
from webhook.ports import Secrets, SecretUnreadable
from webhook.reader_ports import Published, PushTarget
from webhook.storage.access_tables import api_key
from webhook.storage.audit import record_audit
from webhook.storage.database import Database
from webhook.storage.stream import publish
from webhook.storage.transactions import transaction
from webhook.storage.web_tables import push_delivery, push_subscription

MOST = 20
"""Subscriptions of one credential."""

NOT_WAITED_FOR = timedelta(hours=1)
"""A browser that cannot be reached for so long is tried once for each message."""

FORGOTTEN = timedelta(days=14)
"""And after this it is forgotten; its page subscribes anew when it is opened."""

DELIVERIES_KEPT = timedelta(days=3)
_KEY = "api_key/"


class TooManySubscriptions(Exception):  # noqa: N818 - an answer to a person
    """This credential has MOST already."""


class OthersSubscription(Exception):  # noqa: N818 - an answer to a person
    """This endpoint is known with other keys: whoever sent it does not hold it."""


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """What a browser's `PushSubscription` holds."""

    endpoint: str
    p256dh: str
    auth: str
    min_severity: Severity = Severity.P3


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """A subscription as it may be shown: of its address the host alone."""

    id: str
    service: str
    min_severity: Severity
    account_ids: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    last_success_at: datetime | None
    last_failure_at: datetime | None
    last_failure: str


class PushSubscriptions:
    """Kept by whoever subscribes. Raises StoreConflict, StoreUnavailable and SecretUnreadable."""

    def __init__(self, database: Database, secrets: Secrets) -> None:
        self._database = database
        self._secrets = secrets

    def subscribe(
        self, new: NewSubscription, principal: Principal, tenure: Tenure, now: datetime
    ) -> tuple[SubscriptionRecord, bool]:
        """The subscription, and whether it is a new one; a browser that is known already is this principal's now.

        Raise TooManySubscriptions or OthersSubscription.
        """
        values = {
            "address": self._sealed(new),
            "name": principal.name[:255],
            "credential": principal.credential,
            "credential_mark": tenure.mark,
            "role": principal.role.value,
            "account_ids": sorted(principal.account_ids),
            "min_severity": new.min_severity.value,
            "expires_at": tenure.until,
        }
        with transaction(self._database) as connection:
            known = _locked(connection, push_subscription.c.endpoint_hash == _digest(new.endpoint))
            if known is not None:
                self._check_keys(known["address"], new)
                fresh = known["credential"] != principal.credential
                changed = fresh or known["min_severity"] != new.min_severity.value
                statement = sa.update(push_subscription).where(push_subscription.c.id == known["id"])
                connection.execute(statement.values(**values, failing_since=None, not_before=None))
                subscription_id = known["id"]
            else:
                _check_room(connection, principal)
                subscription_id, fresh, changed = str(uuid4()), True, True
                row = {"id": subscription_id, "endpoint_hash": _digest(new.endpoint), "created_at": now, **values}
                connection.execute(sa.insert(push_subscription).values(row))
            found = _locked(connection, push_subscription.c.id == subscription_id)
            assert found is not None
            if changed:
                _audit(connection, principal, "push_subscribed", found, now=now, min_severity=new.min_severity.value)
        return _record(found), fresh

    def own(self, principal: Principal) -> list[SubscriptionRecord]:
        """Newest first."""
        columns = push_subscription.c
        query = sa.select(push_subscription).where(columns.credential == principal.credential)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(columns.created_at.desc(), columns.id)).mappings().all()
        return [_record(row) for row in rows]

    def target(self, subscription_id: str, principal: Principal) -> PushTarget | None:
        """One's own, with its secrets; None for another's, or where there is none."""
        columns = push_subscription.c
        mine = (columns.id == subscription_id, columns.credential == principal.credential)
        with self._database.read() as connection:
            row = connection.execute(sa.select(push_subscription).where(*mine)).mappings().one_or_none()
        return None if row is None else self.opened(row)

    def unsubscribe(
        self, subscription_id: str, principal: Principal, now: datetime, **why: str
    ) -> SubscriptionRecord | None:
        """What was deleted; None where it is another's, or there was none."""
        columns = push_subscription.c
        with transaction(self._database) as connection:
            row = _locked(connection, columns.id == subscription_id, columns.credential == principal.credential)
            if row is None:
                return None
            connection.execute(sa.delete(push_subscription).where(columns.id == subscription_id))
            _audit(connection, principal, "push_unsubscribed", row, now=now, **why)
        return _record(row)

    def forget(self, subscription_id: str) -> None:
        """Its push service says that it is gone."""
        with transaction(self._database) as connection:
            connection.execute(sa.delete(push_subscription).where(push_subscription.c.id == subscription_id))

    def opened(self, row: sa.RowMapping, *, failing: bool = False) -> PushTarget:
        """Raise SecretUnreadable."""
        address = row["address"]
        endpoint, auth = (self._secrets.decrypt(address[name]) for name in ("endpoint", "auth"))
        return PushTarget(row["id"], endpoint, address["p256dh"], auth, failing)

    def _sealed(self, new: NewSubscription) -> dict[str, str]:
        encrypt = self._secrets.encrypt
        return {
            "endpoint": encrypt(new.endpoint),
            "auth": encrypt(new.auth),
            "p256dh": new.p256dh,
            "host": urlsplit(new.endpoint).hostname or "",
        }

    def _check_keys(self, address: Mapping[str, str], new: NewSubscription) -> None:
        if (address["p256dh"], self._secrets.decrypt(address["auth"])) != (new.p256dh, new.auth):
            raise OthersSubscription


class WebReaders:
    """`webhook.reader_ports.Readers` over the store. `admin_mark`: of the admin token, where this process knows it."""

    def __init__(self, database: Database, secrets: Secrets, admin_mark: str = "") -> None:
        self._database = database
        self._subscriptions = PushSubscriptions(database, secrets)
        self._admin_mark = admin_mark

    def publish(self, message: Message, payload: Mapping[str, Any], now: datetime) -> Published:
        with transaction(self._database) as connection:
            # The message last: its lock is held until the commit.
            rows = self._told(connection, message, now)
            at = publish(connection, message.notification_id, message.account_id, payload, now)
        ready = [row for row in rows if row["not_before"] is None or row["not_before"] <= now]
        ready.sort(key=lambda row: row["failing_since"] is not None)  # who hangs holds up nobody else
        targets = []
        for row in ready:
            with suppress(SecretUnreadable):
                targets.append(self._subscriptions.opened(row, failing=_failing(row, now)))
        waiting = [row for row in rows if row not in ready and not _failing(row, now)]
        return Published(at, targets, waiting=len(waiting), unreadable=len(ready) - len(targets))

    def reached(self, target_id: str, notification_id: str, now: datetime) -> None:
        row = {"notification_id": notification_id, "subscription_id": target_id, "created_at": now}
        there = sa.select(push_delivery.c.created_at).where(
            push_delivery.c.notification_id == notification_id, push_delivery.c.subscription_id == target_id
        )
        with transaction(self._database) as connection:
            held = _update(connection, target_id, last_success_at=now, failing_since=None, not_before=None)
            if held and connection.scalar(there) is None:
                connection.execute(sa.insert(push_delivery).values(row))

    def missed(self, target_id: str, why: str, now: datetime, not_before: datetime | None = None) -> None:
        since = sa.func.coalesce(push_subscription.c.failing_since, now)
        with transaction(self._database) as connection:
            _update(
                connection,
                target_id,
                last_failure_at=now,
                last_failure=why,
                not_before=not_before,
                failing_since=since,
            )

    def gone(self, target_id: str) -> None:
        self._subscriptions.forget(target_id)

    def _told(self, connection: sa.Connection, message: Message, now: datetime) -> list[sa.RowMapping]:
        """Who may read this account and wants this severity, and has not got this message."""
        s, k, d = push_subscription.c, api_key.c, push_delivery.c
        has_it = sa.exists().where(d.notification_id == message.notification_id, d.subscription_id == s.id)
        wanted = [severity.value for severity in Severity if severity.rank <= message.severity.rank]
        query = (
            sa.select(
                push_subscription,
                k.role.label("key_role"),
                k.account_ids.label("key_accounts"),
            )
            .outerjoin(api_key, s.credential == _KEY + k.prefix)
            .where(living(now), ~has_it, s.min_severity.in_(wanted), _may_read(connection, message.account_id))
            .order_by(s.created_at, s.id)
        )
        return [row for row in connection.execute(query).mappings() if self._entitled(row, message.account_id)]

    def _entitled(self, row: sa.RowMapping, account_id: str) -> bool:
        """By what the credential is good for now, not when it subscribed."""
        if row["credential_mark"] and self._admin_mark and row["credential_mark"] != self._admin_mark:
            return False
        if not row["credential"].startswith(_KEY):
            return True
        return row["key_role"] != Role.MERCHANT or account_id in row["key_accounts"]


def living(now: datetime) -> sa.ColumnElement[bool]:
    """Subscriptions whose credential is good at `now`."""
    s, k = push_subscription.c, api_key.alias("valid_key").c
    valid = sa.exists().where(
        s.credential == _KEY + k.prefix, k.revoked_at.is_(None), k.expires_at.is_(None) | (k.expires_at > now)
    )
    by_key = s.credential.startswith(_KEY, autoescape=True)
    return sa.and_(s.expires_at.is_(None) | (s.expires_at > now), ~by_key | valid)


def without_credential(now: datetime) -> sa.Select[tuple[object]]:
    """Ids of subscriptions whose credential is gone, or that nobody could reach for long."""
    unreachable = push_subscription.c.failing_since < now - FORGOTTEN
    return sa.select(push_subscription.c.id).where(sa.or_(~living(now), sa.func.coalesce(unreachable, sa.false())))


def old_deliveries(now: datetime) -> sa.Select[Any]:
    d = push_delivery.c
    return sa.select(d.notification_id, d.subscription_id).where(d.created_at < now - DELIVERIES_KEPT)


def _may_read(connection: sa.Connection, account_id: str) -> sa.ColumnElement[bool]:
    """Whether a subscription was made for this account, or for all."""
    s = push_subscription.c
    if connection.dialect.name == "postgresql":
        each = sa.func.jsonb_array_elements_text(s.account_ids).table_valued("value").render_derived(name="each")
    else:
        each = sa.func.json_each(s.account_ids).table_valued("value", name="each")
    own = sa.exists().select_from(each).where(each.c.value == account_id)
    return (s.role != Role.MERCHANT.value) | own


def _failing(row: sa.RowMapping, now: datetime) -> bool:
    return row["failing_since"] is not None and row["failing_since"] < now - NOT_WAITED_FOR


def _update(connection: sa.Connection, subscription_id: str, **values: object) -> bool:
    statement = sa.update(push_subscription).where(push_subscription.c.id == subscription_id).values(**values)
    return connection.execute(statement).rowcount == 1


def _locked(connection: sa.Connection, *which: sa.ColumnElement[bool]) -> sa.RowMapping | None:
    return connection.execute(sa.select(push_subscription).where(*which).with_for_update()).mappings().one_or_none()


def _check_room(connection: sa.Connection, principal: Principal) -> None:
    mine = push_subscription.c.credential == principal.credential
    held = connection.scalar(sa.select(sa.func.count()).select_from(push_subscription).where(mine)) or 0
    if held >= MOST:
        raise TooManySubscriptions


def _audit(
    connection: sa.Connection,
    principal: Principal,
    action: str,
    row: sa.RowMapping,
    *,
    now: datetime,
    **details: str,
) -> None:
    """Under the account where there is but one: a merchant then finds it among its own."""
    accounts: Sequence[str] = sorted(principal.account_ids)
    record_audit(
        connection,
        principal,
        action,
        now=now,
        account_id=accounts[0] if len(accounts) == 1 else None,
        subject=f"push_subscription/{row['id']}",
        details={"service": row["address"]["host"], **details, "account_ids": list(accounts)},
    )


def _digest(endpoint: str) -> str:
    return hashlib.sha256(endpoint.encode()).hexdigest()


def _record(row: sa.RowMapping) -> SubscriptionRecord:
    kept = ("id", "created_at", "expires_at", "last_success_at", "last_failure_at", "last_failure")
    return SubscriptionRecord(
        service=row["address"]["host"],
        min_severity=Severity(row["min_severity"]),
        account_ids=tuple(row["account_ids"]),
        **{name: row[name] for name in kept},
    )
