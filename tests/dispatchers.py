"""Dispatchers over a shop and a stub Slack, and a past to draw charts of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from fakes_slack import SlackStub
from notes import NOW, Shop
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from webhook.notifiers.slack import Slack, SlackOptions
from webhook.pipeline.delivery_metrics import DeliveryMetrics
from webhook.pipeline.dispatch import Dispatcher
from webhook.ports import HistoryUnavailable, Series
from webhook.storage.outbox import Outbox

TOKEN = "xoxb-secret-token"


class History:
    """A metric's past; away when told so."""

    def __init__(self, *, away: bool = False) -> None:
        self.away, self.asked = away, list[tuple[str, str]]()

    def range(self, metric: str, account_id: str, start: datetime, end: datetime, step: timedelta) -> Series:
        self.asked.append((metric, account_id))
        if self.away:
            raise HistoryUnavailable("Prometheus: connection refused")
        times = [start + step * n for n in range(int((end - start) / step))]
        return Series(metric, times, [0.3] * len(times))


class Dispatchers:
    """Makes dispatchers that all end with `close`."""

    def __init__(self, shop: Shop, slack: SlackStub) -> None:
        self._shop, self._slack, self._made = shop, slack, list[Dispatcher]()

    def make(self, **changes: Any) -> Dispatcher:
        """Changes are of the dispatcher's own parameters."""
        options = SlackOptions(token=SecretStr(TOKEN), channel="#fraud", api_url=self._slack.url, timeout=60)
        values: dict[str, Any] = {
            "outbox": Outbox(self._shop.database),
            "notifiers": {"slack": Slack(options)},
            "public_url": "http://sentinel.example",
            "owner": "worker-1",
            "clock": lambda: NOW,
            "meter": DeliveryMetrics(CollectorRegistry()),
        }
        self._made.append(Dispatcher(**{**values, **changes}))
        return self._made[-1]

    def close(self) -> None:
        for dispatcher in self._made:
            dispatcher.close()


def deliver(dispatcher: Dispatcher, now: datetime = NOW) -> int:
    claimed = dispatcher.run_once(now)
    dispatcher.finish(60)
    return claimed


@pytest.fixture
def slack() -> Iterator[SlackStub]:
    with SlackStub() as stub:
        yield stub


Make = Callable[..., Dispatcher]


@pytest.fixture
def make(shop: Shop, slack: SlackStub) -> Iterator[Make]:
    dispatchers = Dispatchers(shop, slack)
    yield dispatchers.make
    dispatchers.close()
