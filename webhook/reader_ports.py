"""What the channel `webapp` needs of the store: who reads it, and which browsers are told besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from webhook.domain.message import Message


@dataclass(frozen=True, slots=True)
class PushTarget:
    """A browser that wants messages: where its push service takes them, and the keys that they are encrypted for.

    `failing`: it could not be reached for long, so nobody waits for it.
    """

    id: str
    endpoint: str = field(repr=False)
    p256dh: str
    auth: str = field(repr=False)
    failing: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """When a message first became visible to readers, and the browsers that have not got it yet.

    `waiting` more are left alone for now, as their push services asked; no key opens the secrets of `unreadable` ones.
    """

    at: datetime
    targets: Sequence[PushTarget]
    waiting: int = 0
    unreadable: int = 0


class Readers(Protocol):
    """Who reads the web app. Each call is one transaction; raises StoreConflict or StoreUnavailable."""

    def publish(self, message: Message, payload: Mapping[str, Any], now: datetime) -> Published:
        """Show a message to readers of its account; a second time changes nothing."""

    def reached(self, target_id: str, notification_id: str, now: datetime) -> None:
        """This browser has this message."""

    def missed(self, target_id: str, why: str, now: datetime, not_before: datetime | None = None) -> None:
        """It could not be reached; it is to be left alone until `not_before`."""

    def gone(self, target_id: str) -> None:
        """It does not want messages any more."""
