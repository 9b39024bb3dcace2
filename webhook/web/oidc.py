"""Login of people through an OpenID Connect provider: code flow with PKCE, state and nonce, all by Authlib."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.common.urls import add_params_to_uri
from authlib.integrations.flask_client import OAuth
from flask import Flask, session
from joserfc.errors import JoseError
from werkzeug.wrappers import Response as AnyResponse

from webhook.domain.access import Role
from webhook.web.people import LoginRefused, OidcSettings, Person

PROVIDER_TIMEOUT_S = 10
LEEWAY_S = 60
"""How far the provider's clock and ours may differ."""
SESSION = timedelta(hours=12)
"""After this the provider is asked again: it may have taken a role away."""
MOST_ACCOUNTS = 100
"""They travel in a cookie, of which browsers keep 4 kB."""
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Signatures with a key that only the provider has."""
CLIENT = "sentinel"
BEGUN = f"_state_{CLIENT}_"
"""How Authlib calls, in the session, what it keeps of a login that was begun."""
MOST_BEGUN = 3
GRAVEST_FIRST = (Role.ADMIN, Role.OPS, Role.MERCHANT)


class Oidc:
    """One provider. Its metadata and keys are read at the first login, not at the start."""

    def __init__(self, app: Flask, settings: OidcSettings, public_url: str, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._public_url = public_url
        self._clock = clock
        self._client = OAuth(app).register(
            CLIENT,
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            server_metadata_url=f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": " ".join(settings.scopes),
                "code_challenge_method": "S256",
                "default_timeout": PROVIDER_TIMEOUT_S,
            },
        )

    @property
    def name(self) -> str:
        return urlsplit(self._settings.issuer).hostname or ""

    def begin(self, callback: str) -> AnyResponse:
        """To the provider, which sends the person back to `callback`, a path of ours."""
        _forget_abandoned()
        try:
            self._metadata()
            answer: AnyResponse = self._client.authorize_redirect(self._absolute(callback))
        except (requests.RequestException, ValueError, RuntimeError) as error:
            raise _unreachable(error) from error
        return answer

    def arrive(self) -> Person:
        """Who came back. Raise LoginRefused for whoever cannot prove it, or has no role here."""
        try:
            self._metadata()
            token = self._client.authorize_access_token(
                claims_options={
                    "iss": {"essential": True, "value": self._settings.issuer},
                    "aud": {"essential": True, "value": self._settings.client_id},
                },
                leeway=LEEWAY_S,
            )
        except requests.RequestException as error:
            raise _unreachable(error) from error
        except (AuthlibBaseError, JoseError) as error:
            raise _refusal(error) from error
        except (ValueError, RuntimeError) as error:  # an answer that is no JSON, keys that are none
            raise _unreachable(error) from error
        claims = token.get("userinfo")
        if not claims:
            raise LoginRefused("The provider did not say who you are.", HTTPStatus.BAD_GATEWAY, "no id_token")
        return self._person(claims)

    def logout_url(self, back: str) -> str | None:
        """Where the person ends the provider's session; None where it has no such place, or is away."""
        try:
            end = self._metadata().get("end_session_endpoint")
        except (requests.RequestException, ValueError, LoginRefused):
            return None
        asked = {"client_id": self._settings.client_id, "post_logout_redirect_uri": self._absolute(back)}
        url: str | None = end and add_params_to_uri(end, list(asked.items()))
        return url

    def _absolute(self, path: str) -> str:
        """By the configured address: the Host header is whatever somebody sent."""
        return urljoin(self._public_url + "/", path)

    def _metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = self._client.load_server_metadata()
        if metadata.get("issuer") != self._settings.issuer:
            said = f"its metadata names the issuer {metadata.get('issuer')!r}"
            self._client.server_metadata.clear()
            raise LoginRefused("The provider is not the one that is configured.", HTTPStatus.BAD_GATEWAY, said)
        # Never "none", nor an HMAC for which our own secret or a public key would do.
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        # Of an empty list the library would make its own, with HMAC in it.
        metadata["id_token_signing_alg_values_supported"] = sorted(ALGORITHMS.intersection(offered)) or ["RS256"]
        return metadata

    def _person(self, claims: Mapping[str, Any]) -> Person:
        name = _name(claims)
        role = self._role(claims)
        accounts = frozenset(_texts(claim(claims, self._settings.accounts_claim))) if role is Role.MERCHANT else None
        if accounts is not None and not 0 < len(accounts) <= MOST_ACCOUNTS:
            words = f"{name} is a merchant, but {'of too many accounts' if accounts else 'of no account'}."
            raise LoginRefused(words, HTTPStatus.FORBIDDEN, f"claim {self._settings.accounts_claim}")
        credential = _credential(str(claims["sub"]))
        return Person(name, role, credential, accounts or frozenset(), self._clock() + SESSION, self._settings.realm)

    def _role(self, claims: Mapping[str, Any]) -> Role:
        given = _texts(claim(claims, self._settings.role_claim))
        roles = {self._settings.roles[value] for value in given if value in self._settings.roles}
        for role in GRAVEST_FIRST:
            if role in roles:
                return role
        words = "You are known to the provider, but have no role in Sentinel. Ask whoever runs it."
        raise LoginRefused(words, HTTPStatus.FORBIDDEN, f"no value of {self._settings.role_claim} is mapped")


def claim(claims: Mapping[str, Any], name: str) -> object:
    """By its whole name, else along the dots; None where there is none."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _name(claims: Mapping[str, Any]) -> str:
    """What the audit log calls them: an address only where the provider does not say that it is unproved."""
    email = None if claims.get("email_verified") in (False, "false") else claims.get("email")
    return str(email or claims.get("preferred_username") or claims["sub"])[:255]


def _forget_abandoned() -> None:
    """Keep the newest logins that were begun and not ended: of all of them the cookie would grow beyond 4 kB."""
    begun = [name for name in session if name.startswith(BEGUN)]
    for name in sorted(begun, key=lambda name: session[name]["exp"])[: 1 - MOST_BEGUN]:
        session.pop(name)


def _texts(value: object) -> list[str]:
    """A claim holds one text or a list of them."""
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text]


def _credential(subject: str) -> str:
    """At most 64 characters, as the store keeps it."""
    plain = f"oidc/{subject}"
    return plain if len(plain) <= 64 else f"oidc/{hashlib.sha256(subject.encode()).hexdigest()[:40]}"  # noqa: PLR2004


def _unreachable(error: Exception) -> LoginRefused:
    cause = type(error).__name__
    return LoginRefused("The login provider cannot be reached now. Try again later.", HTTPStatus.BAD_GATEWAY, cause)


def _refusal(error: AuthlibBaseError | JoseError) -> LoginRefused:
    """Provider's and library's own words go to the log: the page shows none that a stranger can write."""
    cause = f"{error.error}: {error.description}" if error.description else str(error.error)
    words = {
        "access_denied": "The provider did not let you in.",
        "mismatching_state": "This login was not begun here, or too long ago. Please try again.",
        "expired_token": "The provider's answer had expired. Please try again.",
    }
    return LoginRefused(
        words.get(str(error.error), "The provider's answer could not be trusted. Please try again."),
        HTTPStatus.UNAUTHORIZED,
        cause[:300],
    )
