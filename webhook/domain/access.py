"""Who asks, and for which merchants: decided once at the door, carried by every request, checked where data is read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """`admin` may do all; `ops` all but keys and other people's access; `merchant` its own accounts alone."""

    ADMIN = "admin"
    OPS = "ops"
    MERCHANT = "merchant"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who was let in. `credential` names what they came with, never the secret, e.g. `api_key/sk_1a2b3c4d`.

    `account_ids` bounds a merchant; of other roles it is empty and bounds nothing.
    """

    name: str
    role: Role
    credential: str
    account_ids: frozenset[str] = frozenset()

    @property
    def accounts(self) -> frozenset[str] | None:
        """The accounts whose rows may be read or changed; None for all. A merchant without accounts sees nothing."""
        return self.account_ids if self.role is Role.MERCHANT else None

    def may_see(self, account_id: str) -> bool:
        return self.accounts is None or account_id in self.accounts
