"""Charts come after their text, and whatever becomes of them harms no text."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

from dispatchers import History, Make, deliver, make, slack
from fakes_slack import SlackStub
from notes import NOW, Shop, shop
from servers import wait_for
from structlog.testing import capture_logs

from webhook.adapters.charts import MatplotlibCharts
from webhook.pipeline.chart import AlertChart

__all__ = ["make", "shop", "slack"]


def test_text_then_chart(shop: Shop, slack: SlackStub, make: Make) -> None:
    history = History()
    sent = shop.add_notification(shop.add_alert(started=NOW - timedelta(minutes=10)))

    assert deliver(make(chart=AlertChart(history, MatplotlibCharts()))) == 1

    (message,) = slack.messages
    assert message["channel"] == "#northwind"
    assert "35.04 % (threshold 20 %)" in json.dumps(message["blocks"], ensure_ascii=False)
    assert [file[:4] for file in slack.files] == [b"\x89PNG"]
    assert slack.shared[0]["thread_ts"] == message["ts"]
    assert history.asked == [("block_rate", "acc_017")]
    row = shop.row(sent)
    assert (row["status"], row["sent_at"]) == ("SENT", NOW)
    assert row["metadata"]["provider"]["reference"] == message["ts"]
    assert row["metadata"]["chart"]["bytes"] == len(slack.files[0])
    assert slack.calls[0].method == "chat.postMessage"


def test_a_chart_that_fails_leaves_the_text_sent(shop: Shop, slack: SlackStub, make: Make) -> None:
    sent = shop.add_notification(shop.add_alert())
    with capture_logs() as logs:
        deliver(make(chart=AlertChart(History(away=True), MatplotlibCharts())))

    row = shop.row(sent)
    assert (row["status"], row["error_message"]) == ("SENT", None)
    assert row["metadata"]["chart"] == {"error": "Prometheus: connection refused"}
    assert "chart_failed" in {entry["event"] for entry in logs}
    assert len(slack.messages) == 1


def test_an_upload_that_fails_leaves_the_text_sent(shop: Shop, slack: SlackStub, make: Make) -> None:
    slack.fail_next("files.completeUploadExternal", error="not_in_channel")
    sent = shop.add_notification(shop.add_alert())
    deliver(make(chart=AlertChart(History(), MatplotlibCharts())))

    assert shop.row(sent)["status"] == "SENT"
    assert shop.row(sent)["metadata"]["chart"] == {
        "error": "Slack: not_in_channel: the bot is not in the channel: invite it there"
    }


def test_a_chart_that_breaks_in_an_unforeseen_way_harms_nobody(shop: Shop, slack: SlackStub, make: Make) -> None:
    class Broken(MatplotlibCharts):
        def render(self, *_: object) -> bytes:
            raise ZeroDivisionError

    dispatcher = make(chart=AlertChart(History(), Broken()))
    sent = shop.add_notification(shop.add_alert())
    with capture_logs() as logs:
        deliver(dispatcher)

    assert shop.row(sent)["status"] == "SENT"
    assert shop.row(sent)["metadata"]["chart"] == {"error": "ZeroDivisionError()"}
    assert "work_failed" in {entry["event"] for entry in logs}
    shop.add_notification(shop.add_alert())
    assert deliver(dispatcher) == 1


def test_charts_wait_for_a_moment_without_texts(shop: Shop, slack: SlackStub, make: Make) -> None:
    never, history = threading.Event(), History()
    slack.fail_next("chat.postMessage", hold=never)
    for number in range(2):
        shop.add_notification(shop.add_alert(started=NOW - timedelta(minutes=10)), account_id=f"acc_{number}")
    dispatcher = make(chart=AlertChart(history, MatplotlibCharts()))
    dispatcher.run_once(NOW)
    wait_for(lambda: len(slack.messages) == 1, what="the text that is not held")
    assert history.asked == []
    never.set()
    dispatcher.finish(60)
    assert len(slack.messages) == 2
    wait_for(lambda: len(slack.files) == 2, what="charts")
