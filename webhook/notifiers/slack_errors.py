"""What Slack refuses, and whether trying again can help.

Rate limits, 5xx, timeouts and broken connections are temporary; what Slack answers as a fault of the token, the channel
or the message is permanent, and the words say what to do about it.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError

from slack_sdk.errors import SlackApiError, SlackClientError

from webhook.notifiers.posting import perhaps_taken, seconds_to_wait
from webhook.ports import DeliveryError, PermanentDeliveryError, TemporaryDeliveryError

_TEMPORARY = frozenset(
    {
        "accesslimited",
        "fatal_error",
        "internal_error",
        "message_limit_exceeded",
        "rate_limited",
        "ratelimited",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
    }
)
_HALF_DONE = frozenset({"fatal_error", "internal_error"})
"""Slack says of these that some of what was asked for may have been done."""

_SERVER_ERROR, _TOO_MANY = 500, 429

_TOKEN = "install the app in its workspace anew and give Sentinel the new bot token"  # noqa: S105 - words
_WORDS: Mapping[str, str] = {
    "account_inactive": f"the bot was removed: {_TOKEN}",
    "invalid_auth": f"Slack does not know the token: {_TOKEN}",
    "not_authed": f"Slack does not know the token: {_TOKEN}",
    "token_expired": f"the token has expired: {_TOKEN}",
    "token_revoked": f"the token was revoked: {_TOKEN}",
    "channel_not_found": "there is no such channel, or it is private and the bot is not in it: invite the bot, or "
    "correct the channel's id",
    "is_archived": "the channel is archived: unarchive it, or choose another",
    "not_in_channel": "the bot is not in the channel: invite it there",
    "restricted_action_read_only_channel": "nobody may post in this channel: choose another",
    "invalid_blocks": "Slack refuses the message as it was written",
    "msg_blocks_too_long": "Slack refuses the message as it was written",
    "msg_too_long": "the message is too long",
}
_LONGEST = 500


class SlackRefusal(PermanentDeliveryError):  # noqa: N818 - an answer of Slack
    """Slack answered with an error that another try meets again; `name` is Slack's own for it."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words)
        self.name = name


@contextmanager
def delivery_errors(*, once: bool = False, blind: bool = False) -> Iterator[None]:
    """Every failure of a call as a DeliveryError that says whether trying again can help.

    `once`: the call does something anew when it is repeated; `blind`: and nobody could tell whether it has done so.
    """
    try:
        with _as_delivery_errors():
            yield
    except TemporaryDeliveryError as error:
        error.unsure, error.blind = error.unsure and once, blind
        raise


@contextmanager
def _as_delivery_errors() -> Iterator[None]:
    try:
        yield
    except SlackApiError as error:
        raise _delivery_error(error) from None
    except HTTPError as error:
        with error:
            raise by_status(error.code, error.headers.get("Retry-After"), f"HTTP {error.code}") from None
    except (SlackClientError, OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        raise TemporaryDeliveryError(f"Slack: {type(error).__name__}: {error}", unsure=True) from None


def _delivery_error(error: SlackApiError) -> DeliveryError:
    response = error.response
    data = response.data if isinstance(response.data, dict) else {}
    name = str(data.get("error") or "no error named")
    if response.status_code == _TOO_MANY or name in {"ratelimited", "rate_limited"}:
        return by_status(_TOO_MANY, _header(response.headers, "Retry-After"), "rate limited")
    if response.status_code >= _SERVER_ERROR or name in _TEMPORARY:
        half_done = response.status_code < _SERVER_ERROR and name in _HALF_DONE
        unsure = half_done or perhaps_taken(response.status_code)
        return TemporaryDeliveryError(f"Slack: HTTP {response.status_code}, {name[:200]}", unsure=unsure)
    if not name.replace("_", "").isalnum():  # slack-sdk's own words for an answer that is no JSON
        return TemporaryDeliveryError(f"Slack: unexpected answer: {name[:200]}", unsure=True)
    return SlackRefusal(name, f"Slack: {name}{_advice(name, data)}"[:_LONGEST])


def _advice(name: str, data: Mapping[str, Any]) -> str:
    """What to do, and what Slack says besides."""
    words = _WORDS.get(name, "")
    if name == "missing_scope":
        words = f"give the app the scope {data.get('needed') or 'that docs/channels.md names'} and install it anew"
    more = data.get("response_metadata")
    said = more.get("messages") if isinstance(more, dict) else None
    parts = [words, *(str(line) for line in said or [])]
    return "".join(f": {part}" for part in parts if part)


def by_status(status: int, retry_after: str | None, words: str) -> DeliveryError:
    if status == _TOO_MANY or (status == HTTPStatus.SERVICE_UNAVAILABLE and retry_after):
        wait = seconds_to_wait(retry_after)
        return TemporaryDeliveryError(f"Slack: {words}, wait {wait:g} s", retry_after=wait)
    if status >= _SERVER_ERROR:
        return TemporaryDeliveryError(f"Slack: {words}", unsure=perhaps_taken(status))
    return PermanentDeliveryError(f"Slack: {words}")


def _header(headers: Mapping[str, Any], name: str) -> str | None:
    for key, value in headers.items():
        if key.lower() == name.lower():
            return str(value[0] if isinstance(value, list) else value)
    return None
