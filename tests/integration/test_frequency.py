"""Frequency limits hold whatever is delivered at the same time: in the store, and in Redis, which may go away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import servers
from ingest_shop import MINUTE, Shop, firing, save_configs
from prometheus_client import CollectorRegistry
from redis import Connection, Redis

from webhook.adapters.frequency import FrequencyMetrics, RedisPlaces
from webhook.domain.alert import AlertTypes, AlertTypeSettings
from webhook.domain.evaluation import MerchantConfig
from webhook.domain.ledger import Changes, Claim, IngestSettings, Known
from webhook.domain.throttle import NotificationPolicy
from webhook.ports import StoreUnavailable
from webhook.storage.store import AlertStore
from webhook.storage.tables import notification

REGIONS = IngestSettings(AlertTypes(AlertTypeSettings(fingerprint_fields=("region",))))
"""Each region is a condition of its own: no session serialises two deliveries."""


@dataclass(frozen=True)
class Clock:
    """For windows, in place of the module `time`."""

    shop: Shop

    def time(self) -> float:
        return self.shop.now.timestamp()


@pytest.fixture(params=["store", "redis"])
def limited(request: pytest.FixtureRequest, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """At most 3 an hour and 5 a day of each account, 60 s apart where it is `spaced…`."""
    shop = Shop(store_url)
    shop.settings = REGIONS
    if request.param == "redis":
        monkeypatch.setattr("webhook.adapters.frequency.time", Clock(shop))
        places = RedisPlaces(request.getfixturevalue("redis_server"), FrequencyMetrics(CollectorRegistry()))
        shop.store = AlertStore(shop.database, places)
    yield shop
    shop.database.close()


AN_HOUR_LATER = (timedelta(hours=2), MINUTE)


def account(shop: Shop, *, spaced: bool = False) -> str:
    name = f"{'spaced' if spaced else 'a'}:{uuid4()}"
    limits = {"max_alerts_per_hour": 3, "max_alerts_per_day": 5, "min_interval_minutes": 1 if spaced else 0}
    config = MerchantConfig(name, "CARD_TESTING", notification_settings={"frequency_control": limits})
    save_configs(shop.database, [config], shop.now)
    return name


def attack(name: str, region: str) -> dict[str, object]:
    alert = firing(name)
    return {**alert, "labels": {**alert["labels"], "region": region}, "fingerprint": f"{name}/{region}"}


def told(shop: Shop, *alerts: object, after: timedelta = timedelta(0)) -> list[str]:
    return [entry.notify for entry in shop.deliver(*alerts, after=after).entries]


def test_hour_and_day_slide(limited: Shop) -> None:
    name = account(limited)
    regions = iter(range(100))

    def one(after: timedelta) -> str:
        return told(limited, attack(name, f"r{next(regions)}"), after=after)[0]

    assert [one(20 * MINUTE) for _ in range(3)] == ["first"] * 3
    assert one(19 * MINUTE) == "withheld:frequency"
    assert one(2 * MINUTE) == "first", "the first of them is an hour old"
    assert one(timedelta(hours=2)) == "first"
    assert one(timedelta(hours=2)) == "withheld:frequency", "five within a day"
    assert one(timedelta(hours=19)) == "first", "the first of them is a day old"
    reached = limited.deliver(attack(name, "last"), attack(name, "very last"), after=MINUTE).entries[-1].limit
    assert reached is not None
    assert (reached.name, reached.maximum, reached.count) == ("max_alerts_per_day", 5, 5)
    assert limited.now < reached.frees_at < limited.now + timedelta(hours=1)


def test_a_minimum_interval_holds_for_all_alerts_of_the_account_and_type(limited: Shop) -> None:
    name = account(limited, spaced=True)
    assert told(limited, attack(name, "EU"), attack(name, "US")) == ["first", "withheld:frequency"]
    assert told(limited, attack(name, "AP"), after=timedelta(seconds=59)) == ["withheld:frequency"]
    assert told(limited, attack(name, "AF"), after=timedelta(seconds=2)) == ["first"]


def test_many_at_once_get_no_more_than_there_are_places(limited: Shop) -> None:
    names = [account(limited) for _ in range(2)]
    barrier = threading.Barrier(8)

    def work(number: int) -> list[str]:
        barrier.wait()
        return told(limited, *(attack(name, f"r{number}") for name in names))

    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(work, range(8)))
    for index in range(2):
        assert sorted(one[index] for one in heard) == ["first"] * 3 + ["withheld:frequency"] * 5
    assert len(limited.rows(notification)) == 6


def test_a_delivery_that_is_not_stored_takes_no_place(limited: Shop) -> None:
    name = account(limited, spaced=True)

    def broken(decide: Callable[[Known], Changes]) -> Callable[[Known], Changes]:
        def decided(known: Known) -> Changes:
            changes = decide(known)
            changes.metrics.clear()  # writing it fails
            return changes

        return decided

    real = limited.store.ingest
    limited.store.ingest = lambda d, s, n, decide, r: real(d, s, n, broken(decide), r)  # type: ignore[method-assign]
    with pytest.raises((KeyError, StoreUnavailable)):
        told(limited, attack(name, "EU"))
    limited.store.ingest = real  # type: ignore[method-assign]
    assert told(limited, attack(name, "EU")) == ["first"]


def test_an_escalation_passes_and_is_counted(limited: Shop) -> None:
    name = account(limited)
    assert told(limited, attack(name, "1"), attack(name, "2"), attack(name, "3")) == ["first"] * 3
    graver = attack(name, "1") | {"fingerprint": "graver", "labels": {**attack(name, "1")["labels"], "severity": "P1"}}  # type: ignore[dict-item]
    assert told(limited, graver, after=MINUTE) == ["escalated"]
    heard = [told(limited, attack(name, f"new {number}"), after=after)[0] for number, after in enumerate(AN_HOUR_LATER)]
    assert heard == ["first", "withheld:frequency"], "of five a day four were used: three firsts and the escalation"


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_redis_that_goes_away_and_comes_back(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(store_url)
    shop.settings = REGIONS
    registry, seconds = CollectorRegistry(), [0.0]
    port = servers.free_port()
    monkeypatch.setattr("webhook.adapters.frequency.time", Clock(shop))
    places = RedisPlaces(f"redis://127.0.0.1:{port}", FrequencyMetrics(registry), clock=lambda: seconds[0])
    shop.store = AlertStore(shop.database, places)
    name = account(shop)

    def health() -> tuple[float | None, float | None]:
        values = ("sentinel_frequency_backend_up", "sentinel_frequency_backend_errors_total")
        return (registry.get_sample_value(values[0]), registry.get_sample_value(values[1]))

    with servers.redis(port):
        assert told(shop, attack(name, "1")) == ["first"]
    assert health() == (1, 0)
    assert told(shop, attack(name, "2")) == ["first"], "it fails open"
    assert health() == (0, 1)
    assert told(shop, attack(name, "3"), attack(name, "4")) == ["first", "withheld:frequency"], "to the store's window"
    assert health() == (0, 1), "it is left alone for a while"
    seconds[0] += 6
    assert told(shop, attack(name, "5"), after=61 * MINUTE) == ["first"]
    assert health() == (0, 2)
    with servers.redis(port):
        seconds[0] += 6
        assert told(shop, attack(name, "6"), attack(name, "7")) == ["first", "withheld:frequency"], "5 a day, told 5"
        assert health() == (1, 2)
    shop.database.close()


def test_keys_are_those_of_the_documents(redis_server: str) -> None:
    places = RedisPlaces(redis_server, FrequencyMetrics(CollectorRegistry()))
    name = str(uuid4())
    policy = NotificationPolicy(min_interval=MINUTE)
    taken = places.take([Claim((name, "CARD_TESTING"), policy, limited=True)])
    assert taken is not None
    with Redis.from_url(redis_server, decode_responses=True) as client:
        prefix = f"freq_ctrl:merchant:{name}:alert:CARD_TESTING"
        assert sorted(client.keys(f"*{name}*")) == [f"{prefix}:day", f"{prefix}:hour", f"{prefix}:last"]
        assert client.ttl(f"{prefix}:last") <= 60
        taken.give_back()
        assert client.keys(f"*{name}*") == []


class Counted:
    """How often something was sent to Redis."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = 0
        send = Connection.send_packed_command

        def counting(connection: Connection, *args: Any, **options: Any) -> None:
            self.sent += 1
            send(connection, *args, **options)

        monkeypatch.setattr(Connection, "send_packed_command", counting)


def test_redis_is_asked_as_often_for_many_merchants_as_for_one(
    redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = RedisPlaces(redis_server, FrequencyMetrics(CollectorRegistry()))
    policy = NotificationPolicy(min_interval=MINUTE)
    counted, trips = Counted(monkeypatch), []
    for number in (1, 1, 50):
        before = counted.sent
        claims = [Claim((str(uuid4()), "CARD_TESTING"), policy, limited=True) for _ in range(number)]
        taken = places.take(claims)
        assert taken is not None
        assert list(taken.granted) == [True] * number
        trips.append(counted.sent - before)
    assert trips[1] == trips[2], "the first one connects, too"


def test_what_one_claim_is_refused_is_free_for_the_next(redis_server: str) -> None:
    """The first takes the place of the interval; the second is refused it and gives back the one of the hour."""
    places = RedisPlaces(redis_server, FrequencyMetrics(CollectorRegistry()))
    spaced = NotificationPolicy(max_per_hour=2, min_interval=MINUTE)
    key = (str(uuid4()), "CARD_TESTING")
    taken = places.take([Claim(key, spaced, limited=limited) for limited in (True, True, False)])
    assert taken is not None
    assert list(taken.granted) == [True, False, True]
    with Redis.from_url(redis_server) as client:
        assert client.llen(f"freq_ctrl:merchant:{key[0]}:alert:CARD_TESTING:hour") == 2


def test_a_redis_that_takes_long_is_left_alone(redis_server: str) -> None:
    registry, now = CollectorRegistry(), iter(range(100))
    places = RedisPlaces(redis_server, FrequencyMetrics(registry), clock=lambda: next(now) * 1000.0)
    key, policy = (str(uuid4()), "CARD_TESTING"), NotificationPolicy()
    assert places.take([Claim(key, policy, limited=True)]) is not None, "one answer alone has its own limit"
    assert places.take([Claim(key, policy, limited=True)] * 3) is None, "the store decides"
    assert registry.get_sample_value("sentinel_frequency_backend_errors_total") == 1
