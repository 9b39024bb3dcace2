"""All that decides who comes in, wired: cookies and headers, keys, limits, and the login provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from flask import Flask

from webhook.storage.database import Database
from webhook.web.auth import Gate
from webhook.web.keyring import KeyRing
from webhook.web.people import OidcSettings
from webhook.web.rates import Rates, RateSettings
from webhook.web.security import secure_application, session_secret, trust_proxies

if TYPE_CHECKING:
    from webhook.web.oidc import Oidc


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """`public_url` is where people find us; `trusted_proxies` counts those between them and this process."""

    admin_token: str = field(repr=False)
    public_url: str = "http://127.0.0.1:8080"
    rates: RateSettings = field(default_factory=RateSettings)
    trusted_proxies: int = 0
    oidc: OidcSettings | None = None


@dataclass(frozen=True, slots=True)
class Doors:
    gate: Gate
    oidc: Oidc | None = None


def open_doors(app: Flask, settings: DoorSettings, database: Database, clock: Callable[[], datetime]) -> Doors:
    """Where `app.secret_key` is not set it is derived from the admin token. Raises ValueError for an empty token."""
    secure_application(app, settings.public_url)
    trust_proxies(app, settings.trusted_proxies)
    realm = settings.oidc.realm if settings.oidc else ""
    secret, keys = session_secret(app, settings.admin_token), KeyRing(database, clock)
    gate = Gate(settings.admin_token, secret, keys, Rates(settings.rates), clock, realm=realm)
    if settings.oidc is None:
        return Doors(gate)
    from webhook.web.oidc import Oidc  # noqa: PLC0415 - Authlib is an extra, for those who log in so

    return Doors(gate, Oidc(app, settings.oidc, settings.public_url, clock))
