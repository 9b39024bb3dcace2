"""Trying a channel: asked whether it knows us, then a message that says it is a test; the outcome in words."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from webhook.domain.message import Message
from webhook.ports import DeliveryError, Notifier, PermanentDeliveryError

PATIENCE = 30.0
"""Seconds in all: a channel's own timeouts are shorter, but some take several steps."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Tried:
    """`delivered`: the provider took it. `permanent`: trying again cannot help."""

    delivered: bool
    words: str
    permanent: bool = False
    reference: str = ""


def try_channel(notifier: Notifier, message: Message, settings: Mapping[str, Any], patience: float = PATIENCE) -> Tried:
    """Send once. A provider that does not answer in time may have it all the same."""
    outcome: list[Tried] = []
    thread = threading.Thread(target=lambda: outcome.append(_tried(notifier, message, settings)), daemon=True)
    thread.start()
    thread.join(patience)
    if not outcome:
        return Tried(delivered=False, words=f"there was no answer within {patience:g} s")
    return outcome[0]


def _tried(notifier: Notifier, message: Message, settings: Mapping[str, Any]) -> Tried:
    try:
        known = notifier.check()
        receipt = notifier.send(message, settings)
    except DeliveryError as error:
        permanent = isinstance(error, PermanentDeliveryError)
        advice = "trying again cannot help" if permanent else "it may pass: try again"
        return Tried(delivered=False, words=f"{error} ({advice})", permanent=permanent)
    except Exception as error:  # noqa: BLE001 - whoever tries a channel is told, and of no secret
        log.error("channel_trial_failed", channel=notifier.channel_type, error=type(error).__name__)  # noqa: TRY400
        return Tried(delivered=False, words=f"an unexpected error: {type(error).__name__}")
    return Tried(delivered=True, words=f"taken by the provider ({known})", reference=receipt.reference)
