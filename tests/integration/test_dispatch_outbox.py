"""Dispatch over the real outbox, on each database, to a stub Slack: in time, in order, once."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from dispatchers import TOKEN, Make, deliver, make, slack
from fakes_llm import completion
from fakes_slack import CHANNEL_ID, SlackStub
from notes import BLOCK_RATE, NOW, Shop, shop
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from servers import wait_for
from structlog.testing import capture_logs
from summaries_parts import Desk

from webhook.domain.message import Message
from webhook.notifiers.console import Console
from webhook.notifiers.slack import Slack, SlackOptions
from webhook.pipeline.delivery_metrics import DeliveryMetrics
from webhook.pipeline.dispatch import Dispatcher
from webhook.ports import Receipt

__all__ = ["make", "shop", "slack"]


def test_a_failure_is_tried_again_later(shop: Shop, slack: SlackStub, make: Make) -> None:
    slack.fail_next(status=500)
    dispatcher, row = make(), shop.add_notification(shop.add_alert())

    deliver(dispatcher)
    failed = shop.row(row)
    assert (failed["status"], failed["retry_count"]) == ("PENDING", 1)
    assert timedelta(seconds=2.5) <= failed["not_before"] - NOW <= timedelta(seconds=5)
    assert deliver(dispatcher, NOW + timedelta(seconds=2)) == 0
    assert deliver(dispatcher, NOW + timedelta(seconds=5)) == 1
    assert shop.row(row)["status"] == "SENT"


def test_a_rate_limit_pauses_its_target_alone_and_is_no_try(shop: Shop, slack: SlackStub, make: Make) -> None:
    slack.fail_next(status=429, retry_after=30)
    dispatcher, limited = make(), shop.add_notification(shop.add_alert())
    deliver(dispatcher)
    elsewhere = {**shop.row(limited)["content"], "channel_settings": {"channel": "#others"}}
    following, other = (
        shop.add_notification(shop.add_alert()),
        shop.add_notification(shop.add_alert(), content=elsewhere),
    )

    assert (shop.row(limited)["status"], shop.row(limited)["retry_count"]) == ("PENDING", 0)
    assert shop.row(limited)["not_before"] == NOW + timedelta(seconds=30)
    deliver(dispatcher, NOW + timedelta(seconds=29))
    assert [message["channel"] for message in slack.messages] == ["#others"], "another merchant does not wait"
    assert shop.row(other)["status"] == "SENT"
    assert (shop.row(following)["status"], shop.row(following)["retry_count"]) == ("PENDING", 0)
    assert make().run_once(NOW + timedelta(seconds=29)) == 0, "other workers wait too"
    assert deliver(dispatcher, NOW + timedelta(seconds=30)) == 2
    assert shop.row(following)["status"] == "SENT"


def test_a_rate_limit_is_waited_for_no_longer_than_ten_minutes(shop: Shop, slack: SlackStub, make: Make) -> None:
    slack.fail_next(status=429, retry_after=86_400)
    limited, registry = shop.add_notification(shop.add_alert()), CollectorRegistry()
    with capture_logs() as logs:
        deliver(make(meter=DeliveryMetrics(registry)))
    assert shop.row(limited)["not_before"] == NOW + timedelta(minutes=10)
    assert registry.get_sample_value("sentinel_notification_pause_seconds_total", {"channel": "slack"}) == 600
    (told,) = (entry for entry in logs if entry["event"] == "channel_paused")
    assert (told["asked_s"], told["paused_s"], told["merchant_id"]) == (86_400, 600, "acc_017")


@pytest.mark.parametrize("failure", [{"status": 429, "retry_after": 1}, {"status": 503}])
def test_after_a_day_a_message_is_given_up(shop: Shop, slack: SlackStub, make: Make, failure: dict[str, Any]) -> None:
    slack.fail_next(**failure)
    old = shop.add_notification(shop.add_alert(), at=NOW - timedelta(hours=24))
    deliver(make())
    row = shop.row(old)
    assert (row["status"], row["failed_at"]) == ("FAILED", NOW)


def test_a_replay_has_a_day_of_its_own(shop: Shop, slack: SlackStub, make: Make) -> None:
    slack.fail_next(status=503)
    old = shop.add_notification(shop.add_alert(), at=NOW - timedelta(days=9), replayed_at=NOW - timedelta(hours=23))
    dispatcher = make()
    deliver(dispatcher)
    assert (shop.row(old)["status"], shop.row(old)["retry_count"]) == ("PENDING", 1)
    deliver(dispatcher, NOW + timedelta(seconds=5))
    assert shop.row(old)["status"] == "SENT"


def test_a_provider_that_is_away_for_hours_is_told_in_the_end(shop: Shop, slack: SlackStub, make: Make) -> None:
    now, row = NOW, shop.add_notification(shop.add_alert())
    dispatcher = make(clock=lambda: now)
    while now < NOW + timedelta(hours=3):
        slack.fail_next(status=503)
        assert deliver(dispatcher, now) == 1
        assert shop.row(row)["not_before"] - now <= timedelta(minutes=5)
        now = shop.row(row)["not_before"]

    deliver(dispatcher, now)

    assert len(slack.messages) == 1
    assert shop.row(row)["status"] == "SENT"


def test_what_may_have_arrived_is_counted_and_not_sent_again_for_ever(shop: Shop, slack: SlackStub, make: Make) -> None:
    """Without the scope to look for it nobody knows whether it is there."""
    slack.scopes.discard("channels:history")
    now, row, registry = NOW, shop.add_notification(shop.add_alert()), CollectorRegistry()
    dispatcher = make(clock=lambda: now, meter=DeliveryMetrics(registry))
    for _ in range(3):
        slack.fail_next(lost=True)
        assert deliver(dispatcher, now) == 1
        now = shop.row(row)["not_before"]

    assert deliver(dispatcher, now + timedelta(days=1)) == 0
    kept = shop.row(row)
    assert (kept["status"], kept["maybe_repeated"], len(slack.messages)) == ("FAILED", 3, 3)
    assert "it may have arrived" in kept["error_message"]
    counted = registry.get_sample_value("sentinel_notifications_maybe_repeated_total", {"channel": "slack"})
    assert counted == 2, "two tries were made after one that may have arrived"


def test_a_lost_answer_is_looked_for_before_it_is_sent_again(shop: Shop, slack: SlackStub, make: Make) -> None:
    place = {"channel_settings": {"channel": CHANNEL_ID}, "metrics": {}}
    row = shop.add_notification(shop.add_alert(), content=place)
    slack.fail_next(lost=True)
    deliver(make())
    assert shop.row(row)["maybe_repeated"] == 1
    deliver(make(), NOW + timedelta(minutes=1))
    assert (shop.row(row)["status"], len(slack.messages)) == ("SENT", 1)


def test_a_permanent_error_and_an_unknown_channel_are_dead_letters(shop: Shop, slack: SlackStub, make: Make) -> None:
    slack.fail_next(error="is_archived")
    archived = shop.add_notification(shop.add_alert())
    unknown = shop.add_notification(shop.add_alert(), channel_type="pigeon")
    deliver(make())

    assert "unarchive it, or choose another" in shop.row(archived)["error_message"]
    assert "pigeon" in shop.row(unknown)["error_message"]
    assert {shop.row(id_)["status"] for id_ in (archived, unknown)} == {"FAILED"}


def test_a_slow_message_does_not_hold_the_others(shop: Shop, slack: SlackStub, make: Make) -> None:
    go_on = threading.Event()
    slack.fail_next(hold=go_on)
    dispatcher = make(parallel=4)
    ids = [shop.add_notification(shop.add_alert()) for _ in range(4)]
    dispatcher.run_once(NOW)

    wait_for(lambda: len(slack.messages) == 3, what="the others' messages")
    assert dispatcher.run_once(NOW) == 0
    go_on.set()
    dispatcher.finish(60)
    assert {shop.row(id_)["status"] for id_ in ids} == {"SENT"}


def test_a_channel_that_hangs_holds_up_no_other(shop: Shop, slack: SlackStub, make: Make) -> None:
    go_on = threading.Event()
    slack.fail_next(times=8, hold=go_on)
    told = list[str]()

    class Phone(Console):
        channel_type, parallel = "sms", 2

        def send(self, message: Message, *_: object) -> Receipt:
            told.append(message.notification_id)
            return Receipt()

    options = SlackOptions(token=SecretStr(TOKEN), channel="#fraud", api_url=slack.url, timeout=60)
    dispatcher = make(notifiers={"slack": Slack(options), "sms": Phone()})
    hanging = [shop.add_notification(shop.add_alert(), priority=3, account_id=f"acc_{n}") for n in range(9)]
    dispatcher.run_once(NOW)
    ids = [shop.add_notification(shop.add_alert(), channel_type="sms", account_id=f"acc_{n}") for n in range(5)]

    def all_told() -> bool:
        dispatcher.run_once(NOW)
        return len(told) == 5

    try:
        wait_for(all_told, what="the other channel's messages")
        states = sorted(shop.row(id_)["status"] for id_ in hanging)
        assert states == ["PENDING"] * 5 + ["SENDING"] * 4, "no more is claimed than can be sent"
    finally:
        go_on.set()
    assert sorted(told) == sorted(ids)


def test_a_worker_that_stalled_before_the_call_leaves_it_to_the_one_that_took_over(
    shop: Shop, slack: SlackStub, make: Make
) -> None:
    row = shop.add_notification(shop.add_alert())
    late = [NOW]
    stalled = make(clock=lambda: late[0])
    late[0] = NOW + timedelta(minutes=2)
    deliver(stalled)
    assert (len(slack.calls), shop.row(row)["status"]) == (0, "SENDING"), "its lease has ended"
    deliver(make(owner="worker-2", clock=lambda: late[0]), late[0])
    assert (len(slack.messages), shop.row(row)["status"], shop.row(row)["maybe_repeated"]) == (1, "SENT", 0)


def test_many_alerts_of_one_merchant_at_once_are_one_message(shop: Shop, slack: SlackStub, make: Make) -> None:
    ids = [shop.add_notification(shop.add_alert()) for _ in range(30)]
    other = shop.add_notification(shop.add_alert(), account_id="acc_2")
    few = [shop.add_notification(shop.add_alert(), account_id="acc_3") for _ in range(5)]
    dispatcher = make()
    while deliver(dispatcher):
        pass

    rows = [shop.row(id_) for id_ in ids]
    assert {row["status"] for row in rows} == {"SENT"}
    (lead,) = (row for row in rows if row["group_id"] is None)
    assert {row["group_id"] for row in rows if row is not lead} == {lead["id"]}
    assert lead["metadata"]["told"] == 30
    assert "provider" not in lead["metadata"], "what follows about one of them does not take the place of all"
    assert {shop.row(id_)["group_id"] for id_ in (other, *few)} == {None}
    texts = [json.dumps(message["blocks"]) for message in slack.messages]
    assert len(texts) == 1 + 1 + 5
    assert sum("30 alerts at once" in text and "Card testing attack: 30" in text for text in texts) == 1
    assert all(shop.alert(row["alert_id"])["last_notified_at"] == NOW for row in rows)


def test_a_group_that_fails_is_tried_again_whole(shop: Shop, slack: SlackStub, make: Make) -> None:
    slack.fail_next(status=500)
    ids = [shop.add_notification(shop.add_alert(), priority=3) for _ in range(9)]
    dispatcher = make()
    deliver(dispatcher)
    assert {(shop.row(id_)["status"], shop.row(id_)["retry_count"]) for id_ in ids} == {("PENDING", 1)}
    assert deliver(dispatcher, NOW + timedelta(seconds=5)) == 1
    assert {shop.row(id_)["status"] for id_ in ids} == {"SENT"}
    assert len(slack.messages) == 1


def test_a_notifier_that_breaks_in_an_unforeseen_way_leaves_a_lease_that_ends(shop: Shop, make: Make) -> None:
    class Broken:
        channel_type, parallel = "slack", 1

        def send(self, *_: object) -> Receipt:
            raise KeyError("bug")

    row = shop.add_notification(shop.add_alert())
    with capture_logs() as logs:
        deliver(make(notifiers={"slack": Broken()}))

    assert "work_failed" in {entry["event"] for entry in logs}
    assert deliver(make(), NOW + timedelta(minutes=2)) == 1
    assert (shop.row(row)["status"], shop.row(row)["retry_count"]) == ("SENT", 1)


def test_a_store_that_is_away_for_a_moment_doubles_no_message(shop: Shop, slack: SlackStub, make: Make) -> None:
    away = [1, 2, 3]

    def refuse(connection: sa.Connection, *_: object) -> None:
        if connection.get_execution_options().get("sentinel_write") and slack.messages and away:
            away.pop()
            raise sa.exc.OperationalError("BEGIN", {}, OSError("away"))

    row = shop.add_notification(shop.add_alert())
    sa.event.listen(shop.database.engine, "begin", refuse)
    deliver(make())

    assert not away
    assert (shop.row(row)["status"], len(slack.messages)) == ("SENT", 1)


def test_a_model_writes_the_words_and_the_template_stands_in(shop: Shop, slack: SlackStub, make: Make) -> None:
    words = {
        "title": "Attack on Northwind Books",
        "summary": "35.0 % of payments are blocked.",
        "severity": "P3",
        "suggested_action": "Hold new orders.",
    }
    alerts = [shop.add_alert(), shop.add_alert()]
    with Desk() as desk, capture_logs() as logs:
        dispatcher = make(summariser=desk.words, summary_budget=timedelta(minutes=1))
        for alert_id, answer in zip(alerts, [completion(json.dumps(words)), completion("no")], strict=True):
            desk.stub.answers = [answer]
            content = {"metrics": {"block_rate": BLOCK_RATE}, "rule_summary": alert_id}  # no two alike
            shop.add_notification(alert_id, content=content)
            deliver(dispatcher)

    first, second = (shop.alert(alert_id) for alert_id in alerts)
    assert (first["title"], first["metadata"]["summary_source"]) == ("Attack on Northwind Books", "stub-1")
    assert second["metadata"]["summary_source"] == "template"
    assert (first["metadata"]["model_severity"], second["metadata"]["model_severity"]) == ("P3", None)
    assert "Severity*\\nP2" in json.dumps(slack.messages[0]["blocks"]), "a model lowers nothing"
    events = [entry["event"] for entry in logs]
    for event in ("ai_summary_requested", "ai_summary_generated", "ai_summary_refused", "notification_sent"):
        assert event in events


def test_no_secret_is_logged(shop: Shop, slack: SlackStub, make: Make) -> None:
    for failing in ({"error": "invalid_auth"}, {"status": 500}, {"reset": True}, {"body": b"?"}):
        slack.fail_next(**failing)
    for number in range(5):
        shop.add_notification(shop.add_alert(), account_id=f"acc_{number}")
    with capture_logs() as logs:
        dispatcher = make()
        while deliver(dispatcher):
            pass

    assert len(logs) >= 5
    assert TOKEN not in json.dumps(logs, default=repr)


def test_every_message_goes_out_once_while_workers_compete(shop: Shop, slack: SlackStub, make: Make) -> None:
    ids = [shop.add_notification(shop.add_alert(), account_id=f"acc_{number}") for number in range(30)]
    dispatchers = [make(owner=f"worker-{n}", parallel=4) for n in range(2)]

    def work(dispatcher: Dispatcher) -> None:
        idle = 0
        while idle < 20:
            idle = 0 if deliver(dispatcher) else idle + 1

    threads = [threading.Thread(target=work, args=(dispatcher,)) for dispatcher in dispatchers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(slack.messages) == len(ids)
    assert {shop.row(id_)["status"] for id_ in ids} == {"SENT"}


def test_what_is_sent_is_what_the_source_measured(shop: Shop, slack: SlackStub, make: Make) -> None:
    shop.add_notification(shop.add_alert())
    deliver(make(clock=lambda: datetime.now(UTC)), datetime.now(UTC))
    assert f"{BLOCK_RATE * 100:.2f} %" in json.dumps(slack.messages[0]["blocks"], ensure_ascii=False)
