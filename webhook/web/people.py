"""People whom a login provider vouches for: what is told of them, and how they are turned away.

LoginRefused        with a status and words for the person; `cause` is for the log
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus

from webhook.domain.access import Role


class LoginRefused(Exception):  # noqa: N818 - an answer to a person
    def __init__(self, words: str, status: HTTPStatus, cause: str = "") -> None:
        super().__init__(words)
        self.status = status.value
        self.cause = cause


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """`roles` gives the role for a value of `role_claim`; the role that may do most wins.

    A claim inside another is named with dots, e.g. `realm_access.roles`.
    """

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    roles: Mapping[str, Role]
    scopes: Sequence[str] = ("openid", "profile", "email")
    role_claim: str = "groups"
    accounts_claim: str = "account_ids"

    @property
    def realm(self) -> str:
        """Changes with whom we trust and what for: sessions from before end."""
        rules = sorted((value, role.value) for value, role in self.roles.items())
        said = repr((self.issuer, self.client_id, self.role_claim, self.accounts_claim, rules))
        return hashlib.sha256(said.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom the OpenID provider vouches for, until `until`; `realm` changes with the provider's settings."""

    name: str
    role: Role
    credential: str
    account_ids: frozenset[str]
    until: datetime
    realm: str
