"""The credentials of each request, and the OAuth2 token that is kept until it expires."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote_plus

from exporter.collectors.base import Collection
from exporter.collectors.http_auth import (
    ApiKeyConfig,
    BasicConfig,
    BearerConfig,
    Credentials,
    HeaderAuth,
    OAuth2Config,
    SplunkTokenConfig,
    usable_token,
)
from exporter.collectors.http_errors import place
from exporter.collectors.http_json import Answer, Call, HttpClient, Reading
from exporter.errors import BadAnswer, Unauthorized

_LONGEST_MARGIN = 30.0
HeaderConfig = BearerConfig | BasicConfig | ApiKeyConfig | SplunkTokenConfig


class Login(Protocol):
    """Says who asks, anew for each request."""

    def credentials(self, collection: Collection) -> Credentials | None:
        """What goes with the next request. SecretMissing, or what fetching a token raises."""

    def renewed(self) -> bool:
        """After a refusal: whether the next credentials are other ones, for these were kept from an earlier request."""


class _Header:
    """Credentials that are read from the environment each time, or none at all."""

    def __init__(self, config: HeaderConfig | None) -> None:
        self._config = config

    def credentials(self, collection: Collection) -> Credentials | None:
        return self._config.header(collection.secrets) if self._config else None

    def renewed(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class _Token:
    """A token, the client that it was given to, and until when it is used, on the collection's clock."""

    text: str
    client: str
    until: float


class _OAuth2:
    """Client credentials, exchanged for a token that is kept until shortly before it expires."""

    def __init__(self, config: OAuth2Config, client: HttpClient) -> None:
        self._config = config
        self._client = client
        self._token: _Token | None = None

    def credentials(self, collection: Collection) -> Credentials | None:
        secrets, config = collection.secrets, self._config
        name = (
            secrets.variable(config.client_id_env) if config.client_id_env else secrets.expand(config.client_id or "")
        )
        secret = secrets.secret(
            env=config.client_secret_env, file=config.client_secret_file, template=config.client_secret
        )
        url = secrets.expand(config.token_url)
        client = hashlib.sha256(f"{url}\n{name}\n{secret}".encode()).hexdigest()
        token = self._token
        if token is None or token.client != client or collection.clock() >= token.until:
            text, lifetime = self._fetched(url, name, secret or "", collection)
            token = self._token = _Token(text, client, collection.clock() + lifetime)
        secrets.hide(token.text)
        return HeaderAuth("Authorization", f"Bearer {token.text}", f"the token from {place(url)}")

    def renewed(self) -> bool:
        had, self._token = self._token, None
        return had is not None

    def _fetched(self, url: str, name: str, secret: str, collection: Collection) -> tuple[str, float]:
        """A token and for how many seconds it is used."""
        config = self._config
        expand = collection.secrets.expand
        form = {"grant_type": "client_credentials"} | ({"scope": " ".join(config.scopes)} if config.scopes else {})
        form |= {key: expand(text) for key, text in config.token_params.items()}
        what = f"client {name} with the secret from {config.client_secret_env or config.client_secret_file or '${…}'}"
        credentials: Credentials = Credentials(what)
        if config.client_in == "body":
            form |= {"client_id": name, "client_secret": secret}
        else:
            pair = base64.b64encode(f"{quote_plus(name)}:{quote_plus(secret)}".encode()).decode()
            collection.secrets.hide(pair)
            credentials = HeaderAuth("Authorization", f"Basic {pair}", what)
        reading = Reading(self._client.decoded, _error_words, Unauthorized)
        answer = self._client.ask(Call(url, "POST", form=form), credentials, collection, reading)
        return _token_of(answer, place(url))


def login_of(config: HeaderConfig | OAuth2Config | None, client: HttpClient) -> Login:
    return _OAuth2(config, client) if isinstance(config, OAuth2Config) else _Header(config)


def _token_of(answer: Answer, where: str) -> tuple[str, float]:
    data = answer.data if isinstance(answer.data, dict) else {}
    token, kind, lifetime = data.get("access_token"), data.get("token_type", "Bearer"), data.get("expires_in")
    if not isinstance(token, str):
        raise BadAnswer(f"{where} gave no access_token: is token_url right? It has {', '.join(data) or 'no keys'}")
    if str(kind).lower() != "bearer":
        raise BadAnswer(f"{where} gave a token of type {kind!r}: only bearer tokens can be sent")
    try:
        seconds = float("inf") if lifetime is None else float(lifetime)
    except (TypeError, ValueError):
        seconds = 0.0  # it says something that is no time: good for this request only
    return usable_token(token, f"the token from {where}"), seconds - min(_LONGEST_MARGIN, seconds / 10)


def _error_words(body: bytes) -> str:
    """`error` and `error_description` of an answer as RFC 6749, section 5.2 has it."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    said = [data.get(key) for key in ("error", "error_description")] if isinstance(data, dict) else []
    return ": ".join(text[:200] for text in said if isinstance(text, str))
