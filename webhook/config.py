"""Settings from `SENTINEL_*` variables, checked as a whole. Secrets may come from `SENTINEL_<NAME>_FILE` instead."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import durationpy
import yaml
from limits import parse_many
from pydantic import (
    Field,
    HttpUrl,
    PlainValidator,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from webhook.alert_type_settings import CanaryEntry, ConfigFile, Duration
from webhook.channel_options import with_secrets
from webhook.config_error import ConfigError
from webhook.domain.access import Role
from webhook.domain.alert import AlertTypes
from webhook.domain.channel_choice import Channels
from webhook.domain.ledger import IngestSettings
from webhook.grafana_settings import GrafanaSettings, grafana_settings
from webhook.summary_settings import LONGEST_BUDGET, ModelOptions, SummarySettings, summary_settings

if TYPE_CHECKING:
    from webhook.adapters.secrets import SecretBox

__all__ = ["ConfigError", "Settings", "load_settings"]

PREFIX = "SENTINEL_"
SECRETS = (
    "database_url",
    "ingest_token",
    "ingest_hmac_secret",
    "metrics_token",
    "admin_token",
    "secret_key",
    "encryption_keys",
    "slack_bot_token",
    "llm_api_key",
    "oidc_client_secret",
    "redis_url",
)


def _url(value: object) -> str:
    text = str(value).rstrip("/")
    TypeAdapter(HttpUrl).validate_python(text)
    return text


def _members(value: object) -> str:
    return "|".join(_url(each.strip()) for each in str(value).split("|"))


Url = Annotated[str, PlainValidator(_url)]
Cluster = Annotated[str, PlainValidator(_members)]
"""Addresses of its members with | between them, or the one of who is no cluster."""


def _issuer(value: object) -> str:
    """To the letter as the provider spells it, with or without a slash at its end."""
    TypeAdapter(HttpUrl).validate_python(value)
    return str(value)


Issuer = Annotated[str, PlainValidator(_issuer)]


def _rate_limit(value: object) -> str:
    """`600/minute`, several with `;` between them, or `off`, which is empty here."""
    text = str(value).strip()
    if text in ("", "off"):
        return ""
    try:
        parse_many(text)
    except ValueError as error:
        raise ValueError("must be a limit such as 600/minute, or off") from error
    return text


RateLimit = Annotated[str, PlainValidator(_rate_limit)]


class Settings(BaseSettings):
    """All that the processes are told from outside."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", hide_input_in_errors=True)

    database_url: SecretStr = Field(
        SecretStr("sqlite:///sentinel.db"), description="`sqlite:///…` or `postgresql://…`."
    )
    ingest_token: SecretStr | None = Field(
        None,
        description="What Alertmanager brings; delivers and reports alone. `serve` needs it.",
    )
    ingest_hmac_secret: SecretStr | None = Field(None, description="With which senders sign deliveries.")
    ingest_hmac: Literal["accepted", "required"] = Field(
        "accepted", description="Whether a signature may stand for the token, or is wanted beside it."
    )
    metrics_token: SecretStr | None = Field(None, description="Closes `/metrics` to who does not bring it.")
    admin_token: SecretStr | None = Field(None, description="An admin, for the start. `serve` needs it.")
    secret_key: SecretStr | None = Field(
        None, description="Signs sessions, and encrypts where there are no encryption keys. `serve` needs it."
    )
    redis_url: SecretStr | None = Field(
        None, description="Where limits of several processes are counted together: `redis://`, `rediss://`, `unix://`."
    )
    rate_limit_address: RateLimit = Field("1200/minute", description="Calls of one address; `off` for none.")
    rate_limit_read: RateLimit = Field("600/minute", description="GET of one key or person.")
    rate_limit_write: RateLimit = Field("120/minute", description="Changes of one key or person.")
    trusted_proxies: Annotated[int, Field(ge=0, le=10)] = Field(
        0, description="How many proxies append to `X-Forwarded-For`."
    )
    oidc_issuer: Issuer | None = Field(
        None, description="The provider that people log in with, as its metadata spells it."
    )
    oidc_client_id: str | None = Field(None, description="What the provider knows Sentinel by.")
    oidc_client_secret: SecretStr | None = Field(None, description="The client's secret.")
    oidc_scopes: Annotated[list[str], NoDecode] = Field(
        ["openid", "profile", "email"], description="What is asked for; with commas."
    )
    oidc_role_claim: str = Field("groups", description="Claim with the groups of a person.")
    oidc_roles: dict[str, Role] = Field({}, description='JSON: role by group, such as `{"shops": "merchant"}`.')
    oidc_accounts_claim: str = Field("account_ids", description="Claim with a merchant's accounts.")
    encryption_keys: SecretStr | None = Field(
        None, description="With commas: the first encrypts secrets at rest, all decrypt."
    )
    slack_bot_token: SecretStr | None = Field(None, description="Of the bot.")
    llm_api_key: SecretStr | None = Field(None, description="Of the model.")
    public_url: Url = Field("http://127.0.0.1:8080", description="Where links in messages lead.")
    prometheus_url: Url = Field("http://127.0.0.1:9090", description="History for charts, previews and summaries.")
    alertmanager_url: Annotated[list[Cluster], NoDecode, Field(min_length=1)] = Field(
        ["http://127.0.0.1:9093"],
        description="What still fires. Members of a cluster with `|` between them, those that are none with commas.",
    )
    channels: Annotated[list[str], NoDecode] = Field(["console"], description="On which messages go out, with commas.")
    slack_channel: str | None = Field(
        None, description="Where the bot posts for merchants without a channel of their own."
    )
    slack_api_url: Url = Field("https://slack.com/api", description="Where Slack's API is.")
    llm_base_url: Url | None = Field(None, description="Of an OpenAI-compatible API; OpenAI's by default.")
    llm_model: str | None = Field(
        None, description="Short for a chain of one model; `summaries` of the file says more."
    )
    llm_timeout: Duration = Field(timedelta(seconds=5), description="Budget of a summary, at most 30s.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="From which level on lines are written."
    )
    config_file: Path | None = Field(None, description="The file described in [webhook-config.md](webhook-config.md).")
    retention: Duration = Field(
        timedelta(days=180), description="Closed alerts and triggers are deleted when they are older."
    )
    audit_retention: Duration = Field(timedelta(days=730), description="The same for the audit log.")
    version_retention: Duration = Field(
        timedelta(days=730), description="The same for former versions of configurations and templates."
    )
    insecure_webhooks: bool = Field(False, description="Allows http and private addresses, for a demo on one machine.")
    max_body_bytes: Annotated[int, Field(ge=1)] = Field(10 * 1024 * 1024, description="Longest delivery taken.")
    alert_types: Annotated[AlertTypes, Field(exclude=True)] = ConfigFile().types()
    channel_options: Annotated[dict[str, dict[str, Any]], Field(exclude=True, repr=False)] = {}
    operations_channels: Annotated[dict[str, dict[str, Any]] | None, Field(exclude=True, repr=False)] = None
    canary: Annotated[CanaryEntry | None, Field(exclude=True, repr=False)] = None
    summaries: Annotated[SummarySettings, Field(exclude=True, repr=False)] = SummarySettings()
    grafana: Annotated[GrafanaSettings | None, Field(exclude=True, repr=False)] = None

    @field_validator("channels", "oidc_scopes", "alertmanager_url", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        """`console,slack` or a JSON list."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return [name.strip() for name in value.split(",") if name.strip()]

    @field_validator("encryption_keys")
    @classmethod
    def _keys(cls, value: SecretStr | None) -> SecretStr | None:
        _secret_box(_parts(value), None)
        return value

    @field_validator("llm_timeout")
    @classmethod
    def _within_a_lease(cls, value: timedelta) -> timedelta:
        if value > LONGEST_BUDGET:
            raise ValueError(f"must be at most {durationpy.to_str(LONGEST_BUDGET)}")
        return value

    @model_validator(mode="after")
    def _whole_provider(self) -> Settings:
        if self.oidc_issuer is None:
            return self
        wanted = ("oidc_client_id", "oidc_client_secret", "oidc_roles")
        missing = [PREFIX + name.upper() for name in wanted if not getattr(self, name)]
        if missing:
            raise ValueError(f"SENTINEL_OIDC_ISSUER wants {', '.join(missing)} too")
        if "openid" not in self.oidc_scopes:
            raise ValueError("SENTINEL_OIDC_SCOPES must contain openid")
        return self

    @model_validator(mode="after")
    def _one_chain(self) -> Settings:
        if self.llm_model is not None and self.summaries.models:
            raise ValueError("SENTINEL_LLM_MODEL: the configuration file names summaries.models too: leave one out")
        return self

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: SecretStr) -> SecretStr:
        """PostgreSQL through psycopg whatever the URL calls it."""
        import sqlalchemy as sa  # noqa: PLC0415 - takes its time, and the command line's help does without

        try:
            url = sa.make_url(value.get_secret_value())
        except sa.exc.ArgumentError as error:
            raise ValueError("is not a database URL") from error
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            raise ValueError("must be a sqlite or postgresql URL")
        return SecretStr(url.render_as_string(hide_password=False))

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        schemes = ("redis://", "rediss://", "unix://")
        if value is not None and not value.get_secret_value().startswith(schemes):
            raise ValueError("must be a redis://, rediss:// or unix:// URL")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment; there is no .env file and no secrets folder."""
        return init_settings, env_settings

    def secrets(self) -> list[str]:
        """The values that no log may show; of the URLs their passwords are found by their form."""
        values = [getattr(self, name) for name in SECRETS if not name.endswith("_url")]
        options = [value for channel in self.channel_options.values() for value in channel.values()]
        values += [value for value in options if isinstance(value, SecretStr)]
        values += self.summaries.secrets()
        values += [self.grafana.token] if self.grafana else []
        return [value.get_secret_value() for value in values if value is not None]

    @property
    def summary_chain(self) -> SummarySettings:
        """As the file has it; `SENTINEL_LLM_*` is short for a chain of one."""
        if self.llm_model is None:
            return self.summaries
        model = ModelOptions(
            name=self.llm_model[:64], model=self.llm_model, base_url=self.llm_base_url, api_key=self.llm_api_key
        )
        budget = {} if "budget" in self.summaries.model_fields_set else {"budget": self.llm_timeout}
        return self.summaries.model_copy(update={"models": [model], **budget})

    @property
    def secret_box(self) -> SecretBox:
        """What encrypts the settings of channels at rest."""
        secret_key = self.secret_key.get_secret_value() if self.secret_key else None
        return _secret_box(_parts(self.encryption_keys), secret_key)

    @property
    def notifier_options(self) -> dict[str, dict[str, Any]]:
        """The options of each channel; of Slack's those of the variables too, where the file has no others."""
        given = {"token": self.slack_bot_token, "channel": self.slack_channel, "api_url": self.slack_api_url}
        return {**self.channel_options, "slack": {**given, **self.channel_options.get("slack", {})}}

    @property
    def ingest(self) -> IngestSettings:
        """What the alert core needs of this."""
        annotated = ["grafana"] if self.grafana is not None and self.grafana.annotations else []
        channels: Channels = {channel: {} for channel in (*self.channels, *annotated)}
        return IngestSettings(self.alert_types, channels, operations=self.operations_channels)


def _secret_box(keys: list[str], secret_key: str | None) -> SecretBox:
    from webhook.adapters.secrets import SecretBox  # noqa: PLC0415 - cryptography takes its time, and help does without

    return SecretBox(keys, secret_key)


def _parts(keys: SecretStr | None) -> list[str]:
    return [key for part in (keys.get_secret_value() if keys else "").split(",") if (key := part.strip())]


def load_settings(*, require: Iterable[str] = ()) -> Settings:
    """Read the environment and the files that it names; raise ConfigError with everything that is wrong.

    `require` names settings that the caller cannot do without.
    """
    problems: list[str] = []
    given: dict[str, Any] = _secrets_from_files(os.environ, problems)
    if path := os.environ.get(f"{PREFIX}CONFIG_FILE"):
        file = _config_file(Path(path), problems)
        given["alert_types"] = _alert_types(file, path, problems)
        given["operations_channels"] = file.operations.channels if file.operations else None
        given["canary"] = file.canary
        given["channel_options"] = with_secrets(file.channels, os.environ, problems)
        given["summaries"] = summary_settings(file.summaries, os.environ, problems)
        given["grafana"] = grafana = grafana_settings(file.grafana, os.environ, problems)
        if grafana is not None and grafana.annotations:
            given["channel_options"].setdefault("grafana", grafana.channel_options())
    settings = _settings(given, problems)
    if settings is not None:
        problems += [f"{_variable(name)}: must be set" for name in require if not getattr(settings, name)]
    if problems or settings is None:
        raise ConfigError(problems)
    return settings


def _settings(given: Mapping[str, Any], problems: list[str]) -> Settings | None:
    try:
        return Settings(**given)
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False):
            if not detail["loc"]:  # of several settings together: it names them
                problems.append(_message(detail["msg"]))
                continue
            name, *rest = detail["loc"]
            place = _variable(str(name)) + "".join(f"[{part}]" for part in rest)
            problems.append(f"{place}: {_message(detail['msg'])}")
        return None


def _secrets_from_files(environment: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """Secrets by name; what the file is for must not be given directly as well."""
    secrets: dict[str, str] = {}
    for name in SECRETS:
        path = environment.get(f"{_variable(name)}_FILE")
        if not path:
            continue
        if environment.get(_variable(name)):
            problems.append(f"{_variable(name)}: is given directly and by {_variable(name)}_FILE")
            continue
        try:
            secrets[name] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            problems.append(f"{_variable(name)}_FILE: {path}: {reason}")
    return secrets


def _alert_types(file: ConfigFile, path: str, problems: list[str]) -> AlertTypes:
    try:
        return file.types()
    except ConfigError as error:
        problems += [f"{path}: {problem}" for problem in error.problems]
        return AlertTypes()


def _config_file(path: Path, problems: list[str]) -> ConfigFile:
    try:
        return ConfigFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problems.append(f"{path}: {' '.join(str(error).split())}")
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        problems += [f"{path}: {'.'.join(map(str, detail['loc']))}: {_message(detail['msg'])}" for detail in details]
    return ConfigFile()


def _message(message: str) -> str:
    return " ".join(message.removeprefix("Value error, ").split())


def _variable(name: str) -> str:
    return PREFIX + name.upper()
