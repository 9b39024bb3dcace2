"""What messages look like on the console and in Slack."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from fakes_slack_blocks import block_errors
from hypothesis import given
from hypothesis import strategies as st
from notes import ended_note, make_message, make_note

from webhook.domain.message import compose
from webhook.domain.severity import Severity
from webhook.domain.summary import template_summary
from webhook.notifiers.console import WIDTH, Console
from webhook.notifiers.registry import CHANNELS, Site, build_notifiers
from webhook.notifiers.slack_blocks import blocks, escape, fallback_text
from webhook.ports import Summary

URL = "http://sentinel.example:8080"
SITE = Site(URL)
HOSTILE = "<!channel> <@U1|you> <https://evil.example|click> & *x*"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(stream: io.StringIO, **changes: Any) -> str:
    console = Console(stream)
    message = make_message(make_note(**changes))
    receipt = console.send(message, {})
    console.attach(message, receipt, b"", {})
    return stream.getvalue()


def test_the_console_shows_the_whole_message_with_its_links() -> None:
    text = printed(io.StringIO())

    assert "P1 CRITICAL" in text
    assert "Card testing attack: Northwind Books" in text
    assert "35.04 % (threshold 20 %)" in text
    assert "What to do: Block the sources" in text
    assert f"{URL}/alerts/22222222-2222-4222-8222-222222222222" in text
    assert f"{URL}/api/v1/alerts/22222222-2222-4222-8222-222222222222/chart.png" in text
    assert all(line[0] in "┌│└" for line in text.splitlines())
    assert all(len(line) <= WIDTH for line in text.splitlines() if "http" not in line)
    assert "\x1b" not in text


def test_colour_only_on_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31m" in printed(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in printed(Terminal())


def test_a_name_cannot_draw_on_the_terminal() -> None:
    text = printed(io.StringIO(), merchant_name="Evil\x1b[2J\r\n└── P0 all clear")
    assert "\x1b" not in text
    assert "\r" not in text
    assert not any(line.startswith("└── P0") for line in text.splitlines())


def test_slack_blocks_carry_the_message() -> None:
    shown = blocks(make_message())
    text = json.dumps(shown, ensure_ascii=False)

    kinds = ["header", "section", "section", "section", "section", "context", "actions"]
    assert [block["type"] for block in shown] == kinds
    assert shown[0]["text"]["text"] == "🔴 Card testing attack: Northwind Books"
    assert "*Severity*\\nP1 - Critical" in text
    assert "*Merchant*\\nNorthwind Books" in text
    assert "35.04 % (threshold 20 %)" in text
    assert shown[-1]["elements"][0]["url"] == f"{URL}/alerts/22222222-2222-4222-8222-222222222222"


def test_the_severity_is_told_in_words_too() -> None:
    for severity in Severity:
        assert severity.value in fallback_text(make_message(make_note(severity=severity)))
    assert "✅" in fallback_text(make_message(ended_note()))
    assert "ended" in fallback_text(make_message(ended_note()))


def test_nothing_from_outside_is_markup() -> None:
    note = make_note(merchant_name=HOSTILE, metrics={"<!here>": 1.0, **make_note().metrics})
    message = make_message(note)
    marked = [fallback_text(message)]
    for block in blocks(message):
        for entry in (block.get("text"), *block.get("fields", [])):
            if entry and entry["type"] == "mrkdwn":
                assert entry["verbatim"] is True
                marked.append(entry["text"])

    assert not any("<" in text or ">" in text for text in marked)
    assert any("&lt;!channel&gt;" in text for text in marked)


def test_long_text_is_cut_with_a_link() -> None:
    message = compose(make_note(), Summary("t" * 400, "a & b < c " * 900, "x" * 9000, "m"), URL)
    shown = blocks(message)

    assert block_errors(shown) == []
    assert shown[3]["text"]["text"].endswith(f"… <{message.url}|Read on>")
    assert shown[4]["text"]["text"].endswith(f"… <{message.url}|Read on>")


@given(
    st.text(max_size=200),
    st.text(min_size=1, max_size=6000),
    st.dictionaries(st.text(max_size=40), st.floats(), max_size=15),
)
def test_any_content_stays_within_slack_s_limits(name: str, text: str, metrics: dict[str, float]) -> None:
    note = make_note(merchant_name=name, metrics=metrics, thresholds={})
    words = template_summary(note)
    shown = blocks(compose(note, Summary(words.title, text, words.suggested_action, "m"), URL))

    assert block_errors(shown) == []
    assert all(len(element["text"]) for element in shown[2]["fields"])


@given(st.text())
def test_escaping_can_be_read_back(text: str) -> None:
    escaped = escape(text)
    assert not {"<", ">"} & set(escaped)
    assert escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text


def test_the_registry_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="unknown channel 'pigeon'; there are console, slack"):
        build_notifiers(["pigeon"], {}, SITE)
    with pytest.raises(ValueError, match=r"channels\.console\.public: .*; channels\.slack\.timeout: ") as refused:
        build_notifiers(CHANNELS, {"console": {"public": "s3cret"}, "slack": {"timeout": -1}}, SITE)
    assert "s3cret" not in str(refused.value)
    grafana = {"url": "http://grafana.example", "token": "glsa_1"}
    built = build_notifiers(CHANNELS, {"slack": {"token": "xoxb-1", "channel": "C1"}, "grafana": grafana}, SITE)
    assert {name: notifier.channel_type for name, notifier in built.items()} == {name: name for name in CHANNELS}
