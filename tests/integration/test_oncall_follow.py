"""PagerDuty and OpsGenie hear what people do here, over each database: nothing is queued, and nothing is said twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from fakes_provider import Answer, Call, ProviderStub
from notes import NOW, Shop
from prometheus_client import CollectorRegistry

from webhook.adapters.secrets import SecretBox
from webhook.domain.access import Principal, Role
from webhook.domain.action import DismissReason, Doing
from webhook.notifiers.registry import Site, build_notifiers
from webhook.pipeline.delivery_metrics import DeliveryMetrics
from webhook.pipeline.dispatch import Dispatcher
from webhook.pipeline.follow import Follow
from webhook.storage.acting import AlertActions
from webhook.storage.outbox import Outbox
from webhook.storage.standing import Standings
from webhook.storage.tables import notification

KEY = "k3y-0123456789abcdef0123456789"
SECRETS = {"pagerduty": "routing_key", "opsgenie": "api_key"}
TAKEN = {
    "pagerduty": Answer(202, {"status": "success", "dedup_key": "from-pagerduty"}),
    "opsgenie": Answer(202, {"result": "Request will be processed", "requestId": "43a29c5c"}),
}


@dataclass
class Desk:
    """A store, an on-call service, a worker's parts, and a person's actions; the merchant's key is encrypted."""

    shop: Shop
    stub: ProviderStub
    channel: str
    now: datetime = NOW
    box: SecretBox = field(default_factory=lambda: SecretBox([Fernet.generate_key().decode()]))

    def __post_init__(self) -> None:
        options = {self.channel: {"api_url": self.stub.url, "timeout": 30}}
        self.notifiers = build_notifiers([self.channel], options, Site("http://sentinel.example"))
        self.actions = AlertActions(self.shop.database, {})
        self.follow = Follow(Standings(self.shop.database), self.notifiers, "http://sentinel.example", self.box)  # type: ignore[arg-type]
        self.stub.usual = lambda _: TAKEN[self.channel]

    def doing(self) -> Doing:
        return Doing("lee", Principal("lee", Role.OPS, "api_key/sk_1"), self.now)

    def tell(self, alert_id: str, **changes: Any) -> None:
        self.now += timedelta(seconds=1)
        told = self.shop.rows(notification, alert_id=alert_id)
        settings = told[0]["content"]["channel_settings"] if told else {SECRETS[self.channel]: self.box.encrypt(KEY)}
        content = {
            "severity": "P2", "status": "ACTIVE", "metrics": {"block_rate": 0.35}, "thresholds": {},
            "occurrence_count": 1, "channel_settings": settings,
        }  # fmt: skip
        self.shop.add_notification(alert_id, at=self.now, channel_type=self.channel, **{"content": content, **changes})
        dispatcher = Dispatcher(
            outbox=Outbox(self.shop.database),
            notifiers=self.notifiers,
            public_url="http://sentinel.example",
            owner="w",
            clock=lambda: self.now,
            meter=DeliveryMetrics(CollectorRegistry()),
            secrets=self.box,
        )
        dispatcher.run_once(self.now)
        dispatcher.finish(60)
        dispatcher.close()

    def round(self) -> list[Call]:
        """What the service was told in it."""
        self.now += timedelta(seconds=3)
        before = len(self.stub.calls)
        self.follow.run_once(self.now)
        return self.stub.calls[before:]

    def said(self) -> list[str]:
        """Actions that the service was told of in a round."""
        return [
            call.json["event_action"] if self.channel == "pagerduty" else call.path.split("?")[0].rpartition("/")[2]
            for call in self.round()
        ]


@pytest.fixture(params=["pagerduty", "opsgenie"])
def desk(store_url: str, request: pytest.FixtureRequest) -> Iterator[Desk]:
    shop = Shop(store_url)
    with ProviderStub() as stub:
        yield Desk(shop, stub, request.param)
    shop.close()


def test_an_acknowledgement_here_is_one_there_said_once(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    desk.tell(alert_id)
    assert desk.round() == []
    desk.actions.acknowledge(alert_id, "", desk.doing())
    (call,) = desk.round()
    if desk.channel == "pagerduty":
        assert call.json == {"routing_key": KEY, "event_action": "acknowledge", "dedup_key": "from-pagerduty"}
    else:
        assert call.path == f"/v2/alerts/{alert_id}/acknowledge?identifierType=alias"
        assert call.json == {"source": "Sentinel", "note": "lee, in Sentinel"}
        assert call.headers["Authorization"] == f"GenieKey {KEY}"
    desk.actions.snooze(alert_id, desk.now + timedelta(hours=1), desk.doing())
    assert desk.round() == [], "who snoozes says nothing new to it"
    assert len(desk.shop.rows(notification)) == 1, "nothing is queued"


def test_taken_back_where_the_service_knows_a_way_back(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    desk.tell(alert_id)
    desk.actions.acknowledge(alert_id, "", desk.doing())
    desk.round()
    desk.actions.unacknowledge(alert_id, desk.doing())
    assert desk.said() == ([] if desk.channel == "pagerduty" else ["unacknowledge"])


def test_a_dismissal_here_closes_it_there(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    desk.tell(alert_id)
    desk.actions.dismiss(alert_id, DismissReason.NORMAL_BUSINESS, "a sale", desk.doing())
    (call,) = desk.round()
    if desk.channel == "pagerduty":
        assert call.json["event_action"] == "resolve"
    else:
        assert call.path == f"/v2/alerts/{alert_id}/close?identifierType=alias"
        assert call.json["note"] == "lee: Normal business: a sale, in Sentinel"


def test_what_was_acknowledged_before_it_was_told_there_is_said_after(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    desk.actions.acknowledge(alert_id, "", desk.doing())
    assert desk.round() == []
    desk.tell(alert_id)
    assert desk.said() == ["acknowledge"]
    desk.tell(alert_id, reason="escalated")
    assert desk.round() == [], "it knows that already"


def test_an_end_is_told_by_its_own_message_alone(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    desk.tell(alert_id)
    desk.actions.acknowledge(alert_id, "", desk.doing())
    assert desk.said() == ["acknowledge"]
    desk.tell(alert_id, reason="resolved")
    desk.actions.unacknowledge(alert_id, desk.doing())
    assert desk.round() == []


@pytest.mark.parametrize("answer", [Answer(500), Answer(429, headers={"Retry-After": "2"}), Answer(reset=True)])
def test_a_service_that_is_away_is_told_when_it_is_back(desk: Desk, answer: Answer) -> None:
    alert_id = desk.shop.add_alert()
    desk.tell(alert_id)
    desk.actions.acknowledge(alert_id, "", desk.doing())
    desk.stub.answers.append(answer)
    assert desk.said() == ["acknowledge"]
    assert desk.said() == ["acknowledge"]
    assert desk.said() == []


def test_what_it_refuses_for_good_is_not_said_again(desk: Desk) -> None:
    alert_id = desk.shop.add_alert()
    desk.tell(alert_id)
    desk.actions.acknowledge(alert_id, "", desk.doing())
    desk.stub.answers.append(Answer(403))
    assert desk.said() == ["acknowledge"]
    assert desk.said() == []
