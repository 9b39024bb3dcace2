"""Signing secrets of merchants' own webhooks: kept with their address, made for one that came without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from webhook.domain.evaluation import MerchantConfig

CHANNEL = "webhook"


def with_secret(
    config: MerchantConfig, stored: MerchantConfig | None, make: Callable[[], str] | None
) -> tuple[MerchantConfig, str]:
    """The configuration with a secret where its webhook lacks one, and that secret where `make` has made it.

    An address that stays keeps the secret it has.
    """
    webhook = config.channel_preferences.get(CHANNEL) or {}
    if not webhook.get("webhook_url") or webhook.get("secret"):
        return config, ""
    before: Mapping[str, Any] = (stored.channel_preferences.get(CHANNEL) if stored is not None else None) or {}
    if before.get("secret") and before.get("webhook_url") == webhook["webhook_url"]:
        return _with(config, str(before["secret"])), ""
    secret = make() if make is not None else ""
    return (_with(config, secret), secret) if secret else (config, "")


def rotated(config: MerchantConfig, make: Callable[[], str]) -> tuple[MerchantConfig, str] | None:
    """With another secret, and that secret; None where there is no webhook."""
    if not (config.channel_preferences.get(CHANNEL) or {}).get("webhook_url"):
        return None
    secret = make()
    return _with(config, secret), secret


def _with(config: MerchantConfig, secret: str) -> MerchantConfig:
    channels = {**config.channel_preferences, CHANNEL: {**config.channel_preferences[CHANNEL], "secret": secret}}
    return replace(config, channel_preferences=channels)
