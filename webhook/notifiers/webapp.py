"""The web app: a message is shown to whoever has a page open, and pushed to the browsers that asked for it.

The stream reads the message from the store, so showing it is a row and cannot fail for long. A push that fails in
passing is tried again with the message, for those who have not got it; after PATIENCE they are let be, for the next
message about the same alert waits for this one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Annotated, Any, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, field_validator, model_validator

from webhook.domain.alert import NotifyReason
from webhook.domain.message import Message, one_line
from webhook.domain.severity import Severity
from webhook.notifiers.outgoing import guarded_session
from webhook.notifiers.web_push import LARGEST, Answer, Outcome, Push, Service, Urgency, WebPush, public_key
from webhook.ports import (
    PermanentDeliveryError,
    Receipt,
    StoreUnavailable,
    TemporaryDeliveryError,
)
from webhook.reader_ports import PushTarget, Readers

PATIENCE = timedelta(minutes=2)
BUDGET_S = 15.0
"""For all pushes of one try: a worker's lease on the message is 90 s, its summary may take half of that."""

BODY_LENGTH = 1000
"""Characters of the summary that are shown in a notification; the page has all of it."""

_URGENCY = {
    Severity.P0: (Urgency.HIGH, timedelta(hours=24)),
    Severity.P1: (Urgency.HIGH, timedelta(hours=24)),
    Severity.P2: (Urgency.NORMAL, timedelta(hours=12)),
    Severity.P3: (Urgency.LOW, timedelta(hours=4)),
}

log = structlog.get_logger()


class WebAppOptions(BaseModel):
    """Without a key there is no push, and the stream all the same. `timeout` in seconds.

    `subject` is where push services reach us, `mailto:` or `https:`. `push_services`: hosts, where not any will do.
    """

    model_config = ConfigDict(extra="forbid")

    vapid_private_key: SecretStr | None = Field(
        None, description="Signs pushes to browsers; without it there is no push."
    )
    subject: Annotated[str, StringConstraints(pattern=r"^(mailto:[^@\s]+@[\w.-]+|https://[\w.-]+)$")] | None = Field(
        None, description="Where push services reach us, `mailto:` or `https:`."
    )
    push_services: list[Annotated[str, StringConstraints(to_lower=True, pattern=r"^[A-Za-z0-9.-]+$")]] = Field(
        [], description="Their hosts, where not any will do."
    )
    timeout: float = Field(default=5, gt=0, le=10, description="Seconds.")

    @field_validator("vapid_private_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            if value is not None:
                public_key(value.get_secret_value())
        except ValueError:
            raise ValueError("is no VAPID key: make one with `sentinel-webhook vapid-key`") from None
        return value

    @model_validator(mode="after")
    def _says_who(self) -> Self:
        if self.vapid_private_key is not None and self.subject is None:
            raise ValueError("vapid_private_key wants a subject too, such as mailto:oncall@example.com")
        return self

    @property
    def public_key(self) -> str | None:
        return None if self.vapid_private_key is None else public_key(self.vapid_private_key.get_secret_value())


def utc_now() -> datetime:
    return datetime.now(UTC)


def service_of(options: WebAppOptions, *, insecure: bool) -> Service:
    return Service(tuple(options.push_services), options.timeout, allow_http=insecure)


def web_push(options: WebAppOptions, *, insecure: bool, clock: Callable[[], datetime] = utc_now) -> WebPush | None:
    """None without a key. `insecure`: of a demo or a test of one's own. Raises ImportError without the extra `push`."""
    if options.vapid_private_key is None:
        return None
    session = guarded_session(allow_private=insecure)
    service = service_of(options, insecure=insecure)
    return WebPush(options.vapid_private_key.get_secret_value(), options.subject or "", service, session, clock)


def payload_of(message: Message) -> dict[str, Any]:
    """What the stream and a push tell, as the owner's document has it, with the merchant and the reason besides."""
    return {
        "notification_id": message.notification_id,
        "type": "fraud_alert",
        "severity": message.severity.value,
        "title": message.title,
        "body": one_line(message.text, BODY_LENGTH),
        "alert_id": message.alert_id,
        "timestamp": f"{message.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "merchant": message.merchant,
        "reason": message.reason.value,
        "actions": [
            {"label": "View Details", "action": "navigate", "url": f"/alerts/{message.alert_id}"},
            {"label": "Dismiss", "action": "dismiss"},
        ],
    }


def fitted(payload: Mapping[str, Any]) -> bytes:
    """As JSON that a push service takes, its body cut as far as that needs."""
    length = len(payload["body"])
    while True:
        body = one_line(payload["body"], max(length, 1))
        data = json.dumps({**payload, "body": body}, ensure_ascii=False, separators=(",", ":")).encode()
        if len(data) <= LARGEST or length <= 1:
            return data
        length -= max(1, (len(data) - LARGEST) // 4)


def push_of(message: Message, payload: Mapping[str, Any]) -> Push:
    urgency, ttl = _URGENCY[message.severity]
    if message.reason is NotifyReason.RESOLVED:
        urgency = Urgency.NORMAL
    return Push(fitted(payload), message.alert_id.replace("-", ""), urgency, ttl)


class WebApp:
    """Shows messages on the stream and pushes them. `readers` is None where nothing is to be sent, as in a preview."""

    channel_type = "webapp"
    parallel = 4

    def __init__(
        self,
        options: WebAppOptions,
        readers: Readers | None,
        *,
        insecure: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._readers = readers
        self._public_key = options.public_key
        self._push = web_push(options, insecure=insecure, clock=clock)
        self._clock = clock

    def send(
        self,
        message: Message,
        settings: Mapping[str, Any],  # noqa: ARG002 - the port's signature
        before: Receipt | None = None,  # noqa: ARG002 - as above
    ) -> Receipt:
        """Show it, then push it. The receipt counts the browsers by what came of their push at this try."""
        if self._readers is None:
            raise PermanentDeliveryError("web app: there is no store to show it in")
        payload = payload_of(message)
        try:
            published = self._readers.publish(message, payload, self._clock())
        except StoreUnavailable as error:
            raise TemporaryDeliveryError(f"web app: {error}") from None
        counted: Counter[str] = Counter()
        if self._push is None:
            return Receipt("", {"stream": True})
        if published.unreadable:
            log.warning("push_subscriptions_unreadable", number=published.unreadable)
        push, end = push_of(message, payload), monotonic() + BUDGET_S
        waited_for = published.waiting
        for target in published.targets:
            answer = self._tell(target, push, message) if monotonic() < end else Answer(Outcome.LATER)
            counted[answer.outcome.value] += 1
            waited_for += answer.outcome is Outcome.LATER and not target.failing
        if waited_for and self._clock() - published.at < PATIENCE:
            raise TemporaryDeliveryError(f"web app: shown, but {waited_for} of the pushes could not be made yet")
        return Receipt("", {"stream": True, "push": dict(counted)})

    def _tell(self, target: PushTarget, push: Push, message: Message) -> Answer:
        assert self._push is not None
        assert self._readers is not None
        answer = self._push.push(target, push)
        with suppress(StoreUnavailable):  # at worst it is pushed again, in the place of itself
            if answer.outcome is Outcome.SENT:
                self._readers.reached(target.id, message.notification_id, self._clock())
            elif answer.outcome is Outcome.GONE:
                self._readers.gone(target.id)
            else:
                self._readers.missed(target.id, answer.words, self._clock(), answer.not_before)
        if answer.outcome is not Outcome.SENT:
            log.info("push_failed", subscription=target.id, outcome=answer.outcome, why=answer.words)
        return answer

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Nothing to add: the alert's page has the chart."""

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - as above
        return payload_of(message)

    def check(self) -> str:
        if self._public_key is None:
            return "the stream of open pages; no push: there is no VAPID key"
        return f"the stream of open pages, and push with the key {self._public_key}"
