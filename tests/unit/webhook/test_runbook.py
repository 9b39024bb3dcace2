from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fakes_slack_blocks import block_errors
from notes import make_message, make_note

from webhook.domain.alert import OPERATIONS_ACCOUNT
from webhook.domain.runbook import runbook_address
from webhook.notifiers.slack_blocks import blocks

OWN = "http://sentinel.example:8080"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("/runbooks/ExporterDown", f"{OWN}/runbooks/ExporterDown"),
        ("https://wiki.example/a?b=c", "https://wiki.example/a?b=c"),
        ("", ""),
        ("5", ""),
        ("runbooks/ExporterDown", ""),
        ("//evil.example/a", ""),
        ("/\\evil.example/a", ""),
        ("javascript:alert(1)", ""),
        ("data:text/html,x", ""),
        ("https://", ""),
        ("https://[", ""),
        ("https://wiki.example/a b", ""),
        ("https://wiki.example/\u202ea", ""),
        ("https://wiki.example/" + "a" * 1000, ""),
    ],
)
def test_only_a_path_of_ours_or_an_address_of_the_web_is_a_runbook(given: str, address: str) -> None:
    assert runbook_address(given, f"{OWN}/") == address


def test_slack_shows_it_to_those_on_call_and_to_no_merchant() -> None:
    operations = make_note(account_id=OPERATIONS_ACCOUNT, runbook_url="/runbooks/ExporterDown")
    said = json.dumps(blocks(make_message(operations)))
    assert f"<{OWN}/runbooks/ExporterDown|Open the runbook>" in said
    assert "runbook" not in json.dumps(blocks(make_message(replace(operations, account_id="acc_017"))))


def test_in_slack_nothing_of_it_is_markup_or_another_text() -> None:
    evil = "https://wiki.example/>|<!channel>&x"
    message = make_message(make_note(account_id=OPERATIONS_ACCOUNT, runbook_url=evil))
    shown = blocks(message)
    assert "<https://wiki.example/&gt;%7C&lt;!channel&gt;&amp;x|Open the runbook>" in json.dumps(shown)
    assert block_errors(shown) == []
