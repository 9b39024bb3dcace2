"""Who may ask: basic and bearer authentication. Credentials are read anew at every request, so they can be rotated."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable

import structlog

from exporter.environment import Secrets
from exporter.errors import CannotServe, SecretMissing
from exporter.server_config import ServerAuthConfig, TokenConfig, UserConfig

log = structlog.get_logger()


class Access:
    """Checks the Authorization header. Without `auth` everybody may ask."""

    def __init__(self, auth: ServerAuthConfig | None, secrets: Callable[[], Secrets] = Secrets) -> None:
        """CannotServe when a password or token is missing or empty at the start."""
        self._auth = auth
        self._secrets = secrets
        self._missing: set[str] = set()
        for credential in self._credentials:
            try:
                _secret(credential, secrets())
            except SecretMissing as error:
                raise CannotServe(f"exporter.auth: {error}") from None

    @property
    def required(self) -> bool:
        return self._auth is not None

    @property
    def challenges(self) -> tuple[str, ...]:
        """What to ask a client for: values of WWW-Authenticate."""
        if self._auth is None:
            return ()
        basic = ('Basic realm="sentinel-exporter", charset="UTF-8"',) if self._auth.users else ()
        return (*basic, *(('Bearer realm="sentinel-exporter"',) if self._auth.tokens else ()))

    def admits(self, authorization: str) -> bool:
        """Whether the header carries one of the credentials. All are compared, in the same time for any of them."""
        if self._auth is None:
            return True
        scheme, _, value = authorization.partition(" ")
        sent = _sent(scheme.lower(), value.strip())
        if sent is None:
            return False
        found = False
        for credential in self._credentials:
            expected = self._expected(credential)
            if expected is not None:
                found |= hmac.compare_digest(_digest(sent), _digest(expected))
        return found

    @property
    def _credentials(self) -> tuple[UserConfig | TokenConfig, ...]:
        return () if self._auth is None else (*self._auth.users, *self._auth.tokens)

    def _expected(self, credential: UserConfig | TokenConfig) -> tuple[str, bytes] | None:
        """None while the secret is missing, which is logged once: that credential lets nobody in."""
        try:
            secret = _secret(credential, self._secrets()).encode()
        except SecretMissing as error:
            if str(error) not in self._missing:
                log.error("credential cannot be used", error=str(error))  # noqa: TRY400 - the message says it all
            self._missing.add(str(error))
            return None
        if isinstance(credential, UserConfig):
            return "basic", credential.username.encode() + b":" + secret
        return "bearer", secret


def _secret(credential: UserConfig | TokenConfig, secrets: Secrets) -> str:
    """SecretMissing also for an empty one, which would let everybody in who sends nothing."""
    if isinstance(credential, UserConfig):
        env, file, template = credential.password_env, credential.password_file, credential.password
    else:
        env, file, template = credential.token_env, credential.token_file, credential.token
    secret = secrets.secret(env=env, file=file, template=template)
    if not secret:
        raise SecretMissing(f"the secret from {env or file or template} is empty")
    return secret


def _sent(scheme: str, value: str) -> tuple[str, bytes] | None:
    if scheme == "bearer":
        return scheme, value.encode("latin-1", "replace")
    if scheme == "basic":
        try:
            return scheme, base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return None
    return None


def _digest(credential: tuple[str, bytes]) -> bytes:
    """Of one length, so that comparing tells nothing of the secret's."""
    scheme, value = credential
    return hashlib.sha256(scheme.encode() + b"\0" + value).digest()
