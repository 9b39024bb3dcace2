"""SMS through a gateway that speaks Twilio's Messages API: one call for each number.

Twilio has no idempotency key. What became of each number is kept by `SmsLog`, before and after its call: a further try
leaves out who got it; where nobody knows whether a call arrived, Twilio's list of messages is asked first.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import monotonic
from typing import Annotated, Any, Protocol
from urllib.parse import quote

import requests
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from webhook.domain.alert import NotifyReason
from webhook.domain.gsm import cost
from webhook.domain.masking import mask_phone
from webhook.domain.message import Message
from webhook.domain.severity import Severity
from webhook.domain.text_message import LIMITED, SmsSlot, short_link, sms_text
from webhook.notifiers.addresses import phone_number
from webhook.notifiers.outgoing import timed
from webhook.notifiers.posting import Reply, call, refusal, seconds_to_wait
from webhook.notifiers.twilio import CREDENTIALS, RATE_LIMITED, words_of
from webhook.ports import DeliveryError, PermanentDeliveryError, Receipt, StoreUnavailable, TemporaryDeliveryError, Wait

STATUS_PATH = "/api/v1/sms/status"
_RETRIES = "#rc=5&rp=5xx,ct,rt"
"""Twilio's own retries of a callback; the fragment is not part of what it signs."""

_SKEW = timedelta(minutes=2)
_LOOKED_AT = 50

Number = Annotated[str, AfterValidator(phone_number)]


class SmsLog(Protocol):
    """What became of each number, across all workers. Each call may raise StoreUnavailable."""

    def begin(self, notification_id: str, number_key: str, limit: int | None) -> SmsSlot:
        """`limit`: messages to this number within an hour, None for any number."""

    def sent(self, slot: SmsSlot, reference: str) -> None: ...
    def refused(self, slot: SmsSlot, error: str) -> None: ...
    def release(self, slot: SmsSlot) -> None:
        """It did not go out: the next try begins anew."""


class SmsOptions(BaseModel):
    """`brand` begins each text. `short_url`: where `/a/<id>` leads to this installation, else its public address.

    `from_number` may be a name of letters where the country allows it. `status_callback_url` is where Twilio reports
    to, to the letter; without one it is derived from an https public address. `timeout`: of all numbers, in seconds.
    """

    model_config = ConfigDict(extra="forbid")

    base_url: Annotated[str, Field(pattern="^https?://")] = Field(
        "https://api.twilio.com", description="Twilio's API, or one like it."
    )
    account_sid: Annotated[str, Field(pattern="^[A-Za-z0-9]{2,64}$")] = Field(description="Of the account.")
    auth_token: SecretStr = Field(description="Of the account.")
    from_number: str | None = Field(None, description="Who sends: a number, or letters where the country allows it.")
    messaging_service_sid: str | None = Field(None, description="The same, as a messaging service.")
    status_callback_url: Annotated[str, Field(pattern="^https?://[^#]+$")] | None = Field(
        None, description="Where delivery is reported to; derived from an https public address."
    )
    phone_numbers: list[Number] = Field([], description="Who is told for merchants without numbers.")
    brand: Annotated[str, Field(min_length=1, max_length=30)] = Field(
        "Sentinel", description="What each text begins with."
    )
    short_url: Annotated[str, Field(pattern="^https?://")] | None = Field(
        None, description="Where `/a/<id>` leads to this installation."
    )
    per_number_hour: Annotated[int, Field(ge=1, le=1000)] = Field(10, description="Texts to one number within an hour.")
    timeout: float = Field(default=10, gt=0, le=30, description="Seconds, of all numbers together.")

    @model_validator(mode="after")
    def _sender(self) -> SmsOptions:
        if (self.from_number is None) == (self.messaging_service_sid is None):
            raise ValueError("either from_number or messaging_service_sid must be set")
        return self


@dataclass(slots=True)
class _Tally:
    """What came of a message's numbers; texts name them masked."""

    numbers: list[dict[str, Any]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    slots: list[SmsSlot] = field(default_factory=list)
    waiting: list[TemporaryDeliveryError] = field(default_factory=list)
    free_in_s: list[float] = field(default_factory=list)


class Sms:
    channel_type = "sms"
    parallel = 4

    def __init__(self, options: SmsOptions, public_url: str, log: SmsLog | None = None) -> None:
        """Without a `log` nothing is remembered: for messages to try the channel with."""
        self._options = options
        self._link_base = options.short_url or public_url
        self._token = options.auth_token.get_secret_value()
        self._callback = callback_url(options, public_url)
        self._log = log
        self._session = timed(requests.Session())
        self._session.auth = (options.account_sid, self._token)
        self._account = f"{options.base_url.rstrip('/')}/2010-04-01/Accounts/{options.account_sid}"

    def send(
        self,
        message: Message,
        settings: Mapping[str, Any],
        before: Receipt | None = None,  # noqa: ARG002 - a text cannot be changed, and has no thread
    ) -> Receipt:
        """The receipt's reference is the first number's; its details tell each number's, and the segments."""
        numbers = list(dict.fromkeys(settings.get("phone_numbers") or self._options.phone_numbers))
        if not numbers:
            raise PermanentDeliveryError("SMS: there is no phone number")
        text, tally, until = self._text(message), _Tally(), monotonic() + self._options.timeout
        try:
            for number in numbers:
                self._tell(message, number, text, tally, until)
        except StoreUnavailable:
            raise TemporaryDeliveryError("SMS: what was sent to whom cannot be looked up now") from None
        if tally.waiting:
            raise _together(tally.waiting)
        if not tally.sent and tally.free_in_s:
            raise TemporaryDeliveryError(LIMITED, max(min(tally.free_in_s), 1.0), whose=Wait.MESSAGE)
        if not tally.sent:
            self._forget(tally)
            raise PermanentDeliveryError(f"SMS: {'; '.join(tally.refused)}")
        found = cost(text)
        details = {"encoding": found.encoding, "segments": found.segments, "numbers": tally.numbers}
        return Receipt(tally.sent[0], details)

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Nothing: the link leads to the chart."""

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        text, numbers = self._text(message), settings.get("phone_numbers") or self._options.phone_numbers
        found = cost(text)
        return {
            "to": [mask_phone(str(number)) for number in numbers],
            "body": text,
            "encoding": found.encoding,
            "segments": found.segments,
        }

    def check(self) -> str:
        reply = self._call("GET", f"{self._account}.json", self._options.timeout)
        if (error := refusal("SMS", reply, words_of(reply.document.get("code")))) is not None:
            raise error
        return f"account {self._options.account_sid[:4]}…, {reply.document.get('status') or 'status unknown'}"

    def _text(self, message: Message) -> str:
        return sms_text(message, self._options.brand, short_link(self._link_base, message.alert_id))

    def _tell(self, message: Message, number: str, text: str, tally: _Tally, until: float) -> None:
        """One number, unless an earlier try reached it or time is up."""
        shown, left = mask_phone(number), until - monotonic()
        if left <= 0:
            tally.waiting.append(TemporaryDeliveryError("SMS: time was up before all numbers were told"))
            return
        slot = self._begin(message, number)
        outcome: dict[str, Any] = {"to": shown}
        tally.numbers.append(outcome)
        if slot is not None and slot.state == "limited":
            tally.free_in_s.append((slot.free_at - slot.since).total_seconds() if slot.free_at else 0)
            outcome["error"] = "limit"
        elif slot is not None and slot.state == "refused":
            tally.refused.append(f"{shown} was refused before")
            tally.slots.append(slot)
            outcome["error"] = "refused"
        elif slot is not None and slot.state == "sent":
            outcome["sid"] = slot.reference
            tally.sent.append(slot.reference)
        else:
            self._submit(slot, number, text, tally, left)

    def _forget(self, tally: _Tally) -> None:
        """Nobody got it: when a person sends it again, all numbers are tried."""
        try:
            for slot in tally.slots:
                if self._log is not None:
                    self._log.release(slot)
        except StoreUnavailable:
            return

    def _begin(self, message: Message, number: str) -> SmsSlot | None:
        if self._log is None:
            return None
        key = hmac.new(self._token.encode(), number.encode(), hashlib.sha256).hexdigest()
        exempt = message.severity is Severity.P0 or message.reason is NotifyReason.RESOLVED
        limit = None if exempt else self._options.per_number_hour
        return self._log.begin(message.notification_id, key, limit)

    def _submit(self, slot: SmsSlot | None, number: str, text: str, tally: _Tally, left: float) -> None:
        """Raise PermanentDeliveryError where no number can be told at all."""
        outcome = tally.numbers[-1]
        try:
            reference = self._found(slot, number, text, left) or self._post(slot, number, text, left)
        except _NumberRefused as error:
            outcome["error"] = str(error)
            tally.refused.append(f"{outcome['to']}: {error}")
            if slot is not None and self._log is not None:
                tally.slots.append(slot)
                self._log.refused(slot, str(error))
        except TemporaryDeliveryError as error:
            outcome["error"] = str(error)
            tally.waiting.append(error)
        else:
            outcome["sid"] = reference
            tally.sent.append(reference)
            if slot is not None and self._log is not None:
                self._log.sent(slot, reference)

    def _post(self, slot: SmsSlot | None, number: str, text: str, left: float) -> str:
        """The message's sid, empty where the answer lacks one. What got no answer may have gone out."""
        o = self._options
        sender = {"From": o.from_number} if o.from_number else {"MessagingServiceSid": o.messaging_service_sid}
        form = {"To": number, "Body": text, **sender}
        if slot is not None and self._callback:
            mark = "&" if "?" in self._callback else "?"
            form["StatusCallback"] = f"{self._callback}{mark}m={slot.id}{_RETRIES}"
        reply = self._call("POST", f"{self._account}/Messages.json", left, data=form)
        error = _error(reply)
        if error is None:
            return str(reply.document.get("sid") or "")
        refused = (
            reply.status < HTTPStatus.INTERNAL_SERVER_ERROR
        )  # who stands before the gateway answers with a 5xx too
        if slot is not None and self._log is not None and refused and not isinstance(error, _NumberRefused):
            self._log.release(slot)
        raise error

    def _found(self, slot: SmsSlot | None, number: str, text: str, left: float) -> str:
        """The sid of what an earlier try sent to this number without hearing of it; else empty."""
        if slot is None or slot.state != "unsure":
            return ""
        query = f"To={quote(number, safe='')}&DateSent%3E={slot.since - _SKEW:%Y-%m-%d}&PageSize={_LOOKED_AT}"
        reply = self._call("GET", f"{self._account}/Messages.json?{query}", left)
        if (error := refusal("SMS", reply, words_of(reply.document.get("code")))) is not None:
            raise error
        listed = reply.document.get("messages")
        for entry in listed if isinstance(listed, list) else ():
            if entry.get("body") == text and entry.get("to") == number and _since(entry, slot.since - _SKEW):
                return str(entry.get("sid") or "")
        return ""

    def _call(self, method: str, url: str, timeout: float, **request: Any) -> Reply:  # noqa: ANN401 - requests' arguments
        return call("SMS", self._session, method, url, timeout=timeout, **request)


class _NumberRefused(PermanentDeliveryError):  # noqa: N818 - an answer about one number
    """Of one number; others may be told."""


def callback_url(options: SmsOptions, public_url: str) -> str:
    """Where Twilio reports to; empty where it could not reach us."""
    if options.status_callback_url:
        return options.status_callback_url
    return public_url.rstrip("/") + STATUS_PATH if public_url.startswith("https://") else ""


def _together(errors: Sequence[TemporaryDeliveryError]) -> TemporaryDeliveryError:
    """Of several numbers; where one of them is to wait all do."""
    asked = [error.retry_after for error in errors if error.retry_after]
    whose = Wait.CHANNEL if any(error.whose is Wait.CHANNEL for error in errors) else Wait.PLACE
    unsure = any(error.unsure for error in errors)
    return TemporaryDeliveryError(str(errors[0]), max(asked, default=None), whose=whose, unsure=unsure)


def _error(reply: Reply) -> DeliveryError | None:
    """A limit is of our account, whatever the number."""
    code = reply.document.get("code")
    error = refusal("SMS", reply, words_of(code))
    if error is not None and (code == RATE_LIMITED or reply.status == HTTPStatus.TOO_MANY_REQUESTS):
        return TemporaryDeliveryError(str(error), seconds_to_wait(reply.retry_after), whose=Wait.CHANNEL)
    of_number = reply.status == HTTPStatus.BAD_REQUEST and code not in CREDENTIALS
    return _NumberRefused(words_of(code)) if isinstance(error, PermanentDeliveryError) and of_number else error


def _since(entry: Mapping[str, Any], since: datetime) -> bool:
    try:
        return parsedate_to_datetime(str(entry.get("date_created"))) >= since
    except (TypeError, ValueError):
        return True
