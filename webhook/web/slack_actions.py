"""Buttons of Slack messages: what is pressed there is done here, as from a page or the API.

Slack's signature is the credential: no session, no CSRF token. Who presses may act on the one alert that the very
message was sent about, in the very channel: so a button that is made up, or taken from elsewhere, does nothing. The
answer comes at once, for Slack waits three seconds; what became of it shows in the message, or is told in private.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import structlog
from flask import Flask, Response, jsonify, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import NotFound, ServiceUnavailable, Unauthorized

from webhook.domain.access import Principal, Role
from webhook.domain.action import Doing, VersionChanged
from webhook.domain.session import IllegalChange
from webhook.notifiers.slack_blocks import ACKNOWLEDGE, DISMISS, DISMISSAL
from webhook.pipeline.lane import Lane
from webhook.ports import AlertNotFound, DeliveryError, Receipt, StoreUnavailable
from webhook.storage.acting import AlertActions
from webhook.storage.standing import Told
from webhook.web.depth import load_json
from webhook.web.problems import problem
from webhook.web.rates import Rates
from webhook.web.slack_payload import BadPayload, Pressed, pressed

if TYPE_CHECKING:
    from slack_sdk.signature import SignatureVerifier

PATH = "/api/v1/slack/interactions"
LONGEST_BODY = 512 * 1024
"""Bytes: Slack sends the message back with each press, each letter beyond ASCII as up to twelve characters."""

ROOM_WITHIN = 1.0  # seconds; of the three that Slack waits
THREADS = 4
TRIES = 3
"""Of a dismissal that meets another change of the alert."""

CHANGED = "Not done: the alert has changed meanwhile. Look at it again."
UNKNOWN = "Sentinel does not know this message. Open the alert's page to act on it."

log = structlog.get_logger(__name__)


class Talk(Protocol):
    """What of Slack is needed; see `webhook.notifiers.slack.Slack`. Each raises DeliveryError."""

    def ask(self, trigger_id: str, title: str, place: str) -> None: ...
    def tell(self, channel: str, user: str, text: str, response_url: str) -> None: ...


@dataclass(frozen=True, slots=True)
class SlackActions:
    """Does what was pressed. `told` finds the alert of a message; `show` brings its messages up to date."""

    actions: AlertActions
    told: Callable[[str, Receipt], Told | None]
    show: Callable[[str], None]
    talk: Talk
    clock: Callable[[], datetime]
    signing_secret: str = field(repr=False)

    def handle(self, wanted: Pressed, address: str) -> None:
        """In a thread of its own: nothing here is answered to Slack's request."""
        words = self._do(wanted, address)
        try:
            if words:
                self.talk.tell(wanted.channel, wanted.by.id, words, wanted.response_url)
            elif wanted.action != DISMISS:
                self.show(wanted.alert_id)
        except DeliveryError as error:
            log.warning("slack_not_told", alert_id=wanted.alert_id, by=wanted.by.credential, error=str(error))

    def _do(self, wanted: Pressed, address: str) -> str:
        """Why not, in words for who pressed; empty when it was done."""
        try:
            told = self.told(wanted.alert_id, Receipt(wanted.ts, {"channel": wanted.channel}))
            if told is not None:
                return self._act(wanted, told, address)
            log.warning("slack_button_of_no_message", alert_id=wanted.alert_id, by=wanted.by.credential)
        except IllegalChange as error:
            return f"Not done: {error}."
        except (AlertNotFound, VersionChanged):
            return CHANGED
        except (StoreUnavailable, SQLAlchemyError):
            return "Not done: Sentinel's database cannot be reached. Try again in a minute."
        return UNKNOWN

    def _act(self, wanted: Pressed, told: Told, address: str) -> str:
        if wanted.action == DISMISS:
            return self._ask(wanted, told)
        if wanted.action == ACKNOWLEDGE:
            self.actions.acknowledge(wanted.alert_id, "", self._doing(wanted, told, address))
            return ""
        if wanted.action == DISMISSAL:
            dismiss = partial(self.actions.dismiss, wanted.alert_id, wanted.reason, wanted.feedback)
            return self._quieten(wanted, told, address, dismiss)

        def snooze(doing: Doing) -> object:
            return self.actions.snooze(wanted.alert_id, doing.now + timedelta(minutes=wanted.minutes), doing)

        return self._quieten(wanted, told, address, snooze)

    def _ask(self, wanted: Pressed, told: Told) -> str:
        try:
            self.talk.ask(wanted.trigger_id, told.title, wanted.place)
        except DeliveryError as error:
            log.warning("slack_form_not_opened", alert_id=wanted.alert_id, error=str(error))
            return "The form could not be opened. Try again, or open the alert's page."
        return ""

    def _quieten(self, wanted: Pressed, told: Told, address: str, act: Callable[[Doing], object]) -> str:
        """Only what was seen: an alert that became graver since is looked at again first."""
        seen: Told | None = told
        for _ in range(TRIES):
            if seen is None or seen.severity.rank > wanted.severity.rank:
                now = f" to {seen.severity}" if seen else ""
                return f"Not done: the severity has risen{now} since you saw it. Look at it again."
            doing = self._doing(wanted, told, address, frozenset({seen.version}))
            try:
                act(doing)
            except VersionChanged:
                seen = self.told(wanted.alert_id, Receipt(wanted.ts, {"channel": wanted.channel}))
            else:
                return ""
        return CHANGED

    def _doing(self, wanted: Pressed, told: Told, address: str, versions: frozenset[int] | None = None) -> Doing:
        """In a merchant's own channel they are the merchant's people, in the installation's its staff."""
        role = Role.MERCHANT if told.own else Role.OPS
        accounts = frozenset({told.account_id}) if told.own else frozenset[str]()
        by = Principal(wanted.by.actor, role, wanted.by.credential, accounts, address)
        return Doing(wanted.by.actor, by, self.clock(), versions)


def register_slack_actions(app: Flask, site: SlackActions | None, *, rates: Rates) -> None:
    """Add the route; without `site` nothing is done there. Bodies above LONGEST_BODY get 413."""
    lane = Lane("slack-actions", THREADS)
    verifier = _verifier(site.signing_secret, site.clock) if site else None

    def interact() -> Response:
        address = request.remote_addr or ""
        rates.take_address(address)
        request.max_content_length = LONGEST_BODY
        body = request.get_data()
        if request.form.get("ssl_check") == "1":
            return Response()  # Slack looks at the certificate; it signs nothing and nothing is done
        if site is None or verifier is None:
            raise NotFound("Slack's buttons are not set up here: there is no signing_secret.")
        if not _signed(verifier, body):
            rates.guessed(address)
            raise Unauthorized("X-Slack-Signature is not right, or too old.")
        try:
            document = _document(body)
            if isinstance(document, dict) and document.get("type") == "url_verification":
                return jsonify(challenge=str(document.get("challenge", ""))[:200])
            wanted = pressed(document)
        except BadPayload as error:
            return problem(HTTPStatus.BAD_REQUEST, f"{error}.")
        for one in wanted:
            rates.take(Principal(one.by.actor, Role.MERCHANT, one.by.credential, address=address), request.method)
            if not lane.free(ROOM_WITHIN):
                raise ServiceUnavailable("Too many buttons are pressed at once.", retry_after=1)
            lane.submit(site.handle, one, address)
        return Response()

    app.add_url_rule(PATH, "slack_interactions", interact, methods=["POST"])
    app.extensions["sentinel_slack_actions"] = lane


def _verifier(signing_secret: str, clock: Callable[[], datetime]) -> SignatureVerifier:
    from slack_sdk.signature import Clock, SignatureVerifier  # noqa: PLC0415 - for those who use it

    class At(Clock):
        def now(self) -> float:
            return clock().timestamp()

    return SignatureVerifier(signing_secret, At())


def _signed(verifier: SignatureVerifier, body: bytes) -> bool:
    """Compared in constant time. What is not ASCII, or no number, would be an error in the library."""
    timestamp = request.headers.get("X-Slack-Request-Timestamp", "")
    signature = request.headers.get("X-Slack-Signature", "")
    if not (timestamp.isascii() and timestamp.isdigit() and signature.isascii()):
        return False
    try:
        return verifier.is_valid(body, timestamp[:12], signature)
    except UnicodeDecodeError:
        return False


def _document(body: bytes) -> object:
    """The JSON that was sent as such or as the form's `payload`; raise BadPayload."""
    text = body if request.is_json else request.form.get("payload", "").encode()
    try:
        return load_json(text)
    except ValueError as error:
        raise BadPayload(f"the payload is not JSON: {error}") from None
