"""Charts that a rate limit holds up reach their thread when it is over; the text is never sent again for them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dispatchers import Dispatchers, History, deliver
from fakes_slack import SlackStub
from notes import NOW, Shop

from webhook.adapters.charts import MatplotlibCharts
from webhook.pipeline.chart import AlertChart
from webhook.pipeline.dispatch import CHART_TRIES, Dispatcher

STEPS = ("files.getUploadURLExternal", "upload", "files.completeUploadExternal")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """When a chart is tried again makes no difference to the database."""
    shop = Shop(f"sqlite:///{tmp_path}/sentinel.db")
    yield shop
    shop.close()


@pytest.fixture
def slack() -> Iterator[SlackStub]:
    with SlackStub() as stub:
        yield stub


@pytest.fixture
def dispatcher(shop: Shop, slack: SlackStub) -> Iterator[Dispatcher]:
    made = Dispatchers(shop, slack)
    yield made.make(chart=AlertChart(History(), MatplotlibCharts()))
    made.close()


def after(dispatcher: Dispatcher, seconds: float) -> None:
    """What happens until so long after the text was sent."""
    deliver(dispatcher, NOW + timedelta(seconds=seconds))


def chart_of(shop: Shop, sent: str) -> Any:
    return shop.row(sent)["metadata"].get("chart")


@pytest.mark.parametrize("step", STEPS)
def test_a_rate_limit_on_an_upload_is_waited_for(
    shop: Shop, slack: SlackStub, dispatcher: Dispatcher, step: str
) -> None:
    slack.fail_next(step, status=429, retry_after=20)
    sent = shop.add_notification(shop.add_alert())
    deliver(dispatcher)
    assert (shop.row(sent)["status"], chart_of(shop, sent)) == ("SENT", None)
    asked = len(slack.calls)
    after(dispatcher, 19)
    assert len(slack.calls) == asked, "it asked us to wait"
    after(dispatcher, 20)
    assert [file[:4] for file in slack.files] == [b"\x89PNG"]
    assert slack.shared[0]["thread_ts"] == slack.messages[0]["ts"]
    assert chart_of(shop, sent) == {"bytes": len(slack.files[0])}
    assert len(slack.messages) == 1


def test_a_limit_that_does_not_end_is_given_up(shop: Shop, slack: SlackStub, dispatcher: Dispatcher) -> None:
    slack.fail_next(STEPS[0], status=429, retry_after=30, times=10)
    sent = shop.add_notification(shop.add_alert())
    deliver(dispatcher)
    for seconds in range(30, 330, 30):
        after(dispatcher, seconds)
    assert len(slack.asked(STEPS[0])) == CHART_TRIES
    assert chart_of(shop, sent) == {"error": "Slack: rate limited, wait 30 s"}


@pytest.mark.parametrize("failure", [{"status": 429, "retry_after": 600}, {"status": 503}, {"reset": True}])
def test_what_takes_too_long_or_may_have_arrived_is_not_tried_again(
    shop: Shop, slack: SlackStub, dispatcher: Dispatcher, failure: dict[str, Any]
) -> None:
    slack.fail_next(STEPS[2], **failure)
    sent = shop.add_notification(shop.add_alert())
    deliver(dispatcher)
    after(dispatcher, 3600)
    assert "error" in chart_of(shop, sent)
    assert len(slack.asked(STEPS[2])) == 1
