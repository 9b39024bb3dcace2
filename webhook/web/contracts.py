"""What the pages and the API need from the rest of the application. Errors are the domain's and the ports'.

AlertNotFound       404
IllegalChange       409: the alert is not in a state for this change
StoreUnavailable    503
HistoryUnavailable  503: there is no chart to be had now
"""

from __future__ import annotations

from typing import Literal, Protocol

from webhook.storage.records import AlertRecord

ADMIN_TOKEN = "admin token"  # noqa: S105 - what the audit log calls the credential, not the credential
ADMIN_SESSION = "admin session"
"""As whom a person was let in, whatever name they give."""

Theme = Literal["light", "dark"]
ImageFormat = Literal["png", "svg"]


class Charts(Protocol):
    def chart(
        self,
        alert: AlertRecord,
        metric: str,
        *,
        threshold: float | None,
        operator: str,
        theme: Theme,
        image_format: ImageFormat,
    ) -> bytes:
        """The metric around the time of the alert; `threshold` and `operator` as the page shows them.

        Raise HistoryUnavailable.
        """
