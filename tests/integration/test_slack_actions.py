"""Buttons of Slack messages: what is pressed is done as from the API, on the alert whose message it is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from access_rows import FOREIGN, OWN
from fakes_slack import CHANNEL_ID, SlackStub
from servers import wait_for
from slack_presses import USER, button, form
from slack_room import Room, room_over

from webhook.domain.access import Principal, Role
from webhook.domain.action import Doing
from webhook.storage.acting import AlertActions
from webhook.storage.tables import alert_dynamic

OTHER_CHANNEL = "C0NORTHWIND"
DESKTOP = Principal("lee", Role.OPS, "api_key/sk_1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with room_over(f"sqlite:///{tmp_path_factory.mktemp('store')}/sentinel.db") as room:
        yield room


@pytest.fixture
def room(whole: Room) -> Room:
    return whole.fresh()


@pytest.fixture
def stored(store_url: str) -> Iterator[Room]:
    """Over each database."""
    with room_over(store_url) as room:
        yield room


def test_acknowledge_is_done_audited_and_shown(stored: Room) -> None:
    message = stored.post(stored.site.own)
    stored.press(button(message, "acknowledge"))

    assert stored.alert(stored.site.own)["acknowledged_by"] == "slack:U0ANA (Ana Ruiz)"
    (audit,) = stored.audits(stored.site.own)
    assert audit["action"] == "alert_acknowledged"
    assert (audit["actor"], audit["authenticated_as"]) == ("slack:U0ANA (Ana Ruiz)", "slack:U0ANA")
    assert audit["role"] == "ops", "the channel is the installation's own"
    assert audit["account_id"] == OWN
    assert stored.state(message) == "*Going on* · acknowledged by Ana Ruiz"
    assert [element["action_id"] for element in stored.stub.shown(message["ts"])["blocks"][-1]["elements"]] == [
        "view_details",
        "dismiss",
        "snooze",
    ]
    assert stored.told == []
    assert stored.stub.thread(message["ts"]) == [], "nobody is told anew"


def test_in_a_merchant_s_own_channel_its_people_act_for_it_alone(room: Room) -> None:
    message = room.post(room.site.own, channel=OTHER_CHANNEL, own=True)
    room.press(button(message, "acknowledge", channel={"id": OTHER_CHANNEL}))
    (audit,) = room.audits(room.site.own)
    assert audit["role"] == "merchant"


def test_snooze_lasts_as_long_as_was_chosen(room: Room) -> None:
    message = room.post(room.site.own)
    room.press(button(message, "snooze", choose=2))
    assert room.alert(room.site.own)["snoozed_until"] == room.site.clock() + timedelta(hours=4)
    assert "snoozed until 2026-03-14 19:09 UTC by Ana Ruiz" in room.state(message)


def test_dismiss_asks_why_and_keeps_the_answer(stored: Room) -> None:
    message = stored.post(stored.site.own)
    stored.press(button(message, "dismiss"))
    (view,) = stored.stub.views
    assert stored.alert(stored.site.own)["status"] == "ACTIVE", "it only asked"

    stored.press(form(view, "NORMAL_BUSINESS", "A sale, <!channel> & all"))
    found = stored.alert(stored.site.own)
    assert (found["status"], found["dismiss_reason"]) == ("DISMISSED", "NORMAL_BUSINESS")
    assert found["feedback"] == "A sale, <!channel> & all"
    assert found["resolved_by"] == "slack:U0ANA (Ana Ruiz)"
    assert "*Dismissed* by Ana Ruiz: Normal business: A sale, &lt;!channel&gt; &amp; all" in stored.state(message)
    assert len(stored.stub.shown(message["ts"])["blocks"][-1]["elements"]) == 1


def test_a_form_may_say_nothing_more_than_a_reason(room: Room) -> None:
    room.press(button(room.post(room.site.own), "dismiss"))
    room.press(form(room.stub.views[0], "FALSE_POSITIVE", None))
    assert room.alert(room.site.own)["dismiss_reason"] == "FALSE_POSITIVE"


@pytest.mark.parametrize("press", ["acknowledge", "snooze"])
def test_what_cannot_be_done_is_told_to_who_pressed_alone(room: Room, press: str) -> None:
    message = room.post(room.site.own)
    payload = button(message, press)
    AlertActions(room.site.database, {}).resolve(room.site.own, "", Doing("lee", DESKTOP, room.site.clock()))
    room.press(payload)
    assert room.told == ["Not done: the alert is already RESOLVED."]
    assert room.stub.told[0]["response_type"] == "ephemeral"
    assert room.stub.told[0]["replace_original"] is False


def test_who_comes_second_hears_who_was_first(room: Room) -> None:
    message = room.post(room.site.own)
    payload = button(message, "acknowledge")
    room.press(payload)
    room.press({**payload, "user": {"id": "U0LEE", "name": "Lee"}})
    assert room.told == ["Not done: the alert is already acknowledged, by slack:U0ANA (Ana Ruiz)."]
    assert len(room.audits(room.site.own)) == 1


def test_an_alert_that_became_graver_is_not_dismissed_unseen(room: Room) -> None:
    message = room.post(room.site.own)
    room.press(button(message, "dismiss"))
    with room.site.database.write() as connection:
        graver = sa.update(alert_dynamic).where(alert_dynamic.c.alert_id == room.site.own)
        connection.execute(graver.values(current_severity="P0"))
    room.press(form(room.stub.views[0], "FALSE_POSITIVE", "x"))
    assert room.alert(room.site.own)["status"] == "ACTIVE"
    assert room.told == ["Not done: the severity has risen to P0 since you saw it. Look at it again."]
    assert (room.stub.told[0]["user"], room.stub.told[0]["channel"]) == (USER["id"], CHANNEL_ID)


def test_an_alert_that_became_graver_is_not_snoozed_unseen(room: Room) -> None:
    message = room.post(room.site.own)
    payload = button(message, "snooze", choose=2)
    with room.site.database.write() as connection:
        graver = sa.update(alert_dynamic).where(alert_dynamic.c.alert_id == room.site.own)
        connection.execute(graver.values(current_severity="P0"))
    room.press(payload)
    assert room.alert(room.site.own)["snoozed_until"] is None
    assert room.told == ["Not done: the severity has risen to P0 since you saw it. Look at it again."]


def test_that_it_only_fired_again_stops_no_dismissal(room: Room) -> None:
    message = room.post(room.site.own)
    room.press(button(message, "dismiss"))
    with room.site.database.write() as connection:
        later = sa.update(alert_dynamic).where(alert_dynamic.c.alert_id == room.site.own)
        connection.execute(later.values(version=alert_dynamic.c.version + 5))
    room.press(form(room.stub.views[0], "FALSE_POSITIVE", "x"))
    assert room.alert(room.site.own)["status"] == "DISMISSED"


@pytest.mark.parametrize("press", ["acknowledge", "snooze", "dismiss"])
def test_a_button_acts_on_the_alert_of_its_own_message_alone(room: Room, press: str) -> None:
    """The value names somebody else's alert; then the channel is another; then the message is."""
    own = room.post(room.site.own, channel=OTHER_CHANNEL, own=True)
    foreign = room.post(room.site.foreign)
    made_up = button(foreign, press)
    room.press({**made_up, "channel": {"id": OTHER_CHANNEL}, "container": {"message_ts": own["ts"]}})
    room.press({**made_up, "channel": {"id": OTHER_CHANNEL}})
    room.press({**made_up, "container": {"message_ts": "1763719200.999999"}})
    assert len(room.told) == 3
    assert all("does not know this message" in text for text in room.told)
    assert room.audits(room.site.foreign) == []
    assert room.stub.views == []


def test_a_form_cannot_be_turned_to_another_alert(room: Room) -> None:
    room.post(room.site.foreign)
    room.press(button(room.post(room.site.own, channel=OTHER_CHANNEL), "dismiss", channel={"id": OTHER_CHANNEL}))
    (view,) = room.stub.views
    place = json.loads(view["private_metadata"])
    room.press(form({**view, "private_metadata": json.dumps([room.site.foreign, *place[1:]])}, "OTHER", "x"))
    assert room.alert(room.site.foreign)["status"] == "ACTIVE"
    assert "does not know this message" in room.told[0]


def test_slack_is_answered_at_once_however_long_it_takes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    go, began = threading.Event(), threading.Event()
    original = AlertActions.acknowledge

    def slow(*args: Any) -> Any:
        began.set()
        go.wait()
        return original(*args)

    monkeypatch.setattr(AlertActions, "acknowledge", slow)
    message = room.post(room.site.own)
    assert room.send(button(message, "acknowledge")).status_code == 200
    wait_for(began.is_set, what="it is being done")
    assert room.alert(room.site.own)["acknowledged_by"] is None
    go.set()
    wait_for(lambda: room.alert(room.site.own)["acknowledged_by"], what="it is done")
    room.site.app.extensions["sentinel_slack_actions"].finish(60)


def test_words_go_to_slack_alone_and_else_into_the_channel(room: Room) -> None:
    payload = button(room.post(room.site.own), "acknowledge")
    room.press(payload)
    with SlackStub() as elsewhere:
        for url in (elsewhere.response_url, "https://hooks.slack.com.evil.example/x", "https://[", "x"):
            room.press({**payload, "response_url": url})
        assert elsewhere.calls == []
    room.stub.fail_next("response", status=404)
    room.press(payload)
    assert len(room.stub.asked("chat.postEphemeral")) == 5
    assert {entry["user"] for entry in room.stub.asked("chat.postEphemeral")} == {USER["id"]}


def test_a_message_that_slack_does_not_change_now_is_left_to_the_worker(room: Room) -> None:
    message = room.post(room.site.own)
    room.stub.fail_next("chat.update", status=500)
    room.press(button(message, "acknowledge"))
    assert room.alert(room.site.own)["acknowledged_by"]
    assert room.told == []


def test_a_form_that_does_not_open_is_told(room: Room) -> None:
    message = room.post(room.site.own)
    room.stub.fail_next("views.open", error="expired_trigger_id")
    room.press(button(message, "dismiss"))
    assert room.told == ["The form could not be opened. Try again, or open the alert's page."]


def test_alerts_of_others_are_as_they_were(room: Room) -> None:
    room.press(button(room.post(room.site.own), "acknowledge"))
    assert room.alert(room.site.foreign)["acknowledged_by"] is None
    assert FOREIGN not in {audit["account_id"] for audit in room.audits(room.site.own)}
