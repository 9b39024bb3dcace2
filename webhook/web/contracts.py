"""What the pages and the API need from the rest of the application.

UnknownAlert       there is no such alert (404)
IllegalChange      of the domain: the alert is not in a state for this change (409)
HistoryUnavailable of the ports: there is no chart to be had now (503)
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

from webhook.storage.records import AlertRecord

Theme = Literal["light", "dark"]
ImageFormat = Literal["png", "svg"]


class UnknownAlert(LookupError):  # noqa: N818 - an answer to a person, not a failure of ours
    """There is no alert of this id."""


class Actions(Protocol):
    """What a person can do to an alert. Raises UnknownAlert or webhook.domain.session.IllegalChange."""

    def resolve(self, alert_id: str, *, note: str, actor: str, now: datetime) -> None: ...

    def dismiss(self, alert_id: str, *, reason: str, actor: str, now: datetime) -> None: ...


class Charts(Protocol):
    def chart(
        self, alert: AlertRecord, metric: str, *, threshold: float | None, theme: Theme, image_format: ImageFormat
    ) -> bytes:
        """The metric around the time of the alert; `threshold` as the page shows it.

        Raise webhook.ports.HistoryUnavailable.
        """
