"""With whose settings a channel is looked at or tried: the installation's, an account's, or some that are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from webhook.domain.message import Message
from webhook.domain.sample import sample_message, trial_message
from webhook.notifiers.settings import Channels
from webhook.pipeline.trying import Tried, try_channel
from webhook.ports import ConfigNotFound, Notifier
from webhook.storage.configs import ConfigStore
from webhook.web.config_document import message_of


class BadSettings(ValueError):  # noqa: N818 - a value that is refused
    """Settings that the channel does not take; the words show no value."""


@dataclass(frozen=True, slots=True)
class Asked:
    """At most one of an account's configuration and `settings`; none means the installation's own."""

    channel: str
    account_id: str = ""
    alert_type: str = ""
    settings: Mapping[str, Any] | None = None

    @property
    def whose(self) -> str:
        if self.settings is not None:
            return "given"
        return "account" if self.account_id else "installation"


@dataclass(frozen=True, slots=True)
class ChannelTrial:
    """`check_urls` raises ForbiddenAddress for addresses inside."""

    store: ConfigStore
    public_url: str
    check_urls: Callable[[Mapping[str, Mapping[str, Any]]], None]
    allow_http: bool = False

    def settings(self, asked: Asked) -> Mapping[str, Any]:
        """Raise BadSettings, ConfigNotFound or ForbiddenAddress."""
        if asked.settings is not None:
            return self._given(asked.channel, asked.settings)
        if not asked.account_id:
            return {}
        found = self.store.stored(accounts=[asked.account_id], alert_type=asked.alert_type)
        chosen = found[0].config.channel_preferences.get(asked.channel) if found else None
        if chosen is None:
            raise ConfigNotFound(f"{asked.account_id} {asked.alert_type}")
        return {name: value for name, value in chosen.items() if name != "enabled"}

    def preview(self, notifier: Notifier, asked: Asked, now: datetime) -> Mapping[str, Any]:
        return notifier.preview(sample_message(self.public_url, asked.account_id, now), self.settings(asked))

    def send(self, notifier: Notifier, settings: Mapping[str, Any], asked: Asked, now: datetime) -> Tried:
        return try_channel(notifier, self.message(asked, now), settings)

    def message(self, asked: Asked, now: datetime) -> Message:
        return trial_message(self.public_url, asked.account_id, str(uuid4()), now)

    def _given(self, channel: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            checked = Channels.model_validate(
                {channel: dict(settings)}, context={"allow_http": self.allow_http, "whole": True}
            )
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False)
            raise BadSettings("; ".join(f"{'.'.join(map(str, d['loc']))}: {message_of(d)}" for d in details)) from None
        self.check_urls(checked.model_dump(mode="json", exclude_none=True))
        chosen: BaseModel = getattr(checked, channel)
        return chosen.model_dump(mode="json", exclude_none=True, exclude={"enabled"})
