"""What merchants may set for each channel. Secrets among it may come back as the masks they are shown as."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from webhook.domain.masking import is_mask
from webhook.notifiers.outgoing import check_url

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


def _url(value: str, info: ValidationInfo) -> str:
    """The form; whoever saves it calls `check_hosts`, which knows what this installation allows."""
    allow_http = bool((info.context or {}).get("allow_http", True))
    return value if is_mask(value) else check_url(value, allow_http=allow_http)


def _phone_number(value: str) -> str:
    if not (is_mask(value) or _E164.fullmatch(value)):
        raise ValueError("must be a phone number with its country code, such as +1234567890")
    return value


Url = Annotated[str, Field(max_length=2048), AfterValidator(_url)]
PhoneNumber = Annotated[str, Field(max_length=32), AfterValidator(_phone_number)]


class ChannelSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    enabled: bool = True


class ConsoleSettings(ChannelSettings):
    """Nothing to choose."""


class SlackSettings(ChannelSettings):
    """`channel`: where the bot posts. `webhook_url`: an incoming webhook of the merchant's own, used instead of it."""

    channel: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]*$")] | None = None
    webhook_url: Url | None = None


class SmsSettings(ChannelSettings):
    phone_numbers: Annotated[list[PhoneNumber], Field(max_length=20)] = []


class WebAppSettings(ChannelSettings):
    """Nothing to choose: who reads the pages, and which browsers get pushes, is for each reader to say."""


class Channels(BaseModel):
    """All that may be named; `registry.CHANNELS`, and what is NOT_YET sent."""

    model_config = ConfigDict(extra="forbid")
    console: ConsoleSettings | None = None
    slack: SlackSettings | None = None
    sms: SmsSettings | None = None
    webapp: WebAppSettings | None = None
