"""The Slack channel against a server that answers as Slack documents."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fakes_slack import CHANNEL_ID, SlackStub
from notes import make_message
from pydantic import SecretStr

from webhook.notifiers.posting import seconds_to_wait
from webhook.notifiers.slack import Slack, SlackOptions
from webhook.ports import PermanentDeliveryError, TemporaryDeliveryError

TOKEN = "xoxb-secret-token"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8


@pytest.fixture
def stub() -> Iterator[SlackStub]:
    with SlackStub() as stub:
        yield stub


def channel(stub: SlackStub, **changes: Any) -> Slack:
    options: dict[str, Any] = {"token": SecretStr(TOKEN), "channel": "#fraud", "api_url": stub.url, "timeout": 60}
    return Slack(SlackOptions(**{**options, **changes}))


def test_a_message_and_its_chart(stub: SlackStub) -> None:
    slack, message = channel(stub), make_message()

    receipt = slack.send(message, {})
    slack.attach(message, receipt, PNG, {})

    (sent,) = stub.messages
    assert sent["channel"] == "#fraud"
    assert sent["text"].startswith("🔴 P1 - Critical")
    assert sent["blocks"][0]["text"]["text"] == "🔴 Card testing attack: Northwind Books"
    assert receipt.reference == sent["ts"]
    assert stub.files == [PNG]
    assert stub.shared[0]["thread_ts"] == sent["ts"]
    assert stub.shared[0]["channel"] == CHANNEL_ID
    assert {call.token for call in stub.calls if call.method != "upload"} == {TOKEN}


def test_an_answer_that_names_nothing_is_a_delivery_without_a_chart(stub: SlackStub) -> None:
    stub.fail_next(body=b'{"ok": true}')
    slack = channel(stub)
    receipt = slack.send(make_message(), {})
    with pytest.raises(PermanentDeliveryError, match="where the message is"):
        slack.attach(make_message(), receipt, PNG, {})


def test_a_merchant_s_own_channel_counts(stub: SlackStub) -> None:
    channel(stub).send(make_message(), {"channel": "C0NORTHWIND"})
    assert stub.messages[0]["channel"] == "C0NORTHWIND"


def test_without_any_channel_nothing_can_be_sent(stub: SlackStub) -> None:
    with pytest.raises(PermanentDeliveryError, match="channel"):
        channel(stub, channel=None).send(make_message(), {})


@pytest.mark.parametrize(
    "error",
    ["invalid_auth", "token_revoked", "account_inactive", "channel_not_found", "is_archived", "not_in_channel",
     "missing_scope", "invalid_blocks", "msg_too_long"],
)  # fmt: skip
def test_faults_of_token_channel_or_message_are_permanent(stub: SlackStub, error: str) -> None:
    stub.fail_next(error=error)
    with pytest.raises(PermanentDeliveryError, match=error):
        channel(stub).send(make_message(), {})
    assert len(stub.calls) == 1


@pytest.mark.parametrize("error", ["internal_error", "fatal_error", "service_unavailable", "request_timeout"])
def test_faults_of_slack_are_temporary(stub: SlackStub, error: str) -> None:
    stub.fail_next(error=error)
    with pytest.raises(TemporaryDeliveryError, match=error) as caught:
        channel(stub).send(make_message(), {})
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    ("failure", "wait"),
    [({"status": 429, "retry_after": 17}, 17), ({"status": 429}, 30), ({"error": "ratelimited"}, 30)],
)
def test_a_rate_limit_says_how_long_to_wait(stub: SlackStub, failure: dict[str, Any], wait: float) -> None:
    stub.fail_next(**failure)
    with pytest.raises(TemporaryDeliveryError) as caught:
        channel(stub).send(make_message(), {})
    assert caught.value.retry_after == wait
    assert len(stub.calls) == 1, "the outbox decides when to try again"


@pytest.mark.parametrize(("header", "wait"), [("17", 17), ("9" * 400, float("inf")), ("²", 30), (None, 30)])
def test_the_header_of_a_rate_limit_is_a_number_or_nothing(header: str | None, wait: float) -> None:
    assert seconds_to_wait(header) == wait


@pytest.mark.parametrize(
    "failure",
    [
        {"status": 500},
        {"status": 503, "body": b"<html>down</html>"},
        {"body": b"<html>a proxy's page</html>"},
        {"body": b""},
        {"body": b"null"},
        {"reset": True},
    ],
)
def test_broken_answers_and_connections_are_temporary(stub: SlackStub, failure: dict[str, Any]) -> None:
    stub.fail_next(**failure)
    with pytest.raises(TemporaryDeliveryError):
        channel(stub).send(make_message(), {})


def test_a_slow_answer_is_temporary(stub: SlackStub) -> None:
    stub.fail_next(hold=threading.Event())  # that nobody sets
    with pytest.raises(TemporaryDeliveryError, match=r"[Tt]imed? ?out"):
        channel(stub, timeout=1).send(make_message(), {})


def test_nobody_listening_is_temporary() -> None:
    with SlackStub() as gone:
        slack = channel(gone)
    with pytest.raises(TemporaryDeliveryError):
        slack.send(make_message(), {})


@pytest.mark.parametrize("method", ["files.getUploadURLExternal", "upload", "files.completeUploadExternal"])
@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ({"status": 500}, TemporaryDeliveryError),
        ({"status": 429, "retry_after": 3}, TemporaryDeliveryError),
        ({"reset": True}, TemporaryDeliveryError),
        ({"status": 403}, PermanentDeliveryError),
    ],
)
def test_a_chart_that_cannot_be_uploaded_says_so(
    stub: SlackStub, method: str, failure: dict[str, Any], kind: type[Exception]
) -> None:
    slack, message = channel(stub), make_message()
    receipt = slack.send(message, {})
    stub.fail_next(method, **failure)
    with pytest.raises(kind):
        slack.attach(message, receipt, PNG, {})
    assert stub.files == []


def test_the_token_is_in_no_error(stub: SlackStub) -> None:
    for failure in ({"error": "invalid_auth"}, {"status": 500}, {"reset": True}):
        stub.fail_next(**failure)
        with pytest.raises((PermanentDeliveryError, TemporaryDeliveryError)) as caught:
            channel(stub).send(make_message(), {})
        assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(SlackOptions(token=SecretStr(TOKEN)))


def test_the_stub_refuses_what_slack_refuses(stub: SlackStub) -> None:
    """A stub that accepts everything would prove nothing."""
    stub.bad_tokens.add("xoxb-bad")
    with pytest.raises(PermanentDeliveryError, match="invalid_auth"):
        channel(stub, token=SecretStr("xoxb-bad")).send(make_message(), {})
    client = channel(stub)._client
    blocks = [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]
    with pytest.raises(Exception, match="invalid_blocks"):
        client.chat_postMessage(channel="#x", text="t", blocks=blocks)
