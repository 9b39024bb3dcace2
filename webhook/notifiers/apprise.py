"""All other services through apprise: one URL, which holds its secrets and only staff may set.

apprise could reach any host, the local desktop, files and logs; only services whose host is fixed are allowed. It says
no more of a failure than its log: a status below 500 there is permanent (but 408 and 429), all else is temporary.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from webhook.domain.alert import NotifyReason
from webhook.domain.message import SEVERITY_WORDS, Message
from webhook.domain.severity import Severity
from webhook.notifiers.addresses import service_url
from webhook.notifiers.deadline import LONGEST_CALL, within
from webhook.notifiers.posting import perhaps_taken
from webhook.ports import DeliveryError, PermanentDeliveryError, Receipt, TemporaryDeliveryError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports imghdr
    import apprise
    from apprise.manager_plugins import NotificationManager

    NotificationManager().load_modules()  # type: ignore[no-untyped-call]

_LINE = "%(levelname)s %(message)s"
_STATUS = re.compile(r"^WARNING .*error=([1-5][0-9]{2})\b", re.MULTILINE)
_NOT_REACHED = re.compile(r"^DEBUG Socket Exception: .*(NewConnection|ConnectTimeout|NameResolution)", re.MULTILINE)
_KINDS = {Severity.P0: "failure", Severity.P1: "failure", Severity.P2: "warning", Severity.P3: "info"}


def check_apprise_url(url: str) -> str:
    """The URL when apprise is allowed to use it; raise ValueError without repeating it."""
    service_url(url)
    if apprise.Apprise.instantiate(url, suppress_exceptions=True) is None:
        raise ValueError(f"is not understood as a URL of {url.partition('://')[0]}")
    return url


class AppriseOptions(BaseModel):
    """`url`: of the installation's own, for merchants for whom none is set."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: SecretStr | None = Field(None, description="Of one service, for merchants for whom none is set.")

    @field_validator("url")
    @classmethod
    def _allowed(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_apprise_url(value.get_secret_value())
        return value


class AppriseServices:
    """One send at a time: what apprise says of a failure is read from its one log."""

    channel_type = "apprise"
    parallel = 1

    def __init__(self, options: AppriseOptions) -> None:
        self._url = options.url.get_secret_value() if options.url else ""
        self._lock = threading.Lock()
        logging.getLogger("apprise").propagate = False  # its words may hold addresses

    def send(
        self,
        message: Message,
        settings: Mapping[str, Any],
        before: Receipt | None = None,  # noqa: ARG002 - apprise knows no earlier message
    ) -> Receipt:
        service = self._service(settings)
        turn = threading.Lock()
        try:
            taken, words = within(lambda: self._notify(service, message, turn), LONGEST_CALL)
        except TimeoutError:
            unsure = not turn.acquire(blocking=False)  # else it was not begun, and now never is
            raise TemporaryDeliveryError("apprise: Timeout", unsure=unsure, blind=True) from None
        except (TypeError, ValueError) as error:
            raise PermanentDeliveryError(f"apprise: {type(error).__name__}") from None
        if not taken:
            raise _error(str(service.service_name), words)
        return Receipt()

    def _notify(self, service: Any, message: Message, turn: threading.Lock) -> tuple[bool, str]:  # noqa: ANN401 - apprise has no types
        """Whether it was taken, and what was said of it. One that hangs holds up the next: there is one log."""
        with self._lock, apprise.LogCapture(level=logging.DEBUG, fmt=_LINE) as said:  # type: ignore[no-untyped-call]
            if not turn.acquire(blocking=False):
                return False, ""
            taken = service.notify(title=_title(message), body=_body(message), notify_type=_kind(message))
            return bool(taken), said.getvalue()

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Nothing: few of the services take a picture beside a message that is out. The body has a link to it."""

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        url = str(settings.get("url") or self._url)
        return {"service": url.partition("://")[0], "title": _title(message), "body": _body(message)}

    def check(self) -> str:
        if not self._url:
            return "URLs that staff set for merchants alone"
        return f"{self._service({}).service_name} can only be tried by sending"

    def _service(self, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401 - apprise has no types of its plug-ins
        url = str(settings.get("url") or self._url)
        if not url:
            raise PermanentDeliveryError("apprise: there is no url")
        try:
            check_apprise_url(url)
        except ValueError as error:
            raise PermanentDeliveryError(f"apprise: the url {error}") from None
        return apprise.Apprise.instantiate(url)


def _error(service: str, words: str) -> DeliveryError:
    found = _STATUS.search(words)
    if found is None:
        unsure = _NOT_REACHED.search(words) is None
        return TemporaryDeliveryError(f"{service}: not delivered", unsure=unsure, blind=True)
    status = int(found[1])
    text = f"{service}: HTTP {status}"
    again = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in again:
        return TemporaryDeliveryError(text, unsure=perhaps_taken(status), blind=True)
    return PermanentDeliveryError(text)


def _title(message: Message) -> str:
    state = "Ended" if message.reason is NotifyReason.RESOLVED else SEVERITY_WORDS[message.severity]
    return f"[{message.severity} {state}] {message.title}"


def _body(message: Message) -> str:
    facts = "\n".join(f"{label}: {value}" for label, value in (("Merchant", message.merchant), *message.facts))
    return f"{facts}\n\n{message.text}\n\nWhat to do: {message.suggested_action}\n\n{message.url}"


def _kind(message: Message) -> str:
    return "success" if message.reason is NotifyReason.RESOLVED else _KINDS[message.severity]
