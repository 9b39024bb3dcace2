"""Slack through slack-sdk: one message for each alert, kept up to date in place; its history and charts in its thread.

A later message first updates the one that stands there, which may be repeated, and then replies in its thread, which
may not: after a failure the thread is searched for the reply first. Slack's own retries are off: the outbox decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from slack_sdk.webhook import WebhookClient

from webhook.domain.alert import NotifyReason
from webhook.domain.message import Message
from webhook.notifiers.deadline import LONGEST_SEND, deadline
from webhook.notifiers.following import Behind
from webhook.notifiers.outgoing import guarded_session
from webhook.notifiers.slack_blocks import (
    blocks,
    dismissal,
    escape,
    fallback_text,
    is_broadcast,
    reply_blocks,
    reply_text,
)
from webhook.notifiers.slack_client import SlackClient
from webhook.notifiers.slack_errors import SlackRefusal, delivery_errors
from webhook.notifiers.slack_webhook import SlackWebhook
from webhook.ports import DeliveryError, PermanentDeliveryError, Receipt, TemporaryDeliveryError

_GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed"})
"""The message that stands there cannot be changed any more: a new one takes its place."""

_NO_THREAD = frozenset(
    {
        "cannot_reply_to_message",
        "message_not_found",
        "restricted_action_non_threadable_channel",
        "restricted_action_thread_locked",
        "thread_not_found",
    }
)
EVENT = "sentinel_message"
"""Type of the metadata by which a message is found again; its payload names the notification."""

RESPONSES = "hooks.slack.com"
"""Where what is pressed may be answered, beside the configured address of the API."""

_PAGE, _MOST_PAGES = 200, 20
"""Messages that are searched at once, as Slack recommends, and how often: back to the time of the first try."""


class SlackOptions(BaseModel):
    """`channel`: where messages go for merchants without a channel of their own. `timeout` in seconds.

    Without a `token` only merchants with an incoming webhook of their own are told. With the `signing_secret` of the
    app messages have buttons that act on the alert.
    """

    model_config = ConfigDict(extra="forbid")

    token: SecretStr | None = Field(
        None, description="Of the bot; without it only merchants with a webhook of their own are told."
    )
    channel: str | None = Field(None, description="Where messages go for merchants without a channel of their own.")
    signing_secret: SecretStr | None = Field(None, description="Of the app; with it messages have buttons that act.")
    api_url: str = Field("https://slack.com/api/", description="Where the API is.")
    timeout: int = Field(default=10, gt=0, description="Seconds that one call may take, at most 15.")

    @property
    def buttons(self) -> bool:
        """Whether buttons that are pressed can be answered."""
        return bool(self.token and self.signing_secret and self.signing_secret.get_secret_value())


class Slack:
    """Posts as a bot with the scopes chat:write and files:write; channels:history tells repeated messages."""

    channel_type = "slack"
    parallel = 4

    def __init__(self, options: SlackOptions, *, insecure_webhooks: bool = False) -> None:
        self._channel = options.channel
        self.buttons = options.buttons
        self.signing_secret = options.signing_secret.get_secret_value() if options.signing_secret else ""
        self._webhook = SlackWebhook(
            guarded_session(allow_private=insecure_webhooks), options.timeout, allow_http=insecure_webhooks
        )
        self._has_token = options.token is not None
        self._client = SlackClient(
            token=options.token.get_secret_value() if options.token else None,
            base_url=options.api_url,
            timeout=options.timeout,
        )
        self._behind = Behind()

    def send(self, message: Message, settings: Mapping[str, Any], before: Receipt | None = None) -> Receipt:
        """The first message is posted; a later one updates it and replies in its thread.

        The receipt's reference is the `ts` of the message that stands in the channel; its details name the channel's id
        and mark what the message shows of people's actions.
        """
        with deadline(LONGEST_SEND):
            return self._send(message, settings, before)

    def _send(self, message: Message, settings: Mapping[str, Any], before: Receipt | None) -> Receipt:
        if settings.get("webhook_url"):
            return self._webhook.send(message, str(settings["webhook_url"]))
        if not self._has_token:
            raise PermanentDeliveryError("Slack: there is no bot token, and the merchant gave no webhook")
        if before is not None and before.reference and before.details.get("channel"):
            return self._continue(message, str(before.details["channel"]), before)
        channel = settings.get("channel") or self._channel
        if not channel:
            raise PermanentDeliveryError("Slack: neither the merchant nor the default names a channel")
        return self._begin(message, str(channel))

    def follow(self, message: Message, receipt: Receipt, settings: Mapping[str, Any]) -> Receipt:  # noqa: ARG002 - the port's
        """Show the alert as it stands in the message of the receipt; who reads the channel is not told anew."""
        with deadline(LONGEST_SEND):
            self._update(message, str(receipt.details.get("channel")), receipt.reference)
        return Receipt(receipt.reference, {**receipt.details, "shown": message.shown})

    def behind(self) -> set[str]:
        """Alerts whose message a rate limit kept from being updated; each is named once."""
        return self._behind.take()

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Upload the chart into the message's thread. Incoming webhooks take text alone."""
        if settings.get("webhook_url"):
            return
        if not (receipt.reference and receipt.details.get("channel")):
            raise PermanentDeliveryError("Slack: its answer did not say where the message is")
        with deadline(LONGEST_SEND), delivery_errors():
            self._client.files_upload_v2(
                channel=receipt.details["channel"],
                thread_ts=receipt.reference,
                content=chart_png,
                filename="chart.png",
                title=f"Chart: {message.title}",
                alt_txt=f"Chart of the alert: {message.title}",
            )

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The message as it is posted, and its reply in the thread where one stands there already."""
        text = fallback_text(message)
        if settings.get("webhook_url"):
            return {"channel": None, "text": text, "blocks": blocks(message)}
        reply = {"text": reply_text(message), "blocks": reply_blocks(message), "broadcast": is_broadcast(message)}
        channel = settings.get("channel") or self._channel
        return {"channel": channel, "text": text, "blocks": blocks(message, buttons=self.buttons), "reply": reply}

    def check(self) -> str:
        if not self._has_token:
            return "merchants' own webhooks alone: there is no bot token"
        with delivery_errors():
            answer = self._client.auth_test()
        buttons = "" if self.buttons else ", without buttons: there is no signing_secret"
        return f"{answer.get('user')} in {answer.get('team')}{buttons}"

    def ask(self, trigger_id: str, title: str, place: str) -> None:
        """Open the form of a dismissal for who pressed a button, within three seconds of that; raise as `send` does."""
        with delivery_errors():
            self._client.views_open(trigger_id=trigger_id, view=dismissal(title, place))

    def tell(self, channel: str, user: str, text: str, response_url: str) -> None:
        """Say something to one person alone: at the address that came with what they pressed, else in the channel."""
        text = escape(text)
        if self._is_slack(response_url) and self._respond(response_url, text):
            return
        with delivery_errors():
            self._client.chat_postEphemeral(channel=channel, user=user, text=text, link_names=False, parse="none")

    def _is_slack(self, url: str) -> bool:
        """A signed request named it; all the same nothing is sent anywhere but to Slack."""
        try:
            place = urlsplit(url)
            ours = urlsplit(self._client.base_url)
        except ValueError:
            return False
        return (place.scheme, place.netloc) in {("https", RESPONSES), (ours.scheme, ours.netloc)}

    def _respond(self, url: str, text: str) -> bool:
        client = WebhookClient(url, timeout=self._client.timeout, retry_handlers=[])
        try:
            with delivery_errors():
                answer = client.send(text=text, response_type="ephemeral", replace_original=False)
        except DeliveryError:
            return False
        return answer.status_code == HTTPStatus.OK

    def _begin(self, message: Message, channel: str) -> Receipt:
        mark = message.shown
        if found := self._find(message, channel, None):
            return Receipt(found, {"channel": channel, "shown": mark})
        content = blocks(message, buttons=self.buttons)
        answer = self._post(message, channel, fallback_text(message), content, blind=found is None)
        # Whatever the answer lacks, the message is out: an error here would send it again.
        return Receipt(str(answer.get("ts") or ""), {"channel": answer.get("channel"), "shown": mark})

    def _continue(self, message: Message, channel: str, before: Receipt) -> Receipt:
        """Up to date, then the reply. A comment changes nothing of the alert, so it is a reply alone."""
        ts = before.reference
        try:
            if message.reason is NotifyReason.MENTION:
                shown = str(before.details.get("shown", ""))
            else:
                shown = self._bring_up_to_date(message, channel, ts)
            reply = self._reply(message, channel, ts)
        except SlackRefusal as refusal:
            if refusal.name not in _GONE | _NO_THREAD:
                raise
            return self._begin(message, channel)
        return Receipt(ts, {"channel": channel, "shown": shown, "reply": reply})

    def _bring_up_to_date(self, message: Message, channel: str, ts: str) -> str:
        """The mark of what the message shows; none where a rate limit leaves the news to the thread for now."""
        try:
            self._update(message, channel, ts)
        except TemporaryDeliveryError as error:
            if error.retry_after is None:
                raise
            self._behind.add(message.alert_id)
            return ""
        return message.shown

    def _update(self, message: Message, channel: str, ts: str) -> None:
        with delivery_errors():
            self._client.chat_update(
                channel=channel,
                ts=ts,
                text=fallback_text(message),
                blocks=blocks(message, buttons=self.buttons),
                parse="none",
                link_names=False,
            )

    def _reply(self, message: Message, channel: str, ts: str) -> str:
        """The reply's own `ts`; after a failure it may be there already."""
        if found := self._find(message, channel, ts):
            return found
        thread = {"thread_ts": ts, "reply_broadcast": is_broadcast(message)}
        answer = self._post(message, channel, reply_text(message), reply_blocks(message), blind=found is None, **thread)
        return str(answer.get("ts") or "")

    def _post(
        self,
        message: Message,
        channel: str,
        text: str,
        content: list[dict[str, Any]],
        *,
        blind: bool,
        **thread: Any,  # noqa: ANN401 - Slack's arguments
    ) -> Mapping[str, Any]:
        metadata = {"event_type": EVENT, "event_payload": {"notification_id": message.notification_id}}
        with delivery_errors(once=True, blind=blind):
            answer = self._client.chat_postMessage(
                channel=channel,
                text=text,
                blocks=content,
                metadata=metadata,
                mrkdwn=False,
                parse="none",
                link_names=False,
                unfurl_links=False,
                unfurl_media=False,
                **thread,
            )
        return answer.data if isinstance(answer.data, dict) else {}

    def _find(self, message: Message, channel: str, thread_ts: str | None) -> str | None:
        """The `ts` under which this very message is there already; empty where it is not, None if we may not look."""
        if not message.tries:
            return ""
        where: dict[str, Any] = {
            "channel": channel,
            "oldest": f"{message.created_at.timestamp() - 60:.6f}",
            "limit": _PAGE,
            "include_all_metadata": True,
        }
        until = monotonic() + self._client.timeout
        for _ in range(_MOST_PAGES):
            try:
                found, cursor = self._page(where, thread_ts)
            except PermanentDeliveryError:
                return None  # a scope is missing, or the channel is given by name
            for one in found:
                payload = (one.get("metadata") or {}).get("event_payload") or {}
                if payload.get("notification_id") == message.notification_id:
                    return str(one.get("ts") or "")
            if not cursor:
                return ""
            if monotonic() >= until:
                raise TemporaryDeliveryError("Slack: looking for a message that may be there already took too long")
            where["cursor"] = cursor
        return ""

    def _page(self, where: Mapping[str, Any], thread_ts: str | None) -> tuple[list[dict[str, Any]], str]:
        """Messages of a channel or a thread, and where the next ones are."""
        with delivery_errors():
            if thread_ts is None:
                answer = self._client.conversations_history(**where)
            else:
                answer = self._client.conversations_replies(ts=thread_ts, **where)
        more = answer.get("response_metadata")
        cursor = more.get("next_cursor") if isinstance(more, dict) else None
        return answer.get("messages") or [], str(cursor or "")
