"""Settings of channels: which are secrets, how those are shown, and how a mask is read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

ENCRYPTED = "enc:"
"""What an encrypted value begins with; no URL, phone number or token of a provider does."""

NOT_YET = frozenset({"sms", "webapp"})
"""Channels whose settings are taken and kept, but on which nothing is sent yet."""

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


SECRET_FIELDS: Mapping[str, Callable[[str], str]] = {
    "webhook_url": mask_url,
    "phone_numbers": mask_phone,
    "token": mask_token,
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


def unmasked(channels: Channels, stored: Channels) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Masks that came back replaced by the `stored` secrets they stand for; and the places of masks of nothing."""
    lost: list[str] = []
    whole: dict[str, dict[str, Any]] = {}
    for channel, settings in channels.items():
        known = _by_mask(stored.get(channel, {}))

        def restore(name: str, text: str, channel: str = channel, known: dict[str, list[str]] = known) -> str:
            if not is_mask(text):
                return text
            waiting = known.get(f"{name} {text}")
            if not waiting:
                lost.append(f"channels.{channel}.{name}")
                return text
            return waiting.pop(0) if len(waiting) > 1 else waiting[0]

        whole |= change_secrets({channel: settings}, restore)
    return whole, lost


def _by_mask(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Stored secrets by field and mask; two numbers may look alike."""
    found: dict[str, list[str]] = {}

    def note(name: str, text: str) -> str:
        shown = "…" if text.startswith(ENCRYPTED) else SECRET_FIELDS[name](text)
        found.setdefault(f"{name} {shown}", []).append(text)
        return text

    change_secrets({"": settings}, note)
    return found
