"""A merchant's configuration as a document, as the API, YAML files and old versions have it, and what two differ in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from webhook.domain.access import Principal, Right
from webhook.domain.evaluation import Condition, MerchantConfig
from webhook.domain.masking import masked

STAFF_SETTINGS = (("slack", "channel"),)
"""Settings of channels that use the operator's own credentials: a merchant could reach others with them."""

_SETTINGS = ("frequency_control", "notification_strategy", "snooze_until", "language")
_ABSENT = object()

Document = dict[str, Any]


class Difference(NamedTuple):
    """One field; None where it is absent on that side. Secrets are masked."""

    path: str
    before: Any
    after: Any


def document_of(config: MerchantConfig) -> Document:
    """All but account and version; what the merchant left open is left out."""
    active = [_condition_document(condition) for condition in config.conditions]
    inactive = [_condition_document(condition) | {"is_active": False} for condition in config.inactive]
    settings = config.notification_settings
    return {
        "alert_type": config.alert_type,
        "enabled": config.enabled,
        "logic": config.logic,
        "channels": {name: dict(channel) for name, channel in config.channel_preferences.items()},
        "trigger_conditions": active + inactive,
        **{name: settings[name] for name in _SETTINGS if settings.get(name) is not None},
    }


def config_of(account_id: str, document: Mapping[str, Any]) -> MerchantConfig:
    """The inverse of `document_of`; the version is the caller's to set."""
    conditions = document["trigger_conditions"]
    return MerchantConfig(
        account_id=account_id,
        alert_type=document["alert_type"],
        enabled=document["enabled"],
        logic=document["logic"],
        conditions=tuple(_condition(entry) for entry in conditions if entry.get("is_active", True)),
        inactive=tuple(_condition(entry) for entry in conditions if not entry.get("is_active", True)),
        channel_preferences=document["channels"],
        notification_settings={name: document[name] for name in _SETTINGS if document.get(name) is not None},
    )


def masked_document(document: Mapping[str, Any]) -> Document:
    return {**document, "channels": masked(document["channels"])} if document else {}


def staff_settings(config: MerchantConfig, principal: Principal) -> list[str]:
    """The places of what staff set and this principal may not take away."""
    if principal.may(Right.DIRECT):
        return []
    channels = config.channel_preferences
    return [f"channels.{channel}.{name}" for channel, name in STAFF_SETTINGS if channels.get(channel, {}).get(name)]


def within_rights(
    config: MerchantConfig, stored: MerchantConfig | None, principal: Principal
) -> tuple[MerchantConfig, list[str]]:
    """`config` with what staff set kept where a merchant leaves it out; and the places that it must not change."""
    if principal.may(Right.DIRECT):
        return config, []
    known = stored.channel_preferences if stored is not None else {}
    channels, refused = {name: dict(settings) for name, settings in config.channel_preferences.items()}, []
    for channel, name in STAFF_SETTINGS:
        kept, given = known.get(channel, {}).get(name), channels.get(channel, {}).get(name)
        if given is not None and given != kept:
            refused.append(f"channels.{channel}.{name}")
        elif kept is not None:
            settings = channels.setdefault(channel, {"enabled": known[channel].get("enabled", True)})
            settings[name] = kept
    return replace(config, channel_preferences=channels), refused


def difference(before: MerchantConfig | None, after: MerchantConfig | None) -> list[Difference]:
    """Field by field, in the order of the documents; None: there is no configuration on that side."""
    old, new = _fields(before), _fields(after)
    shown_old, shown_new = _fields(before, mask=True), _fields(after, mask=True)
    return [
        Difference(path, shown_old.get(path), shown_new.get(path))
        for path in dict.fromkeys((*old, *new))
        if old.get(path, _ABSENT) != new.get(path, _ABSENT)
    ]


def _fields(config: MerchantConfig | None, *, mask: bool = False) -> dict[str, Any]:
    if config is None:
        return {}
    document = document_of(config)
    del document["alert_type"]
    return dict(_flat("", masked_document(document) if mask else document))


def _flat(path: str, value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flat(f"{path}.{name}" if path else str(name), item)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from _flat(f"{path}[{number}]", item)
    else:
        yield path, value


def _condition_document(condition: Condition) -> Document:
    return {
        "metric_name": condition.metric_name,
        "operator": condition.operator,
        "threshold": condition.threshold,
        "time_window": condition.time_window,
        "priority": condition.priority,
    }


def _condition(entry: Mapping[str, Any]) -> Condition:
    return Condition(
        entry["metric_name"], entry["operator"], entry["threshold"], entry["priority"], entry["time_window"]
    )
