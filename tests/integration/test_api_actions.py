"""What people do to alerts through the API: what it changes, who may, on which version, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import page_rows as rows
import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from ingest_shop import save_configs
from page_rows import NOW, TOKEN
from prometheus_client import CollectorRegistry
from werkzeug.test import TestResponse

from webhook.domain.access import Principal, Role
from webhook.domain.action import Doing
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.message import Message, Summary, compose
from webhook.domain.summary import template_summary
from webhook.pipeline.delivery_metrics import DeliveryMetrics
from webhook.pipeline.dispatch import Dispatcher
from webhook.ports import AlertNotFound, Receipt, TemporaryDeliveryError
from webhook.storage.access_tables import audit_log
from webhook.storage.acting import AlertActions
from webhook.storage.database import Database
from webhook.storage.dead_letters import DeadLetters
from webhook.storage.outbox import Outbox
from webhook.storage.records import NotificationFilter
from webhook.storage.tables import notification

BEARER = {"Authorization": f"Bearer {TOKEN}"}
ALERTS = "/api/v1/alerts"


def post(client: FlaskClient, path: str, json: object = None, status: int = 200, **headers: str) -> Any:
    response = client.post(f"{ALERTS}/{path}", json=json, headers=BEARER | headers)
    assert response.status_code == status, response.text
    return response.get_json(force=True)


def get(client: FlaskClient, path: str, **query: object) -> Any:
    response: TestResponse = client.get(f"/api/v1/{path}", headers=BEARER, query_string=query)
    assert response.status_code == 200, response.text
    return response.get_json()


def audited(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as connection:
        columns = (audit_log.c.action, audit_log.c.actor, audit_log.c.authenticated_as)
        return [tuple(row) for row in connection.execute(sa.select(*columns).order_by(audit_log.c.action))]


def test_an_alert_is_acknowledged_snoozed_and_noted_and_each_step_is_left_in_its_history(
    stranger: FlaskClient, database: Database
) -> None:
    alert_id = rows.insert_alert(database)
    assert post(stranger, f"{alert_id}/acknowledge", {"acknowledged_by": "dana"})["acknowledged_by"] == "dana"
    assert "already acknowledged, by dana" in post(stranger, f"{alert_id}/acknowledge", status=409)["detail"]
    snoozed = post(stranger, f"{alert_id}/snooze", {"minutes": 30, "snoozed_by": "dana"})
    assert snoozed["snoozed_until"] == (NOW + timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    noted = post(stranger, f"{alert_id}/comments", {"content": "@lee: look", "created_by": "dana"}, 201)
    assert (noted["mentions"], noted["comment_type"]) == (["lee"], "USER_NOTE")
    detail = get(stranger, f"alerts/{alert_id}")
    assert (detail["acknowledged_by"], detail["snoozed_by"], detail["version"]) == ("dana", "dana", 4)
    assert {entry["action_type"] for entry in detail["actions_taken"]} == {"acknowledged", "snoozed", "commented"}
    post(stranger, f"{alert_id}/unacknowledge")
    post(stranger, f"{alert_id}/unsnooze")
    assert post(stranger, f"{alert_id}/unsnooze", status=409)["detail"] == "the alert is not snoozed."
    detail = get(stranger, f"alerts/{alert_id}")
    assert (detail["acknowledged_at"], detail["snoozed_until"], detail["version"]) == (None, None, 6)
    assert [row[0] for row in audited(database)] == [
        "alert_acknowledged", "alert_commented", "alert_snoozed", "alert_unacknowledged", "alert_unsnoozed",
    ]  # fmt: skip
    assert ("alert_snoozed", "dana", "admin token") in audited(database)
    assert len(get(stranger, f"alerts/{alert_id}/comments")["data"]) == 5


def test_a_closed_alert_takes_notes_and_no_decision(stranger: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database, status="RESOLVED")
    for path in ("acknowledge", "unacknowledge", "snooze", "unsnooze"):
        assert "already RESOLVED" in post(stranger, f"{alert_id}/{path}", status=409)["detail"]
    post(stranger, f"{alert_id}/comments", {"content": "refunded"}, 201)


def test_the_reason_of_a_dismissal_is_a_word_or_ones_own(stranger: FlaskClient, database: Database) -> None:
    for body, kept in (
        ({"dismiss_reason": "NORMAL_BUSINESS", "feedback": "festival"}, ("NORMAL_BUSINESS", "festival")),
        ({"dismiss_reason": "False positive - normal traffic"}, ("OTHER", "False positive - normal traffic")),
    ):
        alert_id = rows.insert_alert(database)
        post(stranger, f"{alert_id}/dismiss", body)
        detail = get(stranger, f"alerts/{alert_id}")
        assert (detail["dismiss_reason"], detail["feedback"]) == kept


def test_what_was_decided_on_an_older_version_is_refused_with_the_present_one(
    stranger: FlaskClient, database: Database
) -> None:
    alert_id = rows.insert_alert(database)
    seen = stranger.get(f"{ALERTS}/{alert_id}", headers=BEARER).headers["ETag"]
    post(stranger, f"{alert_id}/acknowledge", If_Match=seen)
    body = {"resolution_note": "x"}
    assert post(stranger, f"{alert_id}/resolve", body, 412, If_Match=seen)["version"] == 2
    assert post(stranger, f"{alert_id}/resolve", body, 412, If_Match='"x"')["version"] == 2
    assert post(stranger, f"{alert_id}/resolve", body | {"version": 1}, 409)["version"] == 2
    assert get(stranger, f"alerts/{alert_id}")["status"] == "ACTIVE"
    assert post(stranger, f"{alert_id}/resolve", body | {"version": 2}, If_Match='"2"')["version"] == 3


def test_a_message_is_sent_again_on_the_channels_asked_for(stranger: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    assert post(stranger, f"{alert_id}/resend-notification", {"channels": ["slack"]})["queued_channels"] == ["slack"]
    assert post(stranger, f"{alert_id}/resend-notification")["queued_channels"] == ["slack", "console"]
    assert (
        "has no channel fax" in post(stranger, f"{alert_id}/resend-notification", {"channels": ["fax"]}, 409)["detail"]
    )
    (first, *_) = get(stranger, f"alerts/{alert_id}/notifications")["data"]
    assert (first["reason"], first["status"], first["requested_by"]) == ("resend", "pending", "admin")
    notes = Outbox(database).claim(9, "worker", NOW, timedelta(minutes=1))
    assert {note.channel_type for note in notes} == {"slack", "console"}


def test_of_an_alert_that_ended_its_end_is_sent_again(stranger: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    for minutes, rate in ((12, 0.2), (8, 0.9)):
        rows.insert_trigger(database, alert_id, metrics={"block_rate": rate}, at=NOW - timedelta(minutes=minutes))
    rows.insert_notification(database, alert_id)
    post(stranger, f"{alert_id}/resolve", {"resolution_note": "blocked"})
    (told,) = Outbox(database).claim(9, "worker", NOW, timedelta(minutes=1))
    Outbox(database).record_sent(told, Receipt(), Summary("Ended", "It has ended.", "", "template"), NOW)
    post(stranger, f"{alert_id}/resend-notification", {"channels": ["slack"]})
    (again,) = Outbox(database).claim(9, "worker", NOW, timedelta(minutes=1))
    assert (told.reason, again.reason, again.status) == ("resolved", "resolved", "RESOLVED")
    assert (again.peaks, again.resolved_at) == (told.peaks, told.resolved_at)
    assert again.peaks == {"block_rate": 0.9}
    dismissed = rows.insert_alert(database, status="DISMISSED")
    answer = post(stranger, f"{dismissed}/resend-notification", status=409)
    assert answer["detail"] == "the alert was dismissed as no attack: nothing more is sent of it."


def test_dead_letters_are_found_replayed_and_discarded(stranger: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    channels = ("slack", "slack", "console")
    letters = [rows.insert_notification(database, alert_id, status="FAILED", channel=c) for c in channels]
    rows.insert_notification(database, alert_id)
    assert len(get(stranger, "dead-letters")["data"]) == 3
    assert len(get(stranger, "notifications", status="SENT", channel="slack")["data"]) == 1
    assert stranger.post(f"/api/v1/dead-letters/{letters[0]}/replay", headers=BEARER).get_json()["count"] == 1
    rest = stranger.post("/api/v1/dead-letters/replay", json={"channel": "slack"}, headers=BEARER)
    assert (rest.get_json()["count"], rest.get_json()["skipped"]) == (1, [])
    assert stranger.delete(f"/api/v1/dead-letters/{letters[2]}", headers=BEARER).status_code == 200
    assert stranger.delete(f"/api/v1/dead-letters/{letters[2]}", headers=BEARER).status_code == 404
    assert get(stranger, "dead-letters")["data"] == []
    assert len(get(stranger, "notifications", status="PENDING", channel="slack")["data"]) == 2
    assert [row[0] for row in audited(database)] == ["dead_letters_discarded", *["dead_letters_replayed"] * 2]


def test_nobody_is_told_of_what_has_ended_nor_on_a_channel_that_is_gone(
    stranger: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.storage.dead_letters.BATCH", 2)
    alerts = {status: rows.insert_alert(database, status=status) for status in ("ACTIVE", "RESOLVED", "DISMISSED")}

    def letter(status: str, reason: str = "first", channel: str = "slack") -> str:
        return rows.insert_notification(database, alerts[status], status="FAILED", reason=reason, channel=channel)

    stay = {
        letter("RESOLVED"): "its alert has ended: only the end itself can still be told.",
        letter("DISMISSED"): "its alert was dismissed, so nobody is told of it.",
        letter("ACTIVE", channel="sms"): "the merchant has no such channel any more.",
    }
    go = {letter("ACTIVE"), letter("RESOLVED", "resolved")}
    for letter_id, why in stay.items():
        refused = stranger.post(f"/api/v1/dead-letters/{letter_id}/replay", headers=BEARER)
        assert (refused.status_code, refused.get_json(force=True)["detail"]) == (409, why)
    done = stranger.post("/api/v1/dead-letters/replay", json={}, headers=BEARER).get_json()
    assert done["count"] == 2
    assert sorted((skipped["reason"], skipped["count"]) for skipped in done["skipped"]) == [
        ("alert_dismissed", 1), ("alert_ended", 1), ("no_channel", 1),
    ]  # fmt: skip
    assert {entry["notification_id"] for entry in get(stranger, "dead-letters")["data"]} == set(stay)
    assert {note.notification_id for note in Outbox(database).claim(9, "w", NOW, timedelta(minutes=1))} == go


class Provider:
    """Away once, then takes messages and keeps the settings they came with."""

    channel_type, parallel = "slack", 1

    def __init__(self) -> None:
        self.away, self.settings = True, list[Mapping[str, Any]]()

    def send(self, _message: Message, settings: Mapping[str, Any], _before: Receipt | None = None) -> Receipt:
        if self.away:
            self.away = False
            raise TemporaryDeliveryError("HTTP 503")
        self.settings.append(settings)
        return Receipt()

    def attach(self, *_: object) -> None:
        pass


def test_a_replayed_letter_goes_to_what_the_merchant_has_set_since_and_is_tried_for_a_day(
    stranger: FlaskClient, database: Database, clock: rows.Clock
) -> None:
    letter = rows.insert_notification(
        database, rows.insert_alert(database), status="FAILED", at=NOW - timedelta(days=9)
    )
    with database.write() as connection:
        old = {"channel_settings": {"webhook_url": "https://hooks.slack.com/services/old"}}
        connection.execute(sa.update(notification).where(notification.c.id == letter).values(content=old))
    channels = {"slack": {"enabled": True, "channel": "#new"}}
    save_configs(database, [MerchantConfig("acc_017", "CARD_TESTING", channel_preferences=channels)], NOW)
    assert stranger.post(f"/api/v1/dead-letters/{letter}/replay", headers=BEARER).status_code == 200

    provider, registry = Provider(), CollectorRegistry()
    dispatcher = Dispatcher(
        Outbox(database), {"slack": provider}, "http://sentinel.example", "w", clock, DeliveryMetrics(registry)
    )
    for _ in range(2):
        dispatcher.run_once(clock.now)
        dispatcher.finish(60)
        clock.now += timedelta(seconds=5)
    dispatcher.close()
    assert provider.settings == [{"channel": "#new"}]
    assert registry.get_sample_value("sentinel_notification_delay_seconds_sum", {"channel": "slack"}) == 5


def test_the_end_of_an_alert_is_told_to_whom_a_replay_is_telling_that_it_fires(
    stranger: FlaskClient, database: Database
) -> None:
    alert_id = rows.insert_alert(database)
    letter = rows.insert_notification(database, alert_id, status="FAILED")
    stranger.post(f"/api/v1/dead-letters/{letter}/replay", headers=BEARER)
    (note,) = Outbox(database).claim(9, "w", NOW, timedelta(minutes=1))
    post(stranger, f"{alert_id}/resolve", {"resolution_note": "x"})
    assert note.reason.value == "first"
    assert [entry["reason"] for entry in get(stranger, "notifications", status="PENDING")["data"]] == ["resolved"]


def test_another_merchants_alert_is_as_if_it_did_not_exist(database: Database) -> None:
    alert_id = rows.insert_alert(database, account_id="acc_1")
    letter = rows.insert_notification(database, alert_id, status="FAILED")  # of acc_017
    theirs = Doing("m", Principal("m", Role.MERCHANT, "api_key/sk_x", frozenset({"acc_2"})), NOW)
    actions = AlertActions(database, {"slack": {}})
    with pytest.raises(AlertNotFound):
        actions.acknowledge(alert_id, "", theirs)
    with pytest.raises(AlertNotFound):
        actions.comment(str(uuid4()), "x", theirs)
    wanted = NotificationFilter(accounts=theirs.by.accounts)
    assert DeadLetters(database, {}).discard(wanted, theirs, letter) == 0
    assert audited(database) == []


@pytest.mark.parametrize("sort", ["triggered_at", "severity", "last_triggered_at", "updated_at", "occurrence_count"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_cursor_walks_the_list_as_pages_do(stranger: FlaskClient, database: Database, sort: str, order: str) -> None:
    for number in range(7):
        at = NOW - timedelta(minutes=number // 2)
        rows.insert_alert(database, at=at, severity=f"P{number % 3}", count=1 + number % 2)
    how = {"sort_by": sort, "sort_order": order}
    whole = [entry["alert_id"] for entry in get(stranger, "alerts", page_size=100, **how)["data"]]
    walked, place = [], {}
    while True:
        answer = get(stranger, "alerts", page_size=3, **how, **place)
        walked += [entry["alert_id"] for entry in answer["data"]]
        if answer["pagination"]["next_cursor"] is None:
            break
        place = {"cursor": answer["pagination"]["next_cursor"]}
    assert walked == whole
    assert len(set(walked)) == 7


def test_the_last_page_has_no_cursor_even_when_it_is_full(stranger: FlaskClient, database: Database) -> None:
    for number in range(4):
        alert_id = rows.insert_alert(database, at=NOW - timedelta(minutes=number))
        rows.insert_trigger(database, alert_id, at=NOW - timedelta(minutes=number))
    for number in range(4):
        rows.insert_notification(database, alert_id, at=NOW - timedelta(minutes=number), status="FAILED")
        rows.insert_comment(database, alert_id, "x", at=NOW - timedelta(minutes=number))
    paths = ("triggers", "notifications", "dead-letters", f"alerts/{alert_id}/notifications",
             f"alerts/{alert_id}/comments")  # fmt: skip
    for path in paths:
        first = get(stranger, path, limit=2)
        last = get(stranger, path, limit=2, cursor=first["next_cursor"])
        assert (len(first["data"]), len(last["data"]), last["next_cursor"]) == (2, 2, None), path
        assert get(stranger, path, limit=4)["next_cursor"] is None, path
    post(stranger, f"{alert_id}/acknowledge")
    post(stranger, f"{alert_id}/snooze")
    first = get(stranger, "audit", limit=1)
    assert get(stranger, "audit", limit=1, before=first["next"])["next"] is None
    last = get(stranger, "alerts", page_size=2, page=2)["pagination"]
    assert (last["next_cursor"], last["total_count"], last["total_pages"]) == (None, 4, 2)
    assert get(stranger, "alerts", page_size=4)["pagination"]["next_cursor"] is None


def test_statistics_count_the_period(stranger: FlaskClient, database: Database) -> None:
    rows.seed(database)
    first = rows.insert_alert(database, at=NOW)
    post(stranger, f"{first}/acknowledge")
    found = get(stranger, "statistics", to_date=(NOW + timedelta(seconds=1)).isoformat())
    assert found["interval"] == "hour"
    assert found["active_by_severity"] == {"P0": 1, "P1": 2, "P2": 1, "P3": 0}
    assert (found["opened"], found["resolved"]) == (5, 1)
    assert sum(bucket["opened"] for bucket in found["series"]) == 5
    assert found["trigger_outcomes"]["suppressed"] == 3
    assert found["top_merchants"][0] == {"merchant_id": "acc_017", "merchant_name": "Nordlicht Elektronik", "alerts": 2}
    assert found["median_seconds_to_acknowledge"] == 0
    assert found["median_seconds_to_resolve"] == 3600
    daily = get(stranger, "statistics", to_date=NOW.isoformat(), from_date=(NOW - timedelta(days=9)).isoformat())
    assert (daily["interval"], len(daily["series"])) == ("day", 10)


def test_triggers_are_searched_by_what_they_say(stranger: FlaskClient, database: Database) -> None:
    rows.seed(database)
    for query, number in (
        ({"reason": "not met"}, 2), ({"alert_name": "Broken"}, 1), ({"severity": "P0"}, 1), ({"status": "RESOLVED"}, 0),
        ({"label": "mistral"}, 2), ({"alert_type": "VELOCITY_ATTACK"}, 1), ({"merchant_id": "osaka"}, 1),
        ({"to_date": (NOW - timedelta(minutes=44)).isoformat()}, 2),
    ):  # fmt: skip
        assert len(get(stranger, "triggers", **query)["data"]) == number, query


def test_a_search_that_looks_far_says_how_far_it_looked(
    stranger: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.storage.trigger_search.LOOKED_THROUGH", 4)
    for number in range(10):
        rows.insert_trigger(database, at=NOW - timedelta(minutes=number), alert_name="Last" if number == 9 else "Other")
    found, place, asked = [], {}, 0
    while True:
        answer = get(stranger, "triggers", alert_name="Last", **place)
        found += answer["data"]
        asked += 1
        if answer["next_cursor"] is None:
            break
        place = {"cursor": answer["next_cursor"]}
    assert (len(found), asked) == (1, 3)


def test_errors_are_problems_whatever_is_wrong(stranger: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    path = f"{ALERTS}/{alert_id}/resolve"
    wrong_type = stranger.post(path, data="note=x", headers=BEARER)
    too_long = stranger.post(path, data=b'{"a":"' + b"x" * 70_000, headers=BEARER, content_type="application/json")
    twice = stranger.get(f"{ALERTS}?page=1&page=2", headers=BEARER)
    for response, status in ((wrong_type, 415), (too_long, 413), (twice, 400)):
        assert (response.status_code, response.mimetype) == (status, "application/problem+json")


def test_an_unexpected_error_has_an_id_that_is_in_the_log_and_no_traceback(
    stranger: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr("webhook.storage.queries.list_alerts", broken)
    response = stranger.get(ALERTS, headers=BEARER)
    body = response.get_json(force=True)
    assert (response.status_code, response.mimetype) == (500, "application/problem+json")
    assert "the inside" not in response.text
    assert body["error_id"] in capsys.readouterr().out


def test_a_comment_that_names_somebody_goes_where_people_talk(stranger: FlaskClient, database: Database) -> None:
    alert_id = rows.insert_alert(database)
    before = get(stranger, f"alerts/{alert_id}")
    outbox, lease = Outbox(database), timedelta(minutes=1)
    said = post(stranger, f"{alert_id}/comments", {"content": "nothing to see", "created_by": "dana"}, 201)
    assert (said["notified"], said["not_notified_reason"]) == ([], "")
    assert outbox.claim(9, "w", NOW, lease) == []

    post(stranger, f"{alert_id}/comments", {"content": "@lee: is this yours?\n<!channel>", "created_by": "dana"}, 201)
    notes = sorted(outbox.claim(9, "w", NOW, lease), key=lambda note: note.channel_type)
    assert [note.channel_type for note in notes] == ["console", "slack"]
    note = notes[0]
    message = compose(note, template_summary(note), "http://s")
    assert note.reason == "mention"
    assert message.title.startswith("dana on ")
    assert message.text == "@lee: is this yours?\n<!channel>"
    assert outbox.record_sent(note, Receipt(), template_summary(note), NOW)
    after = get(stranger, f"alerts/{alert_id}")
    assert (after["title"], after["summary"]) == (before["title"], before["summary"])
    assert any(
        "dana named somebody in a comment" in step["text"]
        for step in get(stranger, f"alerts/{alert_id}/explain")["steps"]
    )

    said = [post(stranger, f"{alert_id}/comments", {"content": f"@lee {number}"}, 201) for number in range(20)]
    assert sorted(said[0]["notified"]) == ["console", "slack"]
    assert said[-1]["notified"] == []
    assert "10 comments on this alert" in said[-1]["not_notified_reason"]
    with database.read() as connection:
        told = connection.scalar(sa.select(sa.func.count()).where(notification.c.alert_id == alert_id))
    assert told == 20, "ten comments an hour, on two channels"
