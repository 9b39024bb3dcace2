"""`exporter:` in the configuration: where it listens, who may ask, and how much one client may take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from exporter.environment import references
from exporter.model import Duration, SecretTemplate, StrictModel, exactly_one

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(
        lambda level: level.upper() if isinstance(level, str) else level,
        json_schema_input_type=Literal["DEBUG", "INFO", "WARNING", "ERROR", "debug", "info", "warning", "error"],
    ),
]


class UserConfig(StrictModel):
    """A user who logs in with basic authentication."""

    username: Annotated[str, Field(pattern=r"^[^:\s]+$", description="The user's name, without a colon.")]
    password_env: str | None = Field(None, description="The variable that holds the password.")
    password_file: str | None = Field(None, description="The file that holds the password.")
    password: SecretTemplate = Field(None, description="The password as a reference, `${VARIABLE}`.")

    @model_validator(mode="after")
    def _one_password(self) -> UserConfig:
        exactly_one(self, "password_env", "password_file", "password")
        return self


class TokenConfig(StrictModel):
    """A client that sends `Authorization: Bearer …`."""

    token_env: str | None = Field(None, description="The variable that holds the token.")
    token_file: str | None = Field(None, description="The file that holds the token.")
    token: SecretTemplate = Field(None, description="The token as a reference, `${VARIABLE}`.")

    @model_validator(mode="after")
    def _one_token(self) -> TokenConfig:
        exactly_one(self, "token_env", "token_file", "token")
        return self


class ServerAuthConfig(StrictModel):
    """Who may ask. The probes `/-/healthy` and `/-/ready` stay open."""

    users: tuple[UserConfig, ...] = Field((), description="Names and passwords for basic authentication.")
    tokens: tuple[TokenConfig, ...] = Field((), description="Tokens for bearer authentication.")

    @model_validator(mode="after")
    def _somebody(self) -> ServerAuthConfig:
        if not self.users and not self.tokens:
            raise ValueError("would keep everybody out: add users or tokens, or remove auth")
        names = [user.username for user in self.users]
        if len(set(names)) < len(names):
            raise ValueError("has a user twice: name each once")
        return self


class ServerTlsConfig(StrictModel):
    """HTTPS. The files are read again when they change."""

    cert_file: str = Field(min_length=1, description="The certificate and what signed it, as PEM.")
    key_file: str = Field(min_length=1, description="The certificate's private key, as PEM without passphrase.")
    client_ca_file: str | None = Field(None, description="Only clients whose certificate this CA signed may connect.")
    min_version: Literal["1.2", "1.3"] = Field("1.2", description="The oldest TLS version that is spoken; in quotes.")


class LimitsConfig(StrictModel):
    """What one client, and all of them together, may take of the HTTP server."""

    max_connections: Annotated[int, Field(ge=1, le=10_000)] = Field(
        256, description="Connections at once; further ones are answered with 503."
    )
    read_timeout: Duration = Field(10.0, description="Within which a request must have arrived.")
    send_timeout: Duration = Field(60.0, description="Within which a client must have taken its answer.")
    idle_timeout: Duration = Field(90.0, description="How long a connection may stay open between two requests.")


class ServerConfig(StrictModel):
    """Where the exporter listens, who may ask, and how much it logs."""

    host: str = Field("127.0.0.1", description="The address to listen on; 0.0.0.0 to be reached from other machines.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="The TCP port; 0 for any free one.")
    log_level: LogLevel = Field("INFO", description="How much is logged.")
    warm_start: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="A directory for what is served, so that a restart begins with it."
    )
    auth: ServerAuthConfig | None = Field(None, description="Who may ask; everybody without it.")
    tls: ServerTlsConfig | None = Field(None, description="HTTPS instead of HTTP.")
    allow_reload: bool = Field(
        default=False,
        description="Without `auth`, whether other machines than this one may ask for a reload over HTTP.",
    )
    limits: LimitsConfig = Field(default_factory=LimitsConfig, description="What clients may take of the HTTP server.")

    def needs(self) -> tuple[str, ...]:
        """Names of the environment variables that the credentials of `auth` come from."""
        if self.auth is None:
            return ()
        names: list[str] = []
        for user in self.auth.users:
            names += [*([user.password_env] if user.password_env else []), *references(user.password or "")]
        for token in self.auth.tokens:
            names += [*([token.token_env] if token.token_env else []), *references(token.token or "")]
        return tuple(names)
