"""How a source proves who asks: the configuration of each kind, and the header that it becomes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Annotated, Literal, Self

import requests
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, Tag, model_validator
from requests.auth import AuthBase

from exporter.collectors.by_type import by_type
from exporter.environment import Secrets, references
from exporter.errors import SecretMissing
from exporter.model import LATE, OptionalTemplate, SecretTemplate, StrictModel, Template, exactly_one

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]


def web_address(url: str) -> str:
    """A URL that starts with http:// or https://, or with a reference, and has no credentials in it."""
    scheme, separator, rest = url.partition("://")
    if not url.startswith("${") and (scheme.lower() not in ("http", "https") or not separator):
        raise ValueError("is no web address: start it with https:// or http://")
    if "@" in rest.partition("/")[0]:
        raise ValueError("has a user or password in it: remove them and use auth")
    return url


class Credentials(AuthBase):
    """What a request proves itself with; `what` names it in messages, such as `the token from API_TOKEN`.

    This base adds nothing to a request: the credentials are in its body, or in its connection.
    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class HeaderAuth(Credentials):
    """One header that carries the credentials. Set here, so that no `.netrc` entry for the host replaces it."""

    def __init__(self, header: str, value: str, what: str) -> None:
        super().__init__(what)
        self.header = header
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self.header] = self._value
        return request


def usable_token(token: str, what: str) -> str:
    """SecretMissing for text that cannot be a token, most often an empty variable or a whole file."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise SecretMissing(f"{what} is empty or has characters that no token has, such as a space")
    return token


class _TokenConfig(StrictModel):
    """A token from one of three places."""

    token: SecretTemplate = Field(None, description="The token, as `${VARIABLE}`: a secret does not stand in the file.")
    token_env: str | None = Field(None, description="Variable that holds the token.")
    token_file: str | None = Field(None, description="File that holds the token.")

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        exactly_one(self, "token_env", "token_file", "token")
        return self

    def _header(self, secrets: Secrets, scheme: str) -> HeaderAuth:
        what = f"the token from {self.token_env or self.token_file or '${…}'}"
        token = secrets.secret(env=self.token_env, file=self.token_file, template=self.token)
        return HeaderAuth("Authorization", f"{scheme} {usable_token(token or '', what)}", what)


class BearerConfig(_TokenConfig):
    """A token sent as `Authorization: Bearer …`."""

    type: Literal["bearer_token"] = Field(description="`bearer_token`.")

    def header(self, secrets: Secrets) -> HeaderAuth:
        return self._header(secrets, "Bearer")


class SplunkTokenConfig(_TokenConfig):
    """A session key sent as `Authorization: Splunk …`."""

    type: Literal["splunk_token"] = Field(description="`splunk_token`.")

    def header(self, secrets: Secrets) -> HeaderAuth:
        return self._header(secrets, "Splunk")


class BasicConfig(StrictModel):
    """User and password, sent as `Authorization: Basic …`."""

    type: Literal["basic"] = Field(description="`basic`.")
    username: OptionalTemplate = Field(None, description="The user's name.")
    username_env: str | None = Field(None, description="Variable that holds the user's name.")
    password: SecretTemplate = Field(
        None, description="The password, as `${VARIABLE}`: a secret does not stand in the file."
    )
    password_env: str | None = Field(None, description="Variable that holds the password.")
    password_file: str | None = Field(None, description="File that holds the password.")

    @model_validator(mode="after")
    def _one_of_each(self) -> BasicConfig:
        exactly_one(self, "username_env", "username")
        exactly_one(self, "password_env", "password_file", "password")
        return self

    def header(self, secrets: Secrets) -> HeaderAuth:
        user = secrets.variable(self.username_env) if self.username_env else secrets.expand(self.username or "")
        password = secrets.secret(env=self.password_env, file=self.password_file, template=self.password) or ""
        if ":" in user:
            raise SecretMissing("the username for basic auth has a colon in it, which basic auth cannot carry")
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        secrets.hide(encoded)
        origin = self.password_env or self.password_file or "${…}"
        return HeaderAuth("Authorization", f"Basic {encoded}", f"user {user} with the password from {origin}")


class ApiKeyConfig(StrictModel):
    """A key sent in a header of its own."""

    type: Literal["api_key"] = Field(description="`api_key`.")
    name: HeaderName = Field("X-API-Key", description="The header.")
    key: SecretTemplate = Field(None, description="The key, as `${VARIABLE}`: a secret does not stand in the file.")
    key_env: str | None = Field(None, description="Variable that holds the key.")
    key_file: str | None = Field(None, description="File that holds the key.")

    @model_validator(mode="after")
    def _one_key(self) -> ApiKeyConfig:
        exactly_one(self, "key_env", "key_file", "key")
        return self

    def header(self, secrets: Secrets) -> HeaderAuth:
        what = f"the key from {self.key_env or self.key_file or '${…}'}"
        key = secrets.secret(env=self.key_env, file=self.key_file, template=self.key)
        return HeaderAuth(self.name, usable_token(key or "", what), what)


class OAuth2Config(StrictModel):
    """A token fetched with OAuth2 client credentials (RFC 6749, section 4.4)."""

    type: Literal["oauth2"] = Field(description="`oauth2`.")
    token_url: Annotated[Template, AfterValidator(web_address)] = Field(description="Where tokens are fetched.")
    client_id: OptionalTemplate = Field(None, description="Who asks.")
    client_id_env: str | None = Field(None, description="Variable that holds the client's id.")
    client_secret: SecretTemplate = Field(
        None, description="The client's secret, as `${VARIABLE}`: a secret does not stand in the file."
    )
    client_secret_env: str | None = Field(None, description="Variable that holds the client's secret.")
    client_secret_file: str | None = Field(None, description="File that holds the client's secret.")
    scopes: tuple[str, ...] = Field((), description="What the token is asked for.")
    token_params: Annotated[dict[str, str], LATE] = Field(
        default_factory=dict, description="Further parameters of the request, such as an audience."
    )
    client_in: Literal["header", "body"] = Field("header", description="Where id and secret stand in the request.")

    @model_validator(mode="after")
    def _one_of_each(self) -> OAuth2Config:
        exactly_one(self, "client_id_env", "client_id")
        exactly_one(self, "client_secret_env", "client_secret_file", "client_secret")
        return self


_Bearer = Annotated[BearerConfig, Tag("bearer_token")]
_Basic = Annotated[BasicConfig, Tag("basic")]
AuthConfig = Annotated[
    _Bearer | _Basic | Annotated[ApiKeyConfig, Tag("api_key")] | Annotated[OAuth2Config, Tag("oauth2")],
    by_type("bearer_token", "basic", "api_key", "oauth2"),
]
SplunkAuthConfig = Annotated[
    _Bearer | _Basic | Annotated[SplunkTokenConfig, Tag("splunk_token")],
    by_type("bearer_token", "basic", "splunk_token"),
]


def variables(model: BaseModel | None) -> Iterator[str]:
    """Environment variables that a model's `*_env` keys and references need."""
    for name, value in model or ():
        if isinstance(value, str):
            yield from [value] if name.endswith("_env") else references(value)
        elif isinstance(value, dict):
            yield from (found for text in value.values() for found in references(text))
