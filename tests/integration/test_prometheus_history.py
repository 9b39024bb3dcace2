"""Metric history from a real Prometheus that was filled with known values."""

from __future__ import annotations

import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import servers
from fakes_llm import LlmStub, failure, hanging, raw

from webhook.adapters.prometheus import PrometheusHistory, account_query
from webhook.ports import HistoryUnavailable

ODD = 'acc "odd" \\ one'
END = datetime.fromtimestamp(int(time.time()) // 60 * 60, UTC) - timedelta(hours=3)
START = END - timedelta(minutes=10)
STEP = timedelta(minutes=1)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two replicas of one account, of which the second runs a little ahead, and an account with an odd name."""
    folder = tmp_path_factory.mktemp("history")
    lines = ["# TYPE sentinel_block_rate gauge"]
    odd = ODD.replace("\\", "\\\\").replace('"', '\\"')
    for label, offset in (('account_id="acc_1",pod="a"', 0.0), ('account_id="acc_1",pod="b"', 0.001)):
        for n in range(11):
            at = (START + n * STEP).timestamp()
            lines.append(f"sentinel_block_rate{{{label}}} {0.1 + n / 100 + offset} {at}")
    days = {day: (END - timedelta(days=day)).timestamp() for day in range(3, -1, -1)}
    lines += [f'sentinel_block_rate{{account_id="acc_days"}} {day / 10} {at}' for day, at in days.items()]
    lines += [f'sentinel_block_rate{{account_id="{odd}"}} 0.5 {END.timestamp()}', "# EOF", ""]
    (folder / "history.txt").write_text("\n".join(lines))
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "history.txt", folder / "data"]
    subprocess.run(command, check=True, capture_output=True)
    config = folder / "prometheus.yml"
    config.write_text("global: {scrape_interval: 1h}\n")
    with servers.prometheus(config, data=folder / "data") as url:
        yield url


def test_the_maximum_over_replicas_in_full_precision(prometheus: str) -> None:
    history = PrometheusHistory(prometheus, timeout=60)
    series = history.range("block_rate", "acc_1", START, END, STEP)
    history.close()

    assert series.metric == "block_rate"
    assert list(series.times) == [START + n * STEP for n in range(11)]
    assert list(series.values) == [0.1 + n / 100 + 0.001 for n in range(11)]


def test_the_same_hour_of_each_day_before_at_the_time_of_today(prometheus: str) -> None:
    history = PrometheusHistory(prometheus, timeout=60)
    found = history.past_days("block_rate", "acc_days", END, END, STEP, days=7)
    assert found == {1: [(END, 0.1)], 2: [(END, 0.2)], 3: [(END, 0.3)]}
    assert history.past_days("block_rate", "acc_unknown", END, END, STEP, days=7) == {}
    history.close()


def test_names_from_outside_are_escaped(prometheus: str) -> None:
    history = PrometheusHistory(prometheus, timeout=60)
    assert list(history.range("block_rate", ODD, END, END, STEP).values) == [0.5]
    assert list(history.range("block_rate", 'x"} or sentinel_block_rate{a!="', END, END, STEP).values) == []
    history.close()


@pytest.mark.parametrize("metric", ["", "block rate", 'x{a="b"}', "up) or (up", "1x", "a\n"])
def test_what_is_no_metric_name_is_not_asked_for(metric: str) -> None:
    with pytest.raises(HistoryUnavailable, match="no metric name"):
        account_query(metric, "acc_1")


def test_too_many_points_are_prometheus_error(prometheus: str) -> None:
    history = PrometheusHistory(prometheus, timeout=60)
    with pytest.raises(HistoryUnavailable, match="bad_data"):
        history.range("block_rate", "acc_1", START, START + timedelta(days=9), timedelta(seconds=1))
    history.close()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"status": "success"}', b"<html>"])
def test_an_answer_of_another_shape_is_unavailable(body: bytes) -> None:
    with LlmStub(answers=[raw(body)]) as stub:
        history = PrometheusHistory(stub.url)
        with pytest.raises(HistoryUnavailable):
            history.range("block_rate", "acc_1", START, END, STEP)
        history.close()


def test_nobody_listening_is_unavailable(free_port: Callable[[], int]) -> None:
    history = PrometheusHistory(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(HistoryUnavailable):
        history.range("block_rate", "acc_1", START, END, STEP)
    history.close()


def test_a_slow_prometheus_is_given_up(tmp_path: Path) -> None:
    with LlmStub(answers=[hanging()]) as stub:
        history = PrometheusHistory(stub.url, timeout=0.2)
        with pytest.raises(HistoryUnavailable):
            history.range("block_rate", "acc_1", START, END, STEP)
        history.close()


@pytest.mark.parametrize("answer", [failure(503), raw(b"<html>"), raw(b"[]"), None])
def test_a_password_in_the_address_is_told_to_nobody(
    answer: Callable[..., None] | None, free_port: Callable[[], int]
) -> None:
    with LlmStub(answers=[answer] if answer else []) as stub:
        url = stub.url if answer else f"http://127.0.0.1:{free_port()}"
        source = PrometheusHistory(url.replace("http://", "http://user:S3CRET@"))
        with pytest.raises(HistoryUnavailable) as caught:
            source.range("block_rate", "acc_1", START, END, STEP)
        source.close()
    assert "S3CRET" not in "".join(traceback.format_exception(caught.value))
