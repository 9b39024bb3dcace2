"""The rest_api source over a server that answers as the metric platform documents, well and badly."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from exporter_parts import Scraped, running
from rest_sources import at_once
from servers import wait_for
from servers_http import Answer, Api, Seen, api_server

from exporter.collectors import http_json

__all__ = ["at_once"]  # a fixture
pytestmark = pytest.mark.usefixtures("at_once")
TOKEN = "t0ken-that-must-not-leak"
SOURCE = """
- name: source
  type: rest_api
  endpoint: {url}/api/v1/metrics/aggregated?kind=fraud
  auth: {{type: bearer_token, token_env: METRIC_PLATFORM_TOKEN}}
  interval: {interval}
  max_staleness: 2h
  timeout: {timeout}
  time_window: 2m
  params:
    time_from: "{{time_from}}"
    time_to: "{{time_to}}"
    metric_names: block_rate,failed_auth_rate
  pivot: {{path: metrics, name: metric_name, value: metric_value}}
  pagination: {{type: page, page_param: page, size_param: page_size, size: 2, max_pages: {max_pages}}}
  max_response_bytes: 1000000
  metrics:
    - {{source_field: failed_auth_rate, prometheus_name: sentinel_failed_auth_rate, labels: [account_id]}}
    - {{source_field: block_rate, prometheus_name: sentinel_block_rate,
       labels: {{account_id: account_id, region: metadata.region}}}}
"""
PLAIN = """
- name: source
  type: rest_api
  endpoint: {url}/plain
  interval: 1h
  timeout: 60s
  metrics:
    - {{source_field: block_rate, prometheus_name: sentinel_block_rate, labels: [account_id]}}
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("METRIC_PLATFORM_TOKEN", TOKEN)
    with api_server() as server:
        yield server


def source(server: Api, *, interval: str = "1h", timeout: str = "60s", max_pages: int = 100) -> str:
    return SOURCE.format(url=server.url, interval=interval, timeout=timeout, max_pages=max_pages)


def account(number: int, **metrics: float | None) -> dict[str, Any]:
    return {
        "account_id": f"acc_{number}",
        "time_window": {"from": "2025-11-24T10:00:00Z", "to": "2025-11-24T10:05:00Z"},
        "metrics": [
            {"metric_name": name, "metric_value": value, "aggregation": "avg", "sample_count": 1000}
            for name, value in metrics.items()
        ],
        "metadata": {"region": "AP", "source_system": "metric-platform"},
    }


def page(rows: list[dict[str, Any]], *, more: bool = False) -> dict[str, Any]:
    return {"data": rows, "pagination": {"total": len(rows), "has_more": more}}


def test_the_documented_answer_page_by_page(server: Api) -> None:
    accounts = [account(i, block_rate=i / 7, failed_auth_rate=i / 9) for i in range(5)]
    del accounts[3]["metadata"]

    def answer(request: Seen) -> Answer:
        first = (int(request.params["page"]) - 1) * int(request.params["page_size"])
        rows = accounts[first : first + 2]
        return Answer(body=page(rows, more=first + 2 < 5), compressed=True)

    server.answer, began = answer, datetime.now(UTC).replace(microsecond=0)
    with running(source(server)) as exporter:
        scraped = exporter.tried()
        assert scraped.values("sentinel_failed_auth_rate", "account_id") == {f"acc_{i}": i / 9 for i in range(5)}
        assert scraped.value("sentinel_block_rate", account_id="acc_4", region="AP") == 4 / 7
        assert scraped.value("sentinel_block_rate", account_id="acc_3", region="") == 3 / 7
    assert [request.params["page"] for request in server.requests] == ["1", "2", "3"]
    first = server.requests[0]
    assert first.headers["Authorization"] == f"Bearer {TOKEN}"
    assert (first.path, first.params["kind"]) == ("/api/v1/metrics/aggregated", "fraud")
    assert first.params["metric_names"] == "block_rate,failed_auth_rate"
    since, until = (datetime.fromisoformat(first.params[name]) for name in ("time_from", "time_to"))
    assert first.params["time_to"].endswith("Z")
    assert (until - since).total_seconds() == 120
    assert until >= began


def test_429_with_retry_after_and_500_are_tried_again_in_the_same_run(server: Api) -> None:
    answers = iter([
        Answer(429, headers={"Retry-After": "1"}),
        Answer(500),
        Answer(body=page([account(1, block_rate=0.5, failed_auth_rate=0.25)])),
    ])  # fmt: skip
    times: list[float] = []

    def answer(_: Seen) -> Answer:
        times.append(time.monotonic())
        return next(answers)

    server.answer = answer
    with running(source(server)) as exporter:
        scraped = exporter.tried()
        assert scraped.value("sentinel_failed_auth_rate", account_id="acc_1") == 0.25
        assert scraped.value("sentinel_source_up", source="source") == 1
        assert "sentinel_source_errors_total{" not in scraped.text
    assert times[1] - times[0] >= 1


def test_a_retry_after_beyond_the_timeout_ends_the_run_and_is_kept_to(server: Api) -> None:
    server.answer = lambda _: Answer(429, headers={"Retry-After": "600"})
    began = time.monotonic()
    with running(source(server, interval="30s")) as exporter:
        exporter.tried()
        reason, message = exporter.error()
        assert (reason, len(server.requests)) == ("rate_limited", 1)
        assert "429" in message
        (state,) = exporter.exporter._scheduler.states
        assert state.next_run is not None
        assert state.next_run >= began + 600


@pytest.mark.parametrize(
    ("status", "words"), [(401, "the token from METRIC_PLATFORM_TOKEN was refused"), (403, "not read")]
)
def test_a_refused_token_is_said_and_not_tried_again_at_once(server: Api, status: int, words: str) -> None:
    server.answer = lambda _: Answer(status, body={"error": f"bad token {TOKEN}"})
    with running(source(server)) as exporter:
        exporter.tried()
        reason, message = exporter.error()
        assert (reason, len(server.requests)) == ("denied", 1)
        assert words in message
        (state,) = exporter.exporter._scheduler.states
        assert state.last_failure is not None
        assert not state.last_failure.retryable


def test_a_rotated_token_is_picked_up(server: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    good = page([account(1, block_rate=0.5, failed_auth_rate=0.25)])
    server.answer = lambda request: (
        Answer(body=good) if request.headers["Authorization"] == "Bearer new" else Answer(401)
    )
    with running(source(server, interval="300ms")) as exporter:
        exporter.tried()
        assert exporter.error()[0] == "denied"
        monkeypatch.setenv("METRIC_PLATFORM_TOKEN", "new")
        exporter.wait(lambda s: s.value("sentinel_source_up", source="source") == 1, "let in")
        monkeypatch.delenv("METRIC_PLATFORM_TOKEN")
        exporter.wait(lambda s: s.value("sentinel_source_up", source="source") == 0, "no token")
        assert exporter.error() == ("secret", "environment variable METRIC_PLATFORM_TOKEN is not set")


HTML = "<!doctype html><title>Log in</title>"


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (Answer(body=HTML, headers={"Content-Type": "text/html"}), "bad_answer", "HTML, not JSON"),
        (Answer(body="{", headers={"Content-Type": "text/plain"}), "bad_answer", "(text/plain). It starts with '{'"),
        (Answer(body="[" * 100_000), "bad_answer", "no JSON"),
        (Answer(body=""), "bad_answer", "It is empty"),
        (Answer(404, body="no such page"), "bad_answer", "404 Not Found: is the endpoint right?"),
        (Answer(body={"rows": []}), "bad_answer", "nothing at rows `data`; it is an object with rows"),
        (Answer(body={"data": {"a": 1}}), "bad_answer", "rows `data` is an object with a, not a list"),
        (Answer(body={"data": [{"account_id": "a"}, 7]}), "bad_answer", "rows `data`[1] is a number, not an object"),
        (Answer(body=[1, 2]), "bad_answer", "nothing at rows `data`; it is a list of 2"),
        (Answer(body={"data": [{"account_id": "a", "block_rat": 1, "m": {"x": 1}}]}), "missing_field",
         "no field 'block_rate'; did you mean 'block_rat'? It has: account_id, block_rat, m.x"),
        (Answer(body={"data": [{"account_id": "a", "block_rate": 1}] * 2}), "duplicates", "2 rows"),
        (Answer(body=b"\x1f\x8b damaged", headers={"Content-Encoding": "gzip"}), "bad_answer", "damaged"),
        (Answer(body="{}", headers={"Content-Length": "99", "Connection": "close"}), "unreachable", "/plain"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_named(server: Api, answer: Answer, reason: str, words: str) -> None:
    server.answer = lambda _: answer
    with running(PLAIN.format(url=server.url)) as exporter:
        exporter.tried()
        found, message = exporter.error()
        assert found == reason
        assert words in message
        assert "\n" not in message


def test_pagination_without_has_more_is_named(server: Api) -> None:
    server.answer = lambda _: Answer(body={"data": []})
    with running(source(server)) as exporter:
        exporter.tried()
        assert "no true or false at `pagination.has_more`" in exporter.error()[1]


def test_endless_pages_are_refused(server: Api) -> None:
    numbers = itertools.count()
    server.answer = lambda _: Answer(body=page([account(next(numbers), block_rate=1, failed_auth_rate=1)], more=True))
    with running(source(server, max_pages=3)) as exporter:
        exporter.tried()
        assert exporter.error()[0] == "budget"
        assert "max_pages (3)" in exporter.error()[1]
        assert len(server.requests) == 3


def test_pages_that_are_not_read_are_counted(server: Api) -> None:
    server.answer = lambda _: Answer(body=page([{"account_id": "a", "block_rate": 1}], more=True))
    with running(PLAIN.format(url=server.url)) as exporter:
        scraped = exporter.tried()
        assert scraped.value("sentinel_block_rate", account_id="a") == 1
        assert scraped.value("sentinel_source_warnings_total", source="source", reason="truncated") == 1


@pytest.mark.parametrize("compressed", [False, True])
def test_a_response_that_is_too_large_is_refused(server: Api, compressed: bool) -> None:
    server.answer = lambda _: Answer(body=b" " * 50_000_000, compressed=compressed)
    with running(source(server)) as exporter:
        exporter.tried()
        assert exporter.error() == ("budget", "the answer is larger than max_response_bytes (1000000)")


def test_odd_values_are_left_out_and_counted_and_the_rest_is_served(server: Api) -> None:
    rows = [
        account(1, block_rate=0.5, failed_auth_rate=None),
        account(2, block_rate=1, failed_auth_rate=float("nan")),
        {"account_id": "acc_3", "metrics": "none"},
        {"account_id": "acc_4", "metrics": [{"metric_name": "block_rate"}, 5, {"metric_name": [1], "metric_value": 1}]},
        {"account_id": "acc_5", "metrics": [{"metric_name": "block_rate", "metric_value": "0.75"}]},
        {"account_id": "acc_6", "metrics": [{"metric_name": "block_rate", "metric_value": [1]}]},
        {"account_id": "acc_7", "metrics": [{"metric_name": "block_rate", "metric_value": "many"}]},
    ]
    server.answer = lambda _: Answer(body=page(rows))
    with running(source(server)) as exporter:
        scraped = exporter.tried()
        assert scraped.values("sentinel_block_rate", "account_id") == {"acc_1": 0.5, "acc_2": 1, "acc_5": 0.75}
        assert list(scraped.values("sentinel_failed_auth_rate", "account_id")) == ["acc_2"]
        counts = scraped.values("sentinel_source_warnings_total", "reason")
        assert counts == {"pivot_skipped": 4, "not_plain": 1, "not_a_number": 1}


def test_an_empty_answer_has_no_series_and_is_no_failure(server: Api) -> None:
    server.answer = lambda _: Answer(body=page([]))
    with running(source(server)) as exporter:
        scraped = exporter.tried()
        assert scraped.value("sentinel_source_up", source="source") == 1
        assert scraped.value("sentinel_source_series", source="source") == 0


def warnings(scraped: Scraped) -> dict[str, float]:
    return scraped.values("sentinel_source_warnings_total", "reason")


def test_a_quiet_metric_goes_without_a_failure_and_comes_back(server: Api) -> None:
    rows = [account(1, block_rate=0.5, failed_auth_rate=0.25)]
    server.answer = lambda _: Answer(body=page(rows))
    with running(source(server, interval="200ms")) as exporter:
        exporter.wait(lambda s: "sentinel_block_rate" in s.samples, "served")
        rows[:] = [account(1, failed_auth_rate=0.25)]
        scraped = exporter.wait(lambda s: "sentinel_block_rate" not in s.samples, "one is quiet")
        assert scraped.values("sentinel_failed_auth_rate", "account_id") == {"acc_1": 0.25}
        assert "no row has block_rate" in exporter.get("/").text
        rows[:] = [account(1), account(2)]
        scraped = exporter.wait(lambda s: "sentinel_failed_auth_rate" not in s.samples, "all are quiet")
        assert scraped.value("sentinel_source_up", source="source") == 1
        assert set(warnings(scraped)) == {"pivot_absent"}
        rows[:] = [account(1, block_rate=0.5, failed_auth_rate=0.25)]
        exporter.wait(lambda s: "sentinel_block_rate" in s.samples, "back")


@pytest.mark.parametrize("metrics", [None, [{"name": "block_rate", "metric_value": 1}]])
def test_rows_without_the_lists_of_pairs_are_a_failure(server: Api, metrics: object) -> None:
    server.answer = lambda _: Answer(body=page([account(1) | {"metrics": metrics}]))
    with running(source(server)) as exporter:
        exporter.tried()
        reason, message = exporter.error()
        assert reason == "missing_field"
        assert "no field 'failed_auth_rate'" in message


def test_a_missing_label_field_is_not_taken_for_a_quiet_metric(server: Api) -> None:
    row = account(1, block_rate=0.5, failed_auth_rate=0.25)
    del row["metadata"]
    server.answer = lambda _: Answer(body=page([row]))
    with running(source(server)) as exporter:
        scraped = exporter.tried()
        assert scraped.values("sentinel_failed_auth_rate", "account_id") == {"acc_1": 0.25}
        assert "sentinel_block_rate" not in scraped.samples
        assert warnings(scraped) == {"missing_field": 1}


@pytest.mark.parametrize("kind", ["no answer", "drip", "drip headers"])
def test_a_source_that_hangs_times_out_and_does_not_delay_another(server: Api, kind: str) -> None:
    held = threading.Event()

    def answer(request: Seen) -> Answer:
        if request.path == "/plain":
            return Answer(body={"data": [{"account_id": "a", "block_rate": 1}]})
        if kind == "drip":
            return Answer(body=b" " * 100_000, drip=True)
        if kind == "drip headers":
            return Answer(drip_headers=True)
        return Answer(held=held)

    server.answer = answer
    other = PLAIN.format(url=server.url).replace("name: source", "name: other").replace("sentinel_", "other_")
    with running(source(server, timeout="1s") + other) as exporter:
        exporter.wait(lambda s: s.value("sentinel_source_up", source="other") == 1, "the other one")
        exporter.tried()
        assert exporter.error()[0] == "timeout"
        scheduler = exporter.exporter._scheduler
        wait_for(lambda: not any(state.running_since for state in scheduler.states), what="the run ended", timeout=60)
    held.set()


def test_the_next_run_after_dripping_headers_gets_its_answer(server: Api) -> None:
    answers = itertools.chain(
        [Answer(drip_headers=True)], itertools.repeat(Answer(body=page([account(1, block_rate=1, failed_auth_rate=1)])))
    )
    server.answer = lambda _: next(answers)
    with running(source(server, interval="300ms", timeout="1s")) as exporter:
        exporter.wait(lambda s: s.value("sentinel_block_rate", account_id="acc_1", region="AP") == 1, "answered")


@pytest.mark.parametrize("answer", [Answer(body=b" " * 100_000, drip=True), Answer(drip_headers=True)])
def test_stopping_does_not_wait_for_an_answer(server: Api, answer: Answer) -> None:
    server.answer = lambda _: answer
    with running(source(server, timeout="1h")) as exporter:
        exporter.wait(lambda _: server.requests, "asked")
        (slot,) = exporter.exporter._scheduler.slots
    assert slot.closed.wait(60), "its run goes on, and nobody waits for it"


def test_no_server_is_retried_and_said_plainly(
    free_port: Callable[[], int], server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []
    monkeypatch.setattr(http_json, "_backoff", lambda state: tries.append(state.attempt_number) or 0.0)
    config = source(server).replace(server.url, f"http://127.0.0.1:{free_port()}")
    with running(config) as exporter:
        exporter.tried()
        reason, message = exporter.error()
        assert reason == "unreachable"
        assert "Connection refused" in message
        assert TOKEN not in message
    assert len(tries) == 4
