"""Who asks, and for which merchants: decided once at the door, carried by every request, checked where data is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from webhook.domain.alert import SYSTEM


class Role(StrEnum):
    """`admin` may do all; `ops` all but keys and other people's access; `merchant` its own accounts alone."""

    ADMIN = "admin"
    OPS = "ops"
    MERCHANT = "merchant"


class Right(StrEnum):
    """What a request wants to do; of a merchant always with its own accounts alone."""

    READ = "read"  # alerts, triggers, charts, statistics, live updates
    ACT = "act"  # resolve, dismiss, acknowledge, snooze, comment, resend
    CONFIGURE = "configure"  # what merchants are told, and when
    DIRECT = "direct"  # where the operator's own bot posts
    DELIVER = "deliver"  # alerts of anybody, as Alertmanager does
    REPORT = "report"  # metrics
    REPLAY = "replay"  # dead letters
    TEMPLATES = "templates"  # what models are asked
    AUDIT = "audit"  # who did what
    KEYS = "keys"  # who may come in


_ALL = (Role.ADMIN, Role.OPS, Role.MERCHANT)
_STAFF = (Role.ADMIN, Role.OPS)

MAY: Mapping[Right, tuple[Role, ...]] = {
    Right.READ: _ALL,
    Right.ACT: _ALL,
    Right.CONFIGURE: _ALL,
    Right.DIRECT: _STAFF,
    Right.DELIVER: _STAFF,
    Right.REPORT: _ALL,
    Right.REPLAY: _STAFF,
    Right.TEMPLATES: _STAFF,
    Right.AUDIT: _ALL,
    Right.KEYS: (Role.ADMIN,),
}
"""Which roles have a right. The same table, in words, is in docs/access.md."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who was let in. `credential` names what they came with, never the secret, e.g. `api_key/sk_1a2b3c4d`.

    `account_ids` bounds a merchant; of other roles it is empty and bounds nothing. `address` is where they called
    from, empty for what did not come over the network.
    """

    name: str
    role: Role
    credential: str
    account_ids: frozenset[str] = frozenset()
    address: str = ""

    @property
    def accounts(self) -> frozenset[str] | None:
        """The accounts whose rows may be read or changed; None for all. A merchant without accounts sees nothing."""
        return self.account_ids if self.role is Role.MERCHANT else None

    def may_see(self, account_id: str) -> bool:
        return self.accounts is None or account_id in self.accounts

    def may(self, right: Right) -> bool:
        return self.role in MAY[right]


STAFF = "staff"
"""What merchants are told of whoever serves them."""


def named_to(reader: Principal, name: str, role: str) -> str:
    """Who made a change, as `reader` may know it: merchants are named to all, staff to staff."""
    return name if reader.accounts is None or role == Role.MERCHANT or name == SYSTEM else STAFF


SYSTEM_PRINCIPAL = Principal(SYSTEM, Role.ADMIN, "")
"""What no person does."""
