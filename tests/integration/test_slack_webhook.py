"""A merchant's own incoming webhook, against a server that answers as Slack documents."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from fakes_slack_webhook import PATH, Refusal, SlackWebhookStub
from notes import make_message

from webhook.notifiers.slack import Slack, SlackOptions
from webhook.ports import PermanentDeliveryError, TemporaryDeliveryError

SECRET = PATH.rsplit("/", 1)[1]


@pytest.fixture
def stub() -> Iterator[SlackWebhookStub]:
    with SlackWebhookStub() as stub:
        yield stub


def slack(*, timeout: int = 60, insecure: bool = True) -> Slack:
    """Without a bot token: the address is all it takes."""
    return Slack(SlackOptions(timeout=timeout), insecure_webhooks=insecure)


def test_a_message_arrives_as_text_and_blocks_and_without_a_chart(stub: SlackWebhookStub) -> None:
    sender, message, settings = slack(), make_message(), {"webhook_url": stub.url, "channel": "#ignored"}
    receipt = sender.send(message, settings)
    sender.attach(message, receipt, b"\x89PNG", settings)
    (sent,) = stub.messages
    assert sent["text"].startswith("🔴 P1 - Critical")
    assert sent["blocks"][0]["text"]["text"] == "🔴 Card testing attack: Northwind Books"
    assert "channel" not in sent, "Slack ignores it: the webhook has its own"
    assert stub.asked == [PATH]
    assert receipt.details == {"webhook": True}


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "invalid_payload"),
        (403, "action_prohibited"),
        (404, "no_service"),
        (404, "channel_not_found"),
        (410, "channel_is_archived"),
    ],
)
def test_what_slack_refuses_is_final(stub: SlackWebhookStub, status: int, word: str) -> None:
    stub.refusal = Refusal(status, word)
    with pytest.raises(PermanentDeliveryError, match=f"HTTP {status}") as caught:
        slack().send(make_message(), {"webhook_url": stub.url})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("refusal", "wait"),
    [
        (Refusal(429, "rate_limited", {"Retry-After": "3600"}), 3600),
        (Refusal(429, "rate_limited"), 30),
        (Refusal(500, "rollup_error"), None),
        (Refusal(503, "<html>down</html>"), None),
        (Refusal(503, "<html>down</html>", {"Retry-After": "70"}), 70),
        (Refusal(reset=True), None),
    ],
)
def test_what_passes_is_tried_again(stub: SlackWebhookStub, refusal: Refusal, wait: float | None) -> None:
    """A wait is of this address alone, and its length is bounded where it is kept."""
    stub.refusal = refusal
    with pytest.raises(TemporaryDeliveryError) as caught:
        slack().send(make_message(), {"webhook_url": stub.url})
    assert caught.value.retry_after == wait
    assert SECRET not in str(caught.value)
    assert len(stub.asked) == 1, "the outbox decides when to try again"


def test_an_answer_that_does_not_come_is_tried_again(stub: SlackWebhookStub) -> None:
    stub.refusal = Refusal(hold=threading.Event())  # that nobody sets
    with pytest.raises(TemporaryDeliveryError, match="Timeout"):
        slack(timeout=1).send(make_message(), {"webhook_url": stub.url})


def test_nobody_listening_is_tried_again() -> None:
    with SlackWebhookStub() as gone:
        url = gone.url
    with pytest.raises(TemporaryDeliveryError, match="ConnectionError"):
        slack().send(make_message(), {"webhook_url": url})


def test_a_redirect_is_not_followed(stub: SlackWebhookStub) -> None:
    stub.refusal = Refusal(302, headers={"Location": "/elsewhere"})
    with pytest.raises(PermanentDeliveryError, match="HTTP 302"):
        slack().send(make_message(), {"webhook_url": stub.url})
    assert stub.asked == [PATH]


def test_an_address_inside_is_not_asked(stub: SlackWebhookStub) -> None:
    url = stub.url.replace("http://", "https://")
    with pytest.raises(PermanentDeliveryError, match="private or local") as caught:
        slack(insecure=False).send(make_message(), {"webhook_url": url})
    assert SECRET not in str(caught.value)
    assert stub.asked == []
