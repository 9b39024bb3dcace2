"""Settings of channels: which are secrets, how those are shown, and how a mask is read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

ENCRYPTED = "enc:"
"""What an encrypted value begins with; no URL, phone number or token of a provider does."""

_SHOWN = 4
_LONG_ENOUGH = 16  # characters of which the last four may be shown
_COUNTRY, _LAST = 2, 3  # characters of a phone number that are shown

Channels = Mapping[str, Mapping[str, Any]]


def mask_url(url: str) -> str:
    """`https://hooks.slack.com/services/T0/B0/x…` → `https://hooks.slack.com/…abcd`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return mask_token(url)
    place = f"{parts.scheme}://{host}{f':{port}' if port else ''}/"
    rest = url.partition("//")[2].partition("/")[2]
    return place + mask_token(rest)


def mask_phone(number: str) -> str:
    """`+1234567890` → `+1******890`."""
    hidden = len(number) - _COUNTRY - _LAST
    return number[:_COUNTRY] + "*" * hidden + number[-_LAST:] if hidden > 0 else "*" * len(number)


def mask_token(text: str) -> str:
    return "…" + (text[-_SHOWN:] if len(text) >= _LONG_ENOUGH else "")


def mask_service(url: str) -> str:
    """`discord://1234/abcd…` → `discord://…`: any part of the rest may be the secret."""
    schema, separator, _ = url.partition("://")
    return f"{schema}://…" if separator else "…"


SECRET_FIELDS: Mapping[str, Callable[[str], str]] = {
    "webhook_url": mask_url,
    "phone_numbers": mask_phone,
    "token": mask_token,
    "secret": mask_token,
    "api_key": mask_token,
    "routing_key": mask_token,
    "url": mask_service,
}
"""The fields of any channel's settings that are secrets, one text or a list of texts, each with its mask."""


def is_mask(text: str) -> bool:
    """Whether a value was made by one of the masks."""
    return "…" in text or ("*" in text and text.lstrip("+0123456789").rstrip("0123456789").strip("*") == "")


def change_secrets(channels: Channels, change: Callable[[str, str], str]) -> dict[str, dict[str, Any]]:
    """The same settings with `change(field, text)` in place of each secret."""
    return {
        channel: {
            name: _changed(name, value, change) if name in SECRET_FIELDS else value for name, value in settings.items()
        }
        for channel, settings in channels.items()
    }


def _changed(name: str, value: object, change: Callable[[str, str], str]) -> object:
    if isinstance(value, list):
        return [_changed(name, item, change) for item in value]
    return change(name, value) if isinstance(value, str) else value


def masked(channels: Channels) -> dict[str, dict[str, Any]]:
    """As it may be shown; what is still encrypted could not be read, and is shown as a bare mask."""
    return change_secrets(channels, lambda name, text: "…" if text.startswith(ENCRYPTED) else SECRET_FIELDS[name](text))


def unmasked(channels: Channels, stored: Channels) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Masks that came back replaced by the `stored` secrets they stand for; and what is wrong with others, by place."""
    wrong: dict[str, str] = {}
    whole: dict[str, dict[str, Any]] = {}
    for channel, settings in channels.items():
        found, unclear = _restored(settings, stored.get(channel, {}))
        whole[channel] = found
        wrong |= {f"channels.{channel}.{name}": why for name, why in unclear.items()}
    return whole, wrong


def _restored(settings: Mapping[str, Any], stored: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """One channel's settings without masks. Of several that look alike none is chosen: all come back, or it is told."""
    known, given = _by_mask(stored), Counter[tuple[str, str]]()
    wrong: dict[str, str] = {}

    def count(name: str, text: str) -> str:
        given[name, text] += 1
        return text

    def restore(name: str, text: str) -> str:
        waiting = known.get((name, text), [])
        if not is_mask(text):
            return text
        if not waiting:
            wrong[name] = "is a mask of nothing that is stored: send it whole"
        elif len(set(waiting)) > 1 and given[name, text] != len(waiting):
            wrong[name] = f"is a mask of {len(waiting)} that are stored: send all of them, or send it whole"
        else:
            waiting.append(waiting.pop(0))
            return waiting[-1]
        return text

    change_secrets({"": settings}, count)
    return change_secrets({"": settings}, restore)[""], wrong


def _by_mask(settings: Mapping[str, Any]) -> dict[tuple[str, str], list[str]]:
    """Stored secrets by field and mask; two numbers may look alike."""
    found: dict[tuple[str, str], list[str]] = {}

    def note(name: str, text: str) -> str:
        shown = "…" if text.startswith(ENCRYPTED) else SECRET_FIELDS[name](text)
        found.setdefault((name, shown), []).append(text)
        return text

    change_secrets({"": settings}, note)
    return found
