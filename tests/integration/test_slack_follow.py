"""Slack messages follow what people do elsewhere, over each database: nothing is queued, nobody is told anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from fakes_slack import SlackStub
from notes import NOW, Shop
from prometheus_client import CollectorRegistry

from webhook.domain.access import Principal, Role
from webhook.domain.action import DismissReason, Doing
from webhook.domain.message import Message
from webhook.notifiers.slack import Slack, SlackOptions
from webhook.pipeline.delivery_metrics import DeliveryMetrics
from webhook.pipeline.dispatch import Dispatcher
from webhook.pipeline.follow import Follow
from webhook.ports import Receipt
from webhook.storage.acting import AlertActions
from webhook.storage.outbox import Outbox
from webhook.storage.standing import Standings
from webhook.storage.tables import notification

OPS = Principal("lee", Role.OPS, "api_key/sk_1")


@dataclass
class Desk:
    """A store, a Slack, a worker's parts, and a person's actions."""

    shop: Shop
    stub: SlackStub
    now: datetime = NOW
    slack: Slack = field(init=False)

    def __post_init__(self) -> None:
        options = {"token": "xoxb-1", "channel": "#fraud", "signing_secret": "s", "timeout": 60}
        self.slack = Slack(SlackOptions(**options, api_url=self.stub.url))
        self.actions = AlertActions(self.shop.database, {"slack": {"channel": "#northwind"}})
        self.follow = self.another_follow()

    def another_follow(self) -> Follow:
        """As of a worker that has just started."""
        return Follow(Standings(self.shop.database), {"slack": self.slack}, "http://sentinel.example")

    def doing(self) -> Doing:
        return Doing("lee", OPS, self.now)

    def tell(self, alert_id: str, **changes: Any) -> str:
        self.shop.add_notification(alert_id, at=self.now, **changes)
        self.deliver()
        return str(self.stub.messages[-1]["ts"])

    def deliver(self) -> None:
        dispatcher = Dispatcher(
            outbox=Outbox(self.shop.database),
            notifiers={"slack": self.slack},
            public_url="http://sentinel.example",
            owner="w",
            clock=lambda: self.now,
            meter=DeliveryMetrics(CollectorRegistry()),
        )
        dispatcher.run_once(self.now)
        dispatcher.finish(60)
        dispatcher.close()

    def round(self, after: timedelta = timedelta(seconds=3)) -> int:
        self.now += after
        return self.follow.run_once(self.now)

    def state(self, ts: str) -> str:
        text: str = self.stub.shown(ts)["blocks"][1]["text"]["text"]
        return text


@pytest.fixture
def desk(store_url: str) -> Iterator[Desk]:
    shop = Shop(store_url)
    with SlackStub() as stub:
        yield Desk(shop, stub)
    shop.close()


def test_what_people_do_shows_in_the_message_within_a_round(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    ts = desk.tell(alert_id)
    assert desk.round() == 0
    desk.actions.acknowledge(alert_id, "", desk.doing())
    assert desk.round() == 1
    assert desk.state(ts) == "*Going on* · acknowledged by lee"
    desk.actions.snooze(alert_id, desk.now + timedelta(hours=1), desk.doing())
    desk.round()
    assert "snoozed until" in desk.state(ts)
    desk.actions.unacknowledge(alert_id, desk.doing())
    desk.actions.unsnooze(alert_id, desk.doing())
    desk.round()
    assert desk.state(ts) == "*Going on* · nobody has acknowledged it yet"
    desk.actions.dismiss(alert_id, DismissReason.NORMAL_BUSINESS, "a sale", desk.doing())
    desk.round()
    assert desk.state(ts) == "*Dismissed* by lee: Normal business: a sale"

    assert len(desk.stub.messages) == 1, "nobody is told anew"
    assert len(desk.shop.rows(notification)) == 1, "nothing is queued"
    updates = len(desk.stub.asked("chat.update"))
    assert desk.round() == 0
    assert desk.another_follow().run_once(desk.now) == 0
    assert len(desk.stub.asked("chat.update")) == updates


def test_the_next_message_says_who_is_on_it_and_keeps_its_place(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    ts = desk.tell(alert_id)
    desk.actions.acknowledge(alert_id, "", desk.doing())
    desk.now += timedelta(minutes=1)
    desk.tell(alert_id, reason="escalated")
    assert desk.state(ts) == "*Going on* · acknowledged by lee"
    assert [message["ts"] for message in desk.stub.roots] == [ts]
    assert desk.round() == 0, "it shows that already"


def test_slack_is_asked_again_until_it_can_be_shown(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    ts = desk.tell(alert_id)
    desk.actions.acknowledge(alert_id, "", desk.doing())
    desk.stub.fail_next("chat.update", status=500)
    assert desk.round() == 0
    desk.stub.fail_next("chat.update", status=429, retry_after=60)
    assert desk.round() == 0
    asked = len(desk.stub.asked("chat.update"))
    assert desk.round() == 0
    assert len(desk.stub.asked("chat.update")) == asked, "it asked us to wait"
    assert desk.round(timedelta(seconds=60)) == 1
    assert "acknowledged" in desk.state(ts)


def test_a_message_that_is_gone_is_left_alone(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    desk.stub.delete(desk.tell(alert_id))
    desk.actions.acknowledge(alert_id, "", desk.doing())
    desk.round()
    asked = len(desk.stub.asked("chat.update"))
    desk.round()
    assert desk.another_follow().run_once(desk.now) == 0
    assert len(desk.stub.asked("chat.update")) == asked
    assert len(desk.stub.messages) == 1


def test_while_a_message_is_being_sent_its_place_is_left_to_it(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    ts = desk.tell(alert_id)
    later = desk.shop.add_notification(alert_id, at=desk.now, reason="escalated")
    Outbox(desk.shop.database).claim(1, "w", desk.now, timedelta(seconds=60))
    desk.actions.acknowledge(alert_id, "", desk.doing())
    assert desk.round() == 0
    Outbox(desk.shop.database).release_expired(desk.now + timedelta(minutes=2))
    assert desk.shop.row(later)["status"] == "PENDING"
    assert desk.round() == 1
    assert "acknowledged" in desk.state(ts)


def test_what_a_rate_limit_held_up_is_shown_when_it_has_passed(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    ts = desk.tell(alert_id)
    desk.stub.fail_next("chat.update", status=429, retry_after=5)
    desk.now += timedelta(minutes=1)
    desk.tell(alert_id, reason="resolved")
    assert desk.state(ts).startswith("*Going on*")
    assert desk.round() == 1
    assert desk.state(ts) == "*Ended*"
    assert desk.round() == 0


def test_a_webhook_s_message_cannot_follow(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    sent = {"provider": {"reference": "", "webhook": True}}
    desk.shop.add_notification(alert_id, status="SENT", sent_at=NOW, metadata=sent)
    desk.actions.acknowledge(alert_id, "", desk.doing())
    assert desk.round() == 0
    assert desk.stub.calls == []


def test_a_comment_that_was_told_last_is_not_what_the_message_shows(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    ts = desk.tell(alert_id)
    desk.actions.comment(alert_id, "@lee please look", desk.doing())
    desk.now += timedelta(seconds=1)
    desk.actions.acknowledge(alert_id, "", desk.doing())
    desk.deliver()
    desk.round()
    assert len(desk.stub.roots) == 1
    text = json.dumps(desk.stub.shown(ts)["blocks"])
    assert "acknowledged by lee" in text
    assert "please look" not in text
    assert "Card testing attack: Northwind Books" in text


class Slow:
    """Slack as a worker sees it whose call takes its time: `meanwhile` happens before what it says reaches Slack."""

    def __init__(self, slack: Slack, meanwhile: Callable[[], object]) -> None:
        self._slack, self._meanwhile = slack, [meanwhile]

    def follow(self, message: Message, receipt: Receipt, settings: Mapping[str, Any]) -> Receipt:
        if self._meanwhile:
            self._meanwhile.pop()()
        return self._slack.follow(message, receipt, settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slack, name)


def slow(desk: Desk, meanwhile: Callable[[], object]) -> Follow:
    return Follow(Standings(desk.shop.database), {"slack": Slow(desk.slack, meanwhile)}, "http://sentinel.example")


def test_a_slow_worker_does_not_leave_an_older_state_over_a_newer_one(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    ts = desk.tell(alert_id)
    desk.actions.acknowledge(alert_id, "", desk.doing())

    def meanwhile() -> None:
        desk.now += timedelta(seconds=1)
        desk.actions.dismiss(alert_id, DismissReason.NORMAL_BUSINESS, "a sale", desk.doing())
        assert desk.another_follow().run_once(desk.now) == 1
        assert desk.state(ts).startswith("*Dismissed*")

    assert slow(desk, meanwhile).run_once(desk.now) == 1
    assert desk.state(ts) == "*Dismissed* by lee: Normal business: a sale · acknowledged by lee"


def test_what_was_read_for_many_alerts_is_read_again_for_each(desk: Desk) -> None:
    """While one message is changed, another worker shows what has happened to the second."""
    first, second = desk.shop.add_alert(), desk.shop.add_alert()
    stands = {alert_id: desk.tell(alert_id) for alert_id in (first, second)}
    for alert_id in stands:
        desk.actions.acknowledge(alert_id, "", desk.doing())

    def meanwhile() -> None:
        desk.now += timedelta(seconds=1)
        for alert_id in stands:
            desk.actions.snooze(alert_id, desk.now + timedelta(hours=1), desk.doing())
        desk.another_follow().run_once(desk.now)

    slow(desk, meanwhile).run_once(desk.now)
    assert all("snoozed until" in desk.state(ts) for ts in stands.values())
    texts = [call["blocks"][1]["text"]["text"] for call in desk.stub.asked("chat.update")]
    assert sum("snoozed" not in text for text in texts) == 1, "only the call that was under way told the older state"


def test_a_message_that_goes_out_meanwhile_is_not_overwritten_for_good(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    ts = desk.tell(alert_id)
    desk.actions.acknowledge(alert_id, "", desk.doing())

    def meanwhile() -> None:
        desk.now += timedelta(seconds=1)
        desk.tell(alert_id, reason="resolved")

    slow(desk, meanwhile).run_once(desk.now)
    assert desk.state(ts).startswith("*Ended*")


def test_a_message_that_is_being_sent_meanwhile_is_looked_at_again(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    ts = desk.tell(alert_id)
    desk.actions.acknowledge(alert_id, "", desk.doing())
    desk.shop.add_notification(alert_id, at=desk.now, reason="escalated")

    follow = slow(desk, lambda: Outbox(desk.shop.database).claim(1, "w", desk.now, timedelta(seconds=60)))
    assert follow.run_once(desk.now) == 0
    updates = len(desk.stub.asked("chat.update"))
    Outbox(desk.shop.database).release_expired(desk.now + timedelta(minutes=2))
    assert follow.run_once(desk.now) == 1, "whatever the sender said, it is shown once more"
    assert len(desk.stub.asked("chat.update")) == updates + 1
    assert "acknowledged" in desk.state(ts)
    assert follow.run_once(desk.now) == 0
