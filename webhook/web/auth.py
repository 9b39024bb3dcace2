"""The doors: who comes with what, and who that makes them.

Who is not let in is answered with 401 by the API and sent to the login page by the pages; 429 is for guessing and for
asking too often. Programs bring the admin token or an API key with every request, people a session that stands for
one of these or for a login at the OpenID provider.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from flask import g, redirect, request, session, url_for
from werkzeug.exceptions import Unauthorized
from werkzeug.wrappers import Response as AnyResponse

from webhook.domain.access import Principal, Role, Tenure, token_mark
from webhook.storage.keys import KeyRecord, prefix_of
from webhook.web.access import admit, principal
from webhook.web.contracts import ADMIN_SESSION, ADMIN_TOKEN
from webhook.web.keyring import KeyRing
from webhook.web.people import Person
from webhook.web.rates import Rates
from webhook.web.security import SESSION_LIFETIME, protect

LOGIN_WANTED = "Send an API key as `X-API-Key` or `Authorization: Bearer …`, or log in."
WRONG = "The token or key is not right."


class Gate:
    """Says who a request is from. A session holds digests: a new admin token, a key's end, end its sessions."""

    def __init__(
        self,
        admin_token: str,
        secret: bytes,
        keys: KeyRing,
        rates: Rates,
        clock: Callable[[], datetime],
        *,
        realm: str = "",
    ) -> None:
        if not admin_token:
            raise ValueError("the admin token is empty")
        self._token = hashlib.sha256(admin_token.encode()).digest()
        self._admin_mark = token_mark(admin_token)
        self._secret = secret
        self._realm = realm
        self._clock = clock
        self.keys = keys
        self.rates = rates

    def _mark(self, what: bytes) -> str:
        return hmac.new(self._secret, what, hashlib.sha256).hexdigest()[:32]

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._token)

    def check(self, given: str) -> Principal | KeyRecord | None:
        """The admin, or the key, that `given` is; None for a wrong one, TooManyRequests from an address that guesses.

        A right one always passes: behind a proxy everybody may have the address of the one who guesses.
        """
        address = request.remote_addr or ""
        found = Principal("admin", Role.ADMIN, ADMIN_TOKEN, address=address) if self._knows(given) else None
        key = None if found else self.keys.opened_by(given)
        if found or key:
            return found or key
        self.rates.guessed(address)
        return None

    def enter(self, given: str) -> bool:
        """Open a session for who knows the admin token or an API key."""
        found = self.check(given)
        if found is None:
            return False
        if isinstance(found, KeyRecord):
            self._open({"kind": "key", "key": found.prefix, "mark": self._mark(found.secret_hash.encode())})
        else:
            self._open({"kind": "admin", "mark": self._mark(self._token)})
        return True

    def right_link(self, given: str) -> bool:
        """Whether this is the admin token, the only one that a link may hold: a key in it could be anybody's.

        TooManyRequests from an address that guesses.
        """
        if self._knows(given):
            return True
        if prefix_of(given) is None:  # of what looks like a key nothing is found out
            self.rates.guessed(request.remote_addr or "")
        return False

    def enter_as(self, person: Person) -> None:
        """Open a session for somebody whom the OpenID provider named."""
        self._open(
            {
                "kind": "oidc",
                "mark": self._mark(f"oidc {person.realm}".encode()),
                "name": person.name,
                "role": person.role.value,
                "credential": person.credential,
                "accounts": sorted(person.account_ids),
            },
            person.until,
        )

    def _open(self, held: Mapping[str, Any], until: datetime | None = None) -> None:
        """What the session held before goes: nothing in it is to outlive who it was of."""
        session.clear()
        session.permanent = True
        session.update(held, until=(until or self._clock() + SESSION_LIFETIME).isoformat())
        g.pop("visitor", None)

    def visitor(self) -> Principal | None:
        """Whose session this is; None without one, and where what it stands for has ended."""
        if "visitor" not in g:
            g.visitor = self._visitor(session, request.remote_addr or "")
        found: Principal | None = g.visitor
        return found

    def staying(self) -> Callable[[], bool]:
        """For who stays longer than this request: says whether they would be let in still, for the same accounts."""
        came, address = principal(), request.remote_addr or ""
        if credential_of_request() is None:
            held = dict(session)
            return lambda: self._visitor(held, address) == came
        kind, _, prefix = came.credential.partition("/")
        if kind != "api_key":
            return lambda: True  # the admin token is another one only after a restart

        def valid() -> bool:
            key = self.keys.valid(prefix)
            return key is not None and of_key(key, address) == came

        return valid

    def tenure(self) -> Tenure:
        """How long what this request came with is good for, for what is kept beyond it."""
        came = principal()
        if came.credential.startswith("api_key/"):
            return Tenure()
        by_session = credential_of_request() is None
        until = datetime.fromisoformat(session["until"]) if by_session else self._clock() + SESSION_LIFETIME
        return Tenure(until, self._admin_mark if came.credential in (ADMIN_TOKEN, ADMIN_SESSION) else "")

    def _visitor(self, held: Mapping[str, Any], address: str) -> Principal | None:
        kind, mark = held.get("kind"), str(held.get("mark", ""))
        if "until" not in held or self._clock() >= datetime.fromisoformat(held["until"]):
            return None
        if kind == "admin" and hmac.compare_digest(mark, self._mark(self._token)):
            return Principal("admin", Role.ADMIN, ADMIN_SESSION, address=address)
        if kind == "key":
            key = self.keys.valid(str(held["key"]))
            if key is not None and hmac.compare_digest(mark, self._mark(key.secret_hash.encode())):
                return of_key(key, address)
        if kind == "oidc" and hmac.compare_digest(mark, self._mark(f"oidc {self._realm}".encode())):
            accounts = frozenset(held["accounts"])
            return Principal(held["name"], Role(held["role"]), held["credential"], accounts, address)
        return None


def of_key(key: KeyRecord, address: str) -> Principal:
    return Principal(key.name, key.role, f"api_key/{key.prefix}", frozenset(key.account_ids), address)


def credential_of_request() -> str | None:
    """The token or key that a program sent; None for none. Raise Unauthorized for what is no bearer."""
    key = request.headers.get("X-API-Key", "").strip()
    header = request.headers.get("Authorization", "")
    if not header:
        return key or None
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized(WRONG)
    if key and not hmac.compare_digest(key.encode(), token.encode()):
        raise Unauthorized("X-API-Key and Authorization differ: send one of them.")
    return token


def principal_of(gate: Gate, given: str) -> Principal:
    """Raise Unauthorized for a wrong token or key, TooManyRequests for one more of many."""
    found = gate.check(given)
    if found is None:
        raise Unauthorized(WRONG)
    return of_key(found, request.remote_addr or "") if isinstance(found, KeyRecord) else found


def require_login(gate: Gate) -> Callable[[], AnyResponse | None]:
    """A `before_request` for pages: to the login page and back again."""

    def check() -> AnyResponse | None:
        gate.rates.take_address(request.remote_addr or "")
        visitor = gate.visitor()
        if visitor is None:
            wanted = request.full_path.rstrip("?") if request.method == "GET" else request.path
            target = wanted if request.method == "GET" else wanted.rsplit("/", 1)[0]
            return redirect(url_for("login.form", next=target or None), 303)
        protect()
        gate.rates.take(visitor, request.method)
        admit(visitor)
        return None

    return check


def require_credentials(gate: Gate) -> Callable[[], None]:
    """A `before_request` for the API: token or key, or a session and, to change something, its CSRF token."""

    def check() -> None:
        gate.rates.take_address(request.remote_addr or "")
        given = credential_of_request()
        if given is not None:
            found = principal_of(gate, given)
        else:
            visitor = gate.visitor()
            if visitor is None:
                raise Unauthorized(LOGIN_WANTED)
            protect()
            found = visitor
        gate.rates.take(found, request.method)
        admit(found)

    return check
