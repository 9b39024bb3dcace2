"""Who may press: Slack alone, by its signature. What it covers is the same over each database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import page_rows as rows
import pytest
from access_rows import Site
from slack_presses import PATH, USER, body_of, button, headers
from slack_room import Room, room_over

FORM = """{"type": "view_submission", "user": {"id": "U1"}, "view": {"callback_id": "dismissal",
    "private_metadata": "[]", "state": {"values": {}}}}"""
BUTTON = """{"type": "block_actions", "user": {"id": "U1"}, "channel": {"id": "C1"},
    "container": {"message_ts": "1.1"}, "actions": [{"action_id": "acknowledge", "value": "none/P1"}]}"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    patched = pytest.MonkeyPatch()
    patched.setattr("webhook.web.rates.ATTEMPTS", 10**6)  # wrong signatures are sent all the time here
    with room_over(f"sqlite:///{tmp_path_factory.mktemp('store')}/sentinel.db") as room:
        patched.undo()
        yield room


@pytest.fixture
def room(whole: Room) -> Room:
    return whole.fresh()


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Room]:
    """One that counts guesses."""
    with room_over(f"sqlite:///{tmp_path}/strict.db") as room:
        yield room


@pytest.mark.parametrize(
    "changed",
    [
        {"X-Slack-Signature": "v0=" + "0" * 64},
        {"X-Slack-Signature": ""},
        {"X-Slack-Signature": "v0=\xe9"},
        {"X-Slack-Request-Timestamp": "soon"},
        {"X-Slack-Request-Timestamp": "²"},
        {"X-Slack-Request-Timestamp": "9" * 40},
        {"X-Slack-Request-Timestamp": "1773500000"},
    ],
)
def test_what_slack_did_not_sign_is_refused(room: Room, changed: dict[str, str]) -> None:
    message = room.post(room.site.own)
    answer = room.send(button(message, "acknowledge"), **changed)
    assert answer.status_code == 401
    assert answer.mimetype == "application/problem+json"
    assert room.alert(room.site.own)["acknowledged_by"] is None


def test_another_app_s_secret_an_old_request_and_a_changed_body_are_refused(room: Room) -> None:
    payload, now = button(room.post(room.site.own), "acknowledge"), room.site.clock()
    body = body_of(payload)
    client = room.site.client()
    assert client.post(PATH, data=body, headers=headers(body, now, "another")).status_code == 401
    assert client.post(PATH, data=body, headers=headers(body, now - timedelta(seconds=301))).status_code == 401
    assert client.post(PATH, data=body, headers=headers(body, now + timedelta(seconds=302))).status_code == 401
    assert client.post(PATH, data=body + b"&x=1", headers=headers(body, now)).status_code == 401
    assert client.post(PATH, data=b"payload=\xff", headers=headers(b"payload=", now)).status_code == 401
    assert client.post(PATH, data=body, headers=headers(body, now - timedelta(seconds=299))).status_code == 200


def test_a_key_or_the_admin_token_is_no_signature(room: Room) -> None:
    body = body_of(button(room.post(room.site.own), "acknowledge"))
    for key in room.site.keys.values():
        given = {"X-API-Key": key, "Content-Type": "application/x-www-form-urlencoded"}
        assert room.site.client().post(PATH, data=body, headers=given).status_code == 401


def test_guessing_signatures_is_slowed_down_and_a_right_one_passes(strict: Room) -> None:
    payload = button(strict.post(strict.site.own), "acknowledge")
    statuses = [strict.send(payload, **{"X-Slack-Signature": "v0=0"}).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    strict.press(payload)
    assert strict.alert(strict.site.own)["acknowledged_by"]


@pytest.mark.parametrize(
    "payload",
    [
        "not json",
        "[]",
        '{"type": "block_actions"}',
        FORM,
        BUTTON,
        "[" * 100 + "]" * 100,
    ],
)
def test_what_cannot_be_read_is_a_400(room: Room, payload: str) -> None:
    body = b"payload=" + payload.encode()
    answer = room.site.client().post(PATH, data=body, headers=headers(body, room.site.clock()))
    assert answer.status_code == 400, answer.text
    assert answer.get_json()["detail"]


def test_a_body_that_is_too_long_is_refused_and_a_long_message_is_not(room: Room) -> None:
    message = room.post(room.site.own)
    longest = button(message, "acknowledge", view={"text": "ж" * 30_000})
    assert room.send(longest).status_code == 200
    assert room.send(button(message, "acknowledge", view={"text": "x" * 600_000})).status_code == 413


def test_what_only_slack_acts_on_is_taken_and_does_nothing(room: Room) -> None:
    message = room.post(room.site.own)
    room.press(button(message, "view_details"))
    room.press({"type": "view_closed", "user": USER, "view": {}})
    assert (room.told, room.audits(room.site.own)) == ([], [])


def test_slack_may_look_at_the_certificate_and_at_the_address(room: Room) -> None:
    client, now = room.site.client(), room.site.clock()
    assert client.post(PATH, data={"ssl_check": "1", "token": "x"}).status_code == 200
    body = json.dumps({"type": "url_verification", "challenge": "3eZbr", "token": "x"}).encode()
    answer = client.post(PATH, data=body, headers=headers(body, now, kind="json"))
    assert answer.get_json() == {"challenge": "3eZbr"}
    assert client.post(PATH, data=body, headers=headers(body, now, "wrong", kind="json")).status_code == 401


def test_without_a_signing_secret_there_is_nothing_here(tmp_path: Path) -> None:
    site = Site(
        rows.open_store(f"sqlite:///{tmp_path}/sentinel.db"),
        settings={"slack_bot_token": "xoxb-1", "slack_channel": "C1"},
    )
    body = body_of({"type": "block_actions"})
    assert site.client().post(PATH, data=body, headers=headers(body, site.clock())).status_code == 404
    site.close()
    site.database.close()
