"""What channels share whose message stays somewhere and shows what people do: see `webhook.ports.FollowingNotifier`."""

from __future__ import annotations

import threading

from webhook.domain.alert import AlertStatus, NotifyReason
from webhook.domain.message import Message


class Behind:
    """Alerts whose message could not show all that is known when it was sent; from any thread."""

    def __init__(self) -> None:
        self._alerts: set[str] = set()
        self._lock = threading.Lock()

    def add(self, alert_id: str) -> None:
        with self._lock:
            self._alerts.add(alert_id)

    def take(self) -> set[str]:
        """Each is named once."""
        with self._lock:
            alerts, self._alerts = self._alerts, set()
        return alerts


def response(message: Message) -> str | None:
    """What on-call services are to know of what people did: `close`, `acknowledge`, or that nobody did anything, "".

    None where it is over: of an end they are told by its own message.
    """
    if message.reason is NotifyReason.RESOLVED or message.status is AlertStatus.RESOLVED:
        return None
    if message.attention.dismissed:
        return "close"
    return "acknowledge" if message.attention.acknowledged_by else ""
