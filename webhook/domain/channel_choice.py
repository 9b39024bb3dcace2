"""On which channels an alert is told: the installation's, changed by what its merchant wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webhook.domain.alert import OPERATIONS_ACCOUNT
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.severity import Severity
from webhook.domain.text_message import wanted_for

Channels = Mapping[str, Mapping[str, Any]]
"""Settings by channel type, e.g. {"slack": {"channel": "#fraud"}}."""


def channels_for(account_id: str, default: Channels, operations: Channels | None) -> Channels:
    """The channels of an account that chose none: the on-call's for what has no merchant."""
    return operations if account_id == OPERATIONS_ACCOUNT and operations is not None else default


def channels_of(config: MerchantConfig | None, default: Channels, severity: Severity | None = None) -> Channels:
    """The default channels, with those that the merchant enabled added and those it disabled taken away.

    Of a `severity`: those on which alerts of it are told.
    """
    channels = dict(default)
    for name, preference in (config.channel_preferences if config is not None else {}).items():
        if preference.get("enabled", True):
            channels[name] = {**default.get(name, {}), **{k: v for k, v in preference.items() if k != "enabled"}}
        else:
            channels.pop(name, None)
    if severity is None:
        return channels
    return {name: settings for name, settings in channels.items() if wanted_for(name, settings, severity)}
