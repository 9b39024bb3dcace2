"""What Slack's messages, replies and forms say as an attack goes on, and that they keep to Slack's limits."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fakes_slack_blocks import block_errors, view_errors
from hypothesis import given
from hypothesis import strategies as st
from notes import NOW, ended_note, make_message, make_note

from webhook.domain.alert import OPERATIONS_ACCOUNT, AlertStatus, NotifyReason
from webhook.domain.message import Attention
from webhook.domain.severity import Severity
from webhook.notifiers.slack_blocks import blocks, dismissal, is_broadcast, reply_blocks, reply_text

HOSTILE = "<!channel> <@U1|you> <https://evil.example|click> & x *Ended* ~no~ :white_check_mark: `rm` _so_"
ANA = "slack:U0ANA (Ana Ruiz)"
ACKNOWLEDGED = Attention(acknowledged_by=ANA)
SNOOZED = Attention(snoozed_by="lee@acme.example", snoozed_until=NOW + timedelta(hours=1))
DISMISSED = Attention(closed_by=ANA, closing_note="Normal business: a <sale>", dismissed=True)


def state(message: Any) -> str:
    text: str = blocks(message)[1]["text"]["text"]
    return text


def pressable(message: Any) -> list[str]:
    return [element["action_id"] for element in blocks(message, buttons=True)[-1]["elements"]]


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (make_note(), "*Going on* · nobody has acknowledged it yet"),
        (make_note(attention=ACKNOWLEDGED), "*Going on* · acknowledged by Ana Ruiz"),
        (make_note(attention=SNOOZED), "*Going on* · snoozed until 2025-11-21 11:42 UTC by lee@acme.example"),
        (make_note(attention=DISMISSED), "*Dismissed* by Ana Ruiz: Normal business: a &lt;sale&gt;"),
        (ended_note(), "*Ended*"),
        (ended_note(attention=Attention(acknowledged_by=ANA, closed_by="lee")),
         "*Ended*, says lee · acknowledged by Ana Ruiz"),
    ],
)  # fmt: skip
def test_a_message_says_how_the_alert_stands_and_who_is_on_it(note: Any, said: str) -> None:
    assert state(make_message(note)) == said


def test_only_what_can_still_be_done_can_be_pressed() -> None:
    assert pressable(make_message()) == ["view_details", "acknowledge", "dismiss", "snooze"]
    assert pressable(make_message(make_note(attention=ACKNOWLEDGED))) == ["view_details", "dismiss", "snooze"]
    assert pressable(make_message(make_note(attention=DISMISSED))) == ["view_details"]
    assert pressable(make_message(ended_note())) == ["view_details"]
    assert [element["action_id"] for element in blocks(make_message())[-1]["elements"]] == ["view_details"]


def test_signs_tell_severities_and_states_apart_without_colour() -> None:
    messages = [make_message(make_note(severity=severity)) for severity in Severity]
    messages += [make_message(ended_note()), make_message(make_note(attention=DISMISSED))]
    assert len({blocks(message)[0]["text"]["text"][0] for message in messages}) == len(Severity) + 2
    assert len({json.dumps(blocks(message)[1:3]) for message in messages}) == len(messages)


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (
            make_note(reason=NotifyReason.ESCALATED, severity=Severity.P0),
            "🆘 Now P0 - Emergency · Card testing attack · Northwind Books · ",
        ),
        (make_note(reason=NotifyReason.INTERVAL), "🔴 Goes on · Card testing attack · "),
        (make_note(reason=NotifyReason.FLAPPING), "🔴 Comes and goes · "),
        (ended_note(), "✅ It has ended · Card testing attack · "),
    ],
)
def test_a_reply_is_short_and_says_what_is_new(note: Any, said: str) -> None:
    message = make_message(note)
    assert reply_text(message).startswith(said)
    (block,) = reply_blocks(message)
    assert block["text"]["text"].count("\n") == 1
    assert "Block rate: 35.04 % (threshold 20 %" in block["text"]["text"]
    assert "Triggers: 3" in block["text"]["text"]
    assert f"<{message.url}|View details>" in block["text"]["text"]


def test_a_reply_about_operations_names_the_rule_and_no_merchant() -> None:
    note = ended_note(account_id=OPERATIONS_ACCOUNT, alert_type="OPERATIONS", rule_summary=f"Source {HOSTILE} is stale")
    message = make_message(note)
    assert reply_text(message).startswith("✅ It has ended · Source ")
    (block,) = reply_blocks(message)
    assert "<!channel>" not in block["text"]["text"]


def test_the_channel_hears_of_what_is_graver_of_the_end_and_of_what_people_ask_for() -> None:
    loud = {reason for reason in NotifyReason if is_broadcast(make_message(make_note(reason=reason)))}
    assert loud == {NotifyReason.ESCALATED, NotifyReason.RESOLVED, NotifyReason.RESEND, NotifyReason.MENTION}


def test_nothing_from_outside_is_markup_in_states_replies_and_forms() -> None:
    attention = Attention(acknowledged_by=f"slack:U1 ({HOSTILE})", snoozed_by=HOSTILE, snoozed_until=NOW)
    note = make_note(merchant_name=HOSTILE, attention=attention, metrics={"<!here>": 1.0})
    closed = make_note(attention=Attention(closed_by=HOSTILE, closing_note=HOSTILE, dismissed=True))
    texts = [state(make_message(note)), state(make_message(closed)), reply_text(make_message(note))]
    texts += [dismissal(HOSTILE, "")["blocks"][0]["text"]["text"]]
    reply = reply_blocks(make_message(note))[0]["text"]["text"]
    texts.append(reply.replace(f"<{make_message().url}|View details>", ""))
    assert not any("<" in text or ">" in text for text in texts)
    assert all("&lt;!channel&gt;" in text for text in texts)
    marked = [text for text in texts if text != reply_text(make_message(note))]
    for begun in ("*Ended", "~no", ":white_check_mark:", "`rm", "_so"):
        assert all(begun not in text.replace(f"\u200b{begun}", "") for text in marked), begun


def test_a_comment_is_a_reply_with_what_was_said() -> None:
    note = make_note(reason=NotifyReason.MENTION, comment="@lee <!here> look", comment_by="ana")
    (block,) = reply_blocks(make_message(note))
    said = "💬 *ana on Card testing attack: Northwind Books*\n@lee &lt;!here&gt; look"
    assert block["text"]["text"] == said
    assert reply_text(make_message(note)).endswith("@lee &lt;!here&gt; look")
    late = replace(note, status=AlertStatus.RESOLVED)
    assert state(make_message(late)) == "*Ended*", "its first message, when all is over"


def test_since_when_and_how_often_stay_whatever_the_number_of_metrics() -> None:
    shown = blocks(make_message(make_note(metrics={f"metric_{n}": 0.5 for n in range(30)})))
    labels = [field["text"].split("\n")[0] for field in shown[2]["fields"]]
    assert labels[-3:] == ["*Since*", "*For*", "*Triggers*"]
    assert len(labels) == 10


@given(st.text(max_size=3000), st.text(max_size=3000), st.dictionaries(st.text(max_size=90), st.floats(), max_size=15))
def test_any_words_stay_within_slack_s_limits(name: str, note: str, metrics: dict[str, float]) -> None:
    attention = Attention(name, name, NOW, name, note, dismissed=False)
    for over in (False, True):
        told = make_note(
            merchant_name=name,
            metrics=metrics,
            thresholds={},
            attention=Attention(name, name, NOW, name, note, dismissed=True) if over else attention,
        )
        message = make_message(told)
        assert block_errors(blocks(message, buttons=True)) == []
        assert block_errors(reply_blocks(message)) == []
        assert len(reply_text(message)) < 3000
    assert view_errors(dismissal(name, "p")) == []
