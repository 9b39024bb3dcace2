"""One message for each alert: updated in place, its history in its thread, whatever Slack does in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fakes_slack import CHANNEL_ID, SlackStub
from notes import ended_note, make_message, make_note
from pydantic import SecretStr

from webhook.domain.alert import NotifyReason
from webhook.domain.message import Attention, Message
from webhook.domain.severity import Severity
from webhook.notifiers.slack import Slack, SlackOptions
from webhook.ports import PermanentDeliveryError, Receipt, TemporaryDeliveryError

FIRST = "11111111-1111-4111-8111-111111111111"
SECOND = "33333333-3333-4333-8333-333333333333"


@pytest.fixture
def stub() -> Iterator[SlackStub]:
    with SlackStub() as stub:
        yield stub


@pytest.fixture
def slack(stub: SlackStub) -> Slack:
    secrets = {"token": SecretStr("xoxb-1"), "signing_secret": SecretStr("s")}
    return Slack(SlackOptions(**secrets, channel="#fraud", api_url=stub.url, timeout=60))


def graver(**changes: Any) -> Message:
    values = {"notification_id": SECOND, "reason": NotifyReason.ESCALATED, "severity": Severity.P0}
    return make_message(make_note(**{**values, **changes}))


def again(message: Message) -> Message:
    return replace(message, tries=1)


def header(message: dict[str, Any]) -> str:
    text: str = message["blocks"][0]["text"]["text"]
    return text


def test_an_attack_is_one_message_with_its_history_in_the_thread(stub: SlackStub, slack: Slack) -> None:
    first = slack.send(make_message(), {})
    second = slack.send(make_message(make_note(notification_id="2", reason=NotifyReason.INTERVAL)), {}, first)
    third = slack.send(graver(), {}, second)
    last = slack.send(make_message(ended_note(notification_id="4")), {}, third)

    (root,) = stub.roots
    assert {first.reference, second.reference, third.reference, last.reference} == {root["ts"]}
    assert header(root) == "✅ Card testing attack has ended: Northwind Books"
    assert root["blocks"][1]["text"]["text"] == "*Ended*"
    replies = stub.thread(root["ts"])
    assert [reply["text"].split(" · ")[0] for reply in replies] == [
        "🔴 Goes on",
        "🆘 Now P0 - Emergency",
        "✅ It has ended",
    ]
    assert [reply["reply_broadcast"] for reply in replies] == [False, True, True]


def test_a_comment_is_told_in_the_thread_and_leaves_the_message_as_it_is(stub: SlackStub, slack: Slack) -> None:
    first = slack.send(make_message(), {})
    said = make_note(notification_id="5", reason=NotifyReason.MENTION, comment="@lee look", comment_by="ana")
    after = slack.send(make_message(said), {}, first)
    (root,) = stub.roots
    assert header(root) == "🔴 Card testing attack: Northwind Books"
    assert [reply["text"].split(": ")[-1] for reply in stub.thread(root["ts"])] == ["@lee look"]
    assert (after.reference, after.details["shown"]) == (first.reference, first.details["shown"])


def test_the_chart_of_a_later_message_is_in_the_same_thread(stub: SlackStub, slack: Slack) -> None:
    first = slack.send(make_message(), {})
    slack.attach(graver(), slack.send(graver(), {}, first), b"\x89PNG", {})
    assert stub.shared[0]["thread_ts"] == first.reference


@pytest.mark.parametrize("error", ["message_not_found", "cant_update_message", "edit_window_closed"])
def test_a_message_that_cannot_be_updated_is_replaced_by_a_new_one(stub: SlackStub, slack: Slack, error: str) -> None:
    first = slack.send(make_message(), {})
    stub.fail_next("chat.update", error=error)
    second = slack.send(graver(), {}, first)

    assert second.reference not in ("", first.reference)
    assert header(stub.shown(second.reference)).startswith("🆘")
    third = slack.send(make_message(ended_note(notification_id="4")), {}, second)
    assert third.reference == second.reference, "from then on the new one is kept up to date"


def test_a_message_that_a_person_deleted_is_posted_anew(stub: SlackStub, slack: Slack) -> None:
    first = slack.send(make_message(), {})
    stub.delete(first.reference)
    second = slack.send(graver(), {}, first)
    assert [message["ts"] for message in stub.roots] == [second.reference]


@pytest.mark.parametrize("error", ["thread_not_found", "restricted_action_thread_locked", "cannot_reply_to_message"])
def test_where_nobody_may_reply_the_news_is_a_message(stub: SlackStub, slack: Slack, error: str) -> None:
    first = slack.send(make_message(), {})
    stub.fail_next("chat.postMessage", error=error)
    second = slack.send(graver(), {}, first)
    assert second.reference != first.reference
    assert len(stub.roots) == 2


@pytest.mark.parametrize("failure", [{"status": 500}, {"reset": True}, {"lost": True}, {"error": "fatal_error"}])
def test_a_reply_that_fails_is_told_once_when_it_is_tried_again(
    stub: SlackStub, slack: Slack, failure: dict[str, Any]
) -> None:
    first = slack.send(make_message(), {})
    stub.fail_next("chat.postMessage", **failure)
    with pytest.raises(TemporaryDeliveryError):
        slack.send(graver(), {}, first)
    receipt = slack.send(again(graver()), {}, first)

    (reply,) = stub.thread(first.reference)
    assert receipt.reference == first.reference
    assert receipt.details["reply"] == reply["ts"]
    assert len(stub.roots) == 1


def test_a_first_message_whose_answer_was_lost_is_found_again(stub: SlackStub, slack: Slack) -> None:
    settings = {"channel": CHANNEL_ID}
    stub.fail_next("chat.postMessage", lost=True)
    with pytest.raises(TemporaryDeliveryError):
        slack.send(make_message(), settings)
    receipt = slack.send(again(make_message()), settings)
    assert [message["ts"] for message in stub.roots] == [receipt.reference]
    assert receipt.details["channel"] == CHANNEL_ID


def test_another_message_of_the_channel_is_not_mistaken_for_it(stub: SlackStub, slack: Slack) -> None:
    settings = {"channel": CHANNEL_ID}
    slack.send(make_message(make_note(notification_id=FIRST)), settings)
    slack.send(again(make_message(make_note(notification_id=SECOND))), settings)
    assert len(stub.roots) == 2


def test_nothing_is_searched_where_nothing_failed(stub: SlackStub, slack: Slack) -> None:
    slack.send(graver(), {}, slack.send(make_message(), {}))
    assert not stub.asked("conversations.history") + stub.asked("conversations.replies")


def test_without_the_right_to_search_a_message_goes_out_rather_twice_than_never(stub: SlackStub, slack: Slack) -> None:
    stub.scopes -= {"channels:history"}
    first = slack.send(make_message(), {"channel": CHANNEL_ID})
    stub.fail_next("chat.postMessage", lost=True)
    with pytest.raises(TemporaryDeliveryError):
        slack.send(graver(), {}, first)
    slack.send(again(graver()), {}, first)
    assert len(stub.thread(first.reference)) == 2


def test_a_search_that_slack_cannot_answer_now_is_waited_for(stub: SlackStub, slack: Slack) -> None:
    first = slack.send(make_message(), {})
    stub.fail_next("conversations.replies", status=429, retry_after=60)
    with pytest.raises(TemporaryDeliveryError) as caught:
        slack.send(again(graver()), {}, first)
    assert caught.value.retry_after == 60
    assert stub.thread(first.reference) == []


def test_a_rate_limit_on_updates_leaves_the_news_to_the_thread(stub: SlackStub, slack: Slack) -> None:
    first = slack.send(make_message(), {})
    stub.fail_next("chat.update", status=429, retry_after=5)
    second = slack.send(graver(), {}, first)

    assert [reply["text"].split(" · ")[0] for reply in stub.thread(first.reference)] == ["🆘 Now P0 - Emergency"]
    assert header(stub.shown(first.reference)).startswith("🔴"), "the old one"
    assert slack.behind() == {graver().alert_id}
    assert slack.behind() == set()
    slack.follow(graver(), second, {})
    assert header(stub.shown(first.reference)).startswith("🆘")


@pytest.mark.parametrize(
    "failure", [{"status": 503}, {"reset": True}, {"body": b"<html>"}, {"error": "internal_error"}]
)
def test_an_update_that_slack_cannot_do_now_is_tried_again(
    stub: SlackStub, slack: Slack, failure: dict[str, Any]
) -> None:
    first = slack.send(make_message(), {})
    stub.fail_next("chat.update", **failure)
    with pytest.raises(TemporaryDeliveryError):
        slack.send(graver(), {}, first)
    assert stub.thread(first.reference) == [], "the reply is the last of what is done"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("is_archived", "unarchive it, or choose another"),
        ("channel_not_found", "invite the bot"),
        ("not_in_channel", "invite it"),
        ("token_revoked", "new bot token"),
        ("account_inactive", "new bot token"),
        ("invalid_auth", "new bot token"),
        ("missing_scope", "install it anew"),
        ("msg_too_long", "too long"),
    ],
)
@pytest.mark.parametrize("method", ["chat.postMessage", "chat.update"])
def test_what_slack_refuses_for_good_says_what_to_do(
    stub: SlackStub, slack: Slack, method: str, error: str, advice: str
) -> None:
    before = slack.send(make_message(), {}) if method == "chat.update" else None
    stub.fail_next(method, error=error)
    with pytest.raises(PermanentDeliveryError, match=f"Slack: {error}: .*{advice}"):
        slack.send(graver(), {}, before)


def test_a_missing_scope_is_named(stub: SlackStub, slack: Slack) -> None:
    receipt = slack.send(make_message(), {})
    stub.scopes -= {"files:write"}
    with pytest.raises(PermanentDeliveryError, match="the scope files:write"):
        slack.attach(make_message(), receipt, b"\x89PNG", {})


def test_blocks_that_slack_refuses_are_named(stub: SlackStub, slack: Slack) -> None:
    body = (
        b'{"ok": false, "error": "invalid_blocks", "response_metadata": {"messages": ["[ERROR] too long /blocks/0"]}}'
    )
    stub.fail_next("chat.postMessage", body=body)
    with pytest.raises(PermanentDeliveryError, match="too long /blocks/0"):
        slack.send(make_message(), {})


def test_buttons_are_there_only_where_somebody_answers_them(stub: SlackStub) -> None:
    for secret, number in (("s", 4), ("", 1), (None, 1)):
        options = SlackOptions(token="xoxb-1", channel="C1", signing_secret=secret, api_url=stub.url)
        shown = Slack(options).preview(make_message(), {})
        assert len(shown["blocks"][-1]["elements"]) == number
        assert len(Slack(options).preview(make_message(), {"webhook_url": "x"})["blocks"][-1]["elements"]) == 1


def test_check_says_as_whom_and_what_is_missing(stub: SlackStub, slack: Slack) -> None:
    assert slack.check() == "sentinel in Acme"
    without = Slack(SlackOptions(token="xoxb-1", api_url=stub.url))
    assert without.check() == "sentinel in Acme, without buttons: there is no signing_secret"
    stub.bad_tokens.add("xoxb-1")
    with pytest.raises(PermanentDeliveryError, match="new bot token"):
        slack.check()


def test_following_shows_who_acted_and_tells_nobody(stub: SlackStub, slack: Slack) -> None:
    first = slack.send(make_message(), {})
    followed = slack.follow(make_message(make_note(attention=Attention(acknowledged_by="ana"))), first, {})
    (root,) = stub.roots
    assert root["blocks"][1]["text"]["text"] == "*Going on* · acknowledged by ana"
    assert stub.thread(root["ts"]) == []
    assert followed.details["shown"] != first.details["shown"]
    assert replace(followed, details={}) == Receipt(first.reference)


def test_a_message_is_found_behind_hundreds_that_came_after_it(stub: SlackStub, slack: Slack) -> None:
    settings = {"channel": CHANNEL_ID}
    stub.fail_next("chat.postMessage", lost=True)
    with pytest.raises(TemporaryDeliveryError):
        slack.send(make_message(), settings)
    for number in range(450):
        stub.post(CHANNEL_ID, f"chatter {number}")
    receipt = slack.send(again(make_message()), settings)
    assert receipt.reference == stub.messages[0]["ts"]
    asked = stub.asked("conversations.history")
    assert len(asked) == 3
    assert {page["oldest"] for page in asked} == {f"{make_message().created_at.timestamp() - 60:.6f}"}


def test_a_reply_is_found_at_the_end_of_a_long_thread(stub: SlackStub, slack: Slack) -> None:
    first = slack.send(make_message(), {})
    for number in range(250):
        stub.post(CHANNEL_ID, f"chatter {number}", first.reference)
    stub.fail_next("chat.postMessage", lost=True)
    with pytest.raises(TemporaryDeliveryError):
        slack.send(graver(), {}, first)
    receipt = slack.send(again(graver()), {}, first)
    assert receipt.details["reply"] == stub.messages[-1]["ts"]
    assert len(stub.asked("conversations.replies")) == 2
