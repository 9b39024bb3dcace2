"""The channels of an installation, built from its settings: for the worker, for trying them, and for their health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from webhook.config import ConfigError, Settings
from webhook.notifiers.deadline import LONGEST_CALL
from webhook.notifiers.registry import CHANNELS, READY, BadOptions, Site, build_notifiers
from webhook.notifiers.sms import SmsLog
from webhook.ports import Notifier
from webhook.reader_ports import Readers


@dataclass(frozen=True, slots=True)
class BuiltChannels:
    """What can send, and why the others cannot."""

    notifiers: Mapping[str, Notifier]
    problems: Mapping[str, str]


def build_channels(
    settings: Settings, sms_log: SmsLog | None = None, readers: Readers | None = None
) -> dict[str, Notifier]:
    """The default channels and those that merchants may have chosen; raise ConfigError where one lacks a setting."""
    if "slack" in settings.channels and not (settings.slack_bot_token and settings.slack_channel):
        raise ConfigError(
            ["SENTINEL_CHANNELS: slack wants SENTINEL_SLACK_BOT_TOKEN and SENTINEL_SLACK_CHANNEL to be set"]
        )
    too_long = [
        f"channels.{name}.timeout: at most {LONGEST_CALL}: a message may take three calls"
        for name, options in settings.channel_options.items()
        if isinstance(timeout := options.get("timeout"), int | float) and timeout > LONGEST_CALL
    ]
    if too_long:
        raise ConfigError(too_long)
    try:
        return build_notifiers(sorted(set_up(settings)), settings.notifier_options, _site(settings, sms_log, readers))
    except BadOptions as error:
        raise ConfigError(error.problems) from None


def try_channels(settings: Settings) -> BuiltChannels:
    """Each by itself: one that is not set up is no reason to show nothing of the others."""
    built: dict[str, Notifier] = {}
    problems: dict[str, str] = {}
    for channel in CHANNELS:
        if channel not in set_up(settings):
            problems[channel] = "has no options in the configuration file"
            continue
        try:
            built |= build_notifiers([channel], settings.notifier_options, _site(settings))
        except BadOptions as error:
            problems[channel] = str(error)
    return BuiltChannels(built, problems)


def set_up(settings: Settings) -> frozenset[str]:
    """Those that merchants may choose."""
    tried = settings.canary.channels if settings.canary else {}
    return frozenset(
        {*READY, *settings.channels, *settings.channel_options, *(settings.operations_channels or {}), *tried}
    )


def _site(settings: Settings, sms_log: SmsLog | None = None, readers: Readers | None = None) -> Site:
    return Site(settings.public_url, settings.insecure_webhooks, sms_log, readers)
