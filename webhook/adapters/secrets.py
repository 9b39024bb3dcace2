"""Secrets at rest: Fernet (AES-128-CBC, HMAC-SHA256), any number of keys, the first of which encrypts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from webhook.domain.masking import ENCRYPTED
from webhook.ports import SecretUnreadable

_PURPOSE = b"sentinel: settings of channels at rest"


class SecretBox:
    """Encrypts and decrypts single texts. Without a key it passes plain values on and encrypts nothing."""

    def __init__(self, keys: Sequence[str] = (), secret_key: str | None = None) -> None:
        """`keys` as of `Fernet.generate_key`; a key derived from `secret_key` comes last, or is the only one.

        Raise ValueError that names the key by its place.
        """
        fernets = [_fernet(number, key) for number, key in enumerate(keys, 1)]
        if secret_key:
            fernets.append(Fernet(_derived(secret_key)))
        self._box = MultiFernet(fernets) if fernets else None

    def encrypt(self, text: str) -> str:
        """`enc:…`; what is encrypted already stays. Raise SecretUnreadable where there is no key."""
        if text.startswith(ENCRYPTED):
            return text
        return ENCRYPTED + self._keys().encrypt(text.encode()).decode()

    def decrypt(self, text: str) -> str:
        """The plain text, also of a value that was stored plain; raise SecretUnreadable."""
        if not text.startswith(ENCRYPTED):
            return text
        try:
            return self._keys().decrypt(text.removeprefix(ENCRYPTED)).decode()
        except InvalidToken:
            raise SecretUnreadable(
                f"it was encrypted {_written(text)}with a key that is not among SENTINEL_ENCRYPTION_KEYS, nor made of "
                "SENTINEL_SECRET_KEY"
            ) from None

    def rotate(self, text: str) -> str:
        """Encrypted with the first key, whatever it was before; raise SecretUnreadable."""
        return self.encrypt(self.decrypt(text))

    def _keys(self) -> MultiFernet:
        if self._box is None:
            raise SecretUnreadable("SENTINEL_ENCRYPTION_KEYS or SENTINEL_SECRET_KEY must be set")
        return self._box


def new_key() -> str:
    return Fernet.generate_key().decode()


def _fernet(number: int, key: str) -> Fernet:
    try:
        return Fernet(key)
    except ValueError:
        raise ValueError(f"key {number} is no Fernet key: make one with `sentinel-webhook config new-key`") from None


def _written(text: str) -> str:
    """When, which tells which key it was; a token says it in plain, from its second byte on."""
    try:
        seconds = int.from_bytes(base64.urlsafe_b64decode(text.removeprefix(ENCRYPTED))[1:9], "big")
        return f"{datetime.fromtimestamp(seconds, UTC):at %Y-%m-%d %H:%M UTC }"
    except (ValueError, OverflowError, OSError):
        return ""


def _derived(secret: str) -> bytes:
    return base64.urlsafe_b64encode(HKDF(SHA256(), 32, salt=None, info=_PURPOSE).derive(secret.encode()))
