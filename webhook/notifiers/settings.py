"""What merchants may set for each channel. Secrets among it may come back as the masks they are shown as."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NotRequired
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from typing_extensions import TypedDict

from webhook.domain.masking import is_mask
from webhook.domain.severity import Severity
from webhook.notifiers.addresses import email_address, phone_number, service_url
from webhook.notifiers.outgoing import check_url

_QUIET = re.compile(
    r"(?P<from>[0-9:]+) *- *(?P<to>[0-9:]+) +(?P<time_zone>[A-Za-z0-9_+/-]+)(?:,? +except +(?P<except>P[0-3]))?"
)


def _url(value: str, info: ValidationInfo) -> str:
    """The form; whoever saves it calls `check_hosts`, which knows what this installation allows."""
    allow_http = bool((info.context or {}).get("allow_http", True))
    return value if is_mask(value) else check_url(value, allow_http=allow_http)


def _secret(check: Callable[[str], str]) -> AfterValidator:
    """Of what may come back as its mask."""
    return AfterValidator(lambda value: value if is_mask(value) else check(value))


def _token(least: int) -> AfterValidator:
    def check(value: str) -> str:
        if not (value.isascii() and value.isprintable() and " " not in value and len(value) >= least):
            raise ValueError(f"must be at least {least} plain characters without spaces")
        return value

    return _secret(check)


def _zone(value: str) -> str:
    try:
        return ZoneInfo(value).key
    except (KeyError, ValueError, OSError):
        raise ValueError("must be a time zone such as Europe/London") from None


def _quiet(value: object) -> object:
    """`22:00-07:00 Europe/London except P0`, as a form has it, or the object itself."""
    found = _QUIET.fullmatch(value.strip()) if isinstance(value, str) else None
    if isinstance(value, str) and found is None:
        raise ValueError("must be written as 22:00-07:00 Europe/London except P0")
    return {name: text for name, text in found.groupdict().items() if text} if found else value


def quiet_text(quiet: Mapping[str, Any]) -> str:
    """As `_quiet` reads it."""
    words = f"{quiet['from']}-{quiet['to']} {quiet['time_zone']}"
    return f"{words} except {quiet['except']}" if quiet.get("except") else words


Url = Annotated[str, Field(max_length=2048), AfterValidator(_url)]
PhoneNumber = Annotated[str, Field(max_length=32), _secret(phone_number)]
Address = Annotated[str, Field(max_length=320), AfterValidator(email_address)]
_Time = Annotated[str, Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]

QuietHours = TypedDict(
    "QuietHours",
    {
        "from": Annotated[_Time, Field(description="Begin, such as 22:00.")],
        "to": Annotated[_Time, Field(description="End.")],
        "time_zone": Annotated[str, AfterValidator(_zone), Field(description="Of both, such as Europe/London.")],
        "except": NotRequired[Annotated[Severity, Field(description="From which on they do not count; else P0.")]],
    },
)
QuietHours.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]


class ChannelSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    enabled: bool = Field(True, description="Whether messages go out on it.")


class ConsoleSettings(ChannelSettings):
    """Nothing to choose."""


class SlackSettings(ChannelSettings):
    """`channel`: where the bot posts. `webhook_url`: an incoming webhook of the merchant's own, used instead of it."""

    channel: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]*$")] | None = Field(
        None, description="Where the operator's bot posts; set by staff alone."
    )
    webhook_url: Url | None = Field(None, description="An incoming webhook of the merchant's own, used instead.")


class SmsSettings(ChannelSettings):
    """`min_severity`: P1 where it is left out. What falls into quiet hours goes out, as it then is, when they end."""

    phone_numbers: Annotated[list[PhoneNumber], Field(max_length=20)] = Field(
        [], description="Who gets a text, as +41791234567."
    )
    min_severity: Severity | None = Field(None, description="From which severity on; P1 where it is left out.")
    quiet_hours: Annotated[QuietHours, BeforeValidator(_quiet)] | None = Field(
        None, description="When texts wait, such as `22:00-07:00 Europe/London except P0`."
    )


class WebAppSettings(ChannelSettings):
    """Nothing to choose: who reads the pages, and which browsers get pushes, is for each reader to say."""


class EmailSettings(ChannelSettings):
    """`to`: who gets each mail, all in one."""

    to: Annotated[list[Address], Field(max_length=20)] = Field([], description="Who gets each mail, all in one.")


class TeamsSettings(ChannelSettings):
    """`webhook_url`: of a workflow "When a Teams webhook request is received"."""

    webhook_url: Url | None = Field(None, description='Of a workflow "When a Teams webhook request is received".')


class OpsGenieSettings(ChannelSettings):
    """`api_key`: of an API integration of the merchant's own account."""

    api_key: Annotated[str, Field(max_length=256), _token(16)] | None = Field(
        None, description="Of an API integration of the merchant's own account."
    )
    region: Literal["us", "eu"] | None = Field(None, description="Where that account is.")


class PagerDutySettings(ChannelSettings):
    """`routing_key`: the integration key of an Events API v2 integration."""

    routing_key: Annotated[str, Field(max_length=256), _token(16)] | None = Field(
        None, description="The integration key of an Events API v2 integration."
    )


class WebhookSettings(ChannelSettings):
    """`secret`: with which each message is signed; one is made for an address that is saved without."""

    webhook_url: Url | None = Field(None, description="Where messages are posted.")
    secret: Annotated[str, Field(max_length=256), _token(24)] | None = Field(
        None, description="With which each message is signed."
    )

    @model_validator(mode="after")
    def _both(self, info: ValidationInfo) -> WebhookSettings:
        """`whole`, in the context: settings that are used as they are, for which no secret is made."""
        lacks = self.secret is None and bool((info.context or {}).get("whole"))
        if (self.webhook_url is None and self.secret is not None) or (self.webhook_url is not None and lacks):
            raise ValueError("webhook_url and secret belong together")
        return self


class AppriseSettings(ChannelSettings):
    """`url`: of one service, as apprise writes it. Set by staff alone."""

    url: Annotated[str, Field(max_length=2048), _secret(service_url)] | None = Field(
        None, description="Of one service, as apprise writes it; set by staff alone."
    )


class Channels(BaseModel):
    """All that may be named: `registry.CHANNELS` but `grafana`, which is staff's."""

    model_config = ConfigDict(extra="forbid")
    console: ConsoleSettings | None = None
    slack: SlackSettings | None = None
    sms: SmsSettings | None = None
    webapp: WebAppSettings | None = None
    email: EmailSettings | None = None
    teams: TeamsSettings | None = None
    opsgenie: OpsGenieSettings | None = None
    pagerduty: PagerDutySettings | None = None
    webhook: WebhookSettings | None = None
    apprise: AppriseSettings | None = None
