"""The bigquery source over a stub that answers as BigQuery documents: cost, limits, failures."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
from bigquery_parts import at_once, collection, figures, key, make, private_key, refused, stub
from servers import free_port, wait_for
from servers_bigquery import Failure, Stub

from exporter.collectors import bigquery_session
from exporter.collectors.base import Collection, Collector
from exporter.errors import CollectError

__all__ = ["at_once", "key", "make", "private_key", "stub"]  # fixtures
GIB = 1024**3
BACKOFF = bigquery_session._backoff
pytestmark = pytest.mark.usefixtures("at_once")


def test_the_cost_is_measured_and_bounded_on_the_job_itself(stub: Stub, make: Callable[..., Collector]) -> None:
    run = collection(seconds=100)
    frame = make(stub, "max_bytes: 5GiB\npriority: batch\njob_labels: {team: risk}").collect(run)
    assert frame is not None
    assert frame.to_dict(as_series=False) == {"rate": [0.5, 0.25], "account_id": ["acc_001", "acc_002"]}
    assert figures(run) == {
        "bigquery_estimated_bytes": ("gauge", 3 * GIB),
        "bigquery_processed_bytes": ("counter", 3 * GIB),
        "bigquery_billed_bytes": ("counter", 3 * GIB + 1024**2),
        "bigquery_slot_seconds": ("counter", 4.5),
        "bigquery_cache_hit": ("gauge", 0),
    }
    configuration = stub.bodies["insert"]["configuration"]
    assert configuration["query"]["maximumBytesBilled"] == str(5 * GIB)
    assert configuration["query"]["priority"] == "BATCH"
    assert configuration["labels"] == {"team": "risk", "sentinel-source": "daily_stats"}
    assert 0 < int(configuration["jobTimeoutMs"]) <= 100_000
    assert stub.bodies["insert"]["jobReference"]["location"] == "EU"  # where the dry run says that the data is
    assert stub.bodies["insert"]["jobReference"]["jobId"].startswith("sentinel-Daily_stats-")
    assert set(stub.authorizations) == {""}


def test_a_cached_result_costs_nothing_and_says_so(stub: Stub, make: Callable[..., Collector]) -> None:
    stub.statistics = {"totalBytesProcessed": "0", "totalBytesBilled": "0", "cacheHit": True}
    run = collection()
    make(stub).collect(run)
    assert figures(run)["bigquery_cache_hit"] == ("gauge", 1)
    assert figures(run)["bigquery_billed_bytes"] == ("counter", 0)


@pytest.mark.parametrize(
    ("estimated", "max_bytes", "words"),
    [
        (3 * GIB, "1.5GiB", "would read 3.0 GiB, more than max_bytes (1.5 GiB), and was not run"),
        (10 * GIB + 1, "10GiB", "would read 10,737,418,241 bytes, more than max_bytes (10,737,418,240 bytes)"),
        (11 * GIB, "", "max_bytes (10.0 GiB)"),
    ],
)
def test_a_query_over_its_budget_is_not_run(
    stub: Stub, make: Callable[..., Collector], estimated: int, max_bytes: str, words: str
) -> None:
    stub.estimated = estimated
    run = collection()
    error = refused(make(stub, f"max_bytes: {max_bytes}" if max_bytes else ""), run)
    assert error.reason == "budget"
    assert words in str(error)
    assert stub.calls == ["estimate"]
    assert figures(run) == {"bigquery_estimated_bytes": ("gauge", estimated)}


def test_no_budget_is_possible_when_it_is_said(stub: Stub, make: Callable[..., Collector]) -> None:
    stub.estimated = 10**15
    make(stub, "max_bytes: null").collect(collection())
    assert "maximumBytesBilled" not in stub.bodies["insert"]["configuration"]["query"]


def test_a_statement_that_writes_is_not_run(stub: Stub, make: Callable[..., Collector]) -> None:
    stub.statement = "DELETE"
    error = refused(make(stub), collection())
    assert error.reason == "query"
    assert "DELETE, not one SELECT" in str(error)
    assert stub.calls == ["estimate"]


def test_what_was_billed_counts_although_the_rows_are_refused(stub: Stub, make: Callable[..., Collector]) -> None:
    stub.rows = [[str(number), "1"] for number in range(5)]
    run = collection()
    assert refused(make(stub, "max_rows: 4"), run).reason == "budget"
    assert figures(run)["bigquery_billed_bytes"][1] > 0
    assert not any("startIndex" in query for query in stub.queries)  # not one row was downloaded


def test_rows_beyond_the_budget_are_not_downloaded(stub: Stub, make: Callable[..., Collector]) -> None:
    stub.rows = [[str(number), "1"] for number in range(1000)]
    stub.page = 3
    run = collection()
    frame = make(stub, "max_rows: 4\nover_budget: truncate").collect(run)
    assert isinstance(frame, pl.DataFrame)
    assert frame["account_id"].to_list() == ["0", "1", "2", "3"]
    assert [warning.reason for warning in run.warnings] == ["rows_truncated"]
    assert sum("startIndex" in query or "pageToken" in query for query in stub.queries) == 2


def test_an_empty_result_has_fields(stub: Stub, make: Callable[..., Collector]) -> None:
    stub.rows = []
    run = collection()
    frame = make(stub).collect(run)
    assert isinstance(frame, pl.DataFrame)
    assert (set(frame.columns), len(frame)) == ({"account_id", "rate"}, 0)
    assert run.fields == ["account_id", "rate"]


@dataclass
class Refusal:
    operation: str
    failure: Failure
    reason: str
    words: str


REFUSALS = [
    Refusal("estimate", Failure(401, "authError", "Invalid Credentials"), "denied", "credentials were refused"),
    Refusal("estimate", Failure(403, "accessDenied", "Access Denied: Table x"), "denied", "bigquery.jobUser"),
    Refusal("estimate", Failure(404, "notFound", "Not found: Table x"), "query", "does location name"),
    Refusal("estimate", Failure(400, "invalidQuery", "Unrecognized name: rat at [2:6]"), "query", "'FROM shop.pay"),
    Refusal("estimate", Failure(404, body="<html>Not Found</html>"), "bad_answer", "is the endpoint right"),
    Refusal("estimate", Failure(200, body="<html>Sign in</html>"), "bad_answer", "is the endpoint right"),
    Refusal("estimate", Failure(200, body="[]"), "bad_answer", "cannot be read"),
    Refusal("insert", Failure(200, body="{}"), "bad_answer", "cannot be read"),
    Refusal("get", Failure(200, body='{"status": 3}'), "bad_answer", "cannot be read"),
    Refusal("results", Failure(200, body='{"jobComplete": true}'), "bad_answer", "no table of rows"),
    Refusal("insert", Failure(403, "quotaExceeded", "Quota exceeded"), "rate_limited", "Quota exceeded"),
    Refusal("results", Failure(403, "responseTooLarge", "Response too large"), "query", "Response too large"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: f"{refusal.operation}-{refusal.failure.reason}")
def test_each_refusal_has_its_reason(stub: Stub, make: Callable[..., Collector], refusal: Refusal) -> None:
    stub.fail[refusal.operation] = [refusal.failure] * 8
    error = refused(make(stub), collection())
    assert error.reason == refusal.reason, str(error)
    assert refusal.words in str(error)
    assert error.stops == (refusal.failure.status == 401)


@pytest.mark.parametrize("operation", ["estimate", "insert", "get", "results"])
@pytest.mark.parametrize(
    "failure",
    [
        Failure(503, "backendError"),
        Failure(429, "rateLimitExceeded", headers={"Retry-After": "0"}),
        Failure(403, "jobRateLimitExceeded"),
        Failure(0, disconnect=True),
        Failure(502, body="<html>Bad Gateway</html>"),
    ],
    ids=["503", "429", "403", "disconnect", "502"],
)
def test_what_passes_is_tried_again(
    stub: Stub, make: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch, operation: str, failure: Failure
) -> None:
    stub.fail[operation] = [failure]
    run = collection()
    waits: list[float] = []
    monkeypatch.setattr(bigquery_session, "_backoff", BACKOFF)
    monkeypatch.setattr(Collection, "sleep", lambda _, seconds: waits.append(seconds))
    frame = make(stub).collect(run)
    assert frame is not None
    assert len(frame) == 2
    assert len(waits) == 1
    assert waits == [0] if failure.headers else 0.4 < waits[0] < 1
    assert stub.calls.count("insert") == 1 + (operation == "insert")


def test_a_job_whose_creation_was_not_heard_of_is_not_run_twice(
    stub: Stub, make: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collection, "sleep", lambda *_: None)
    stub.fail["insert"] = [Failure(0, disconnect=True), Failure(409, "duplicate", "Already Exists: Job")]
    frame = make(stub).collect(collection())
    assert frame is not None
    assert len(frame) == 2


def test_pages_that_were_read_are_not_read_again(
    stub: Stub, make: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collection, "sleep", lambda *_: stub.fail.clear())
    stub.rows, stub.page = [[str(number), "1"] for number in range(10)], 4
    answer = stub.answer

    def third_page_breaks(operation: str, job_id: str, params: dict[str, str]) -> dict[str, Any]:
        if params.get("pageToken") == "4" and "third" not in stub.fail:
            stub.fail["third"] = []
            stub.fail["results"] = [Failure(503, "backendError")]
        return answer(operation, job_id, params)

    stub.answer = third_page_breaks  # type: ignore[method-assign]
    frame = make(stub).collect(collection())
    assert frame is not None
    assert frame["account_id"].to_list() == [str(number) for number in range(10)]
    assert [query["startIndex"] for query in stub.queries if "startIndex" in query] == ["0", "8"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"reason": "invalidQuery", "message": "Division by zero: 1 / 0"}, "query"),
        ({"reason": "bytesBilledLimitExceeded", "message": "Query exceeded limit for bytes billed"}, "budget"),
        ({"reason": "accessDenied", "message": "Access Denied"}, "denied"),
        ({"reason": "backendError", "message": "Try again"}, "server_error"),
        ({"reason": "stopped", "message": "Job execution was cancelled: Job timed out"}, "timeout"),
        ({"reason": "resourcesExceeded", "message": "Not enough resources"}, "query"),
    ],
)
def test_a_job_that_fails_is_told_by_its_own_error(
    stub: Stub, make: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch, said: dict[str, str], reason: str
) -> None:
    monkeypatch.setattr(Collection, "sleep", lambda *_: pytest.fail("waited for a job that has ended"))
    stub.error = said
    error = refused(make(stub), collection())
    assert error.reason == reason
    assert said["message"] in str(error)
    assert stub.calls.count("insert") == 1
    assert "cancel" not in stub.calls


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough to cancel a query on a machine that stands still for seconds."""
    monkeypatch.setattr(bigquery_session, "_FAREWELL", 60.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("held", ["insert", "get", "results"])
def test_a_query_is_cancelled_on_the_server_at_the_timeout(
    stub: Stub, make: Callable[..., Collector], held: str
) -> None:
    stub.held, stub.polls = {held}, 10_000
    collector, run = make(stub), collection()

    def clock() -> float:
        """A minute is left, half a second of it once the query is begun, and nothing when what hangs was reached."""
        before = "estimate" if held == "insert" else "insert"
        return run.deadline - (0 if held in stub.calls else 0.5 if before in stub.calls else 60)

    run.clock = clock
    assert refused(collector, run).reason == "timeout"
    assert "cancel" in stub.calls
    assert figures(run)["bigquery_billed_bytes"][1] > 0  # of a query that was cancelled, too


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("held", ["estimate", "insert", "get", "results", "token"])
def test_cancel_ends_a_collection_whatever_it_waits_for(
    stub: Stub, make: Callable[..., Collector], key: dict[str, str], held: str
) -> None:
    stub.held, stub.polls = {held}, 10_000
    collector, run = make(stub, credentials="credentials_env: KEY"), collection(seconds=3600, KEY=json.dumps(key))
    errors: list[CollectError] = []
    thread = threading.Thread(target=lambda: errors.append(refused(collector, run)))
    thread.start()
    wait_for(lambda: held in stub.calls, what="the request that hangs", timeout=60)
    run.cancelled.set()
    collector.cancel()
    thread.join()
    assert [error.reason for error in errors] == ["timeout"]
    assert ("cancel" in stub.calls) == (held not in ("estimate", "token"))
    collector.cancel()
    stub.held, stub.polls = set(), 0
    assert collector.collect(collection(KEY=json.dumps(key))) is not None


def test_cancelling_ends_a_wait_between_two_tries(stub: Stub, make: Callable[..., Collector]) -> None:
    stub.fail["estimate"] = [Failure(503, "backendError", headers={"Retry-After": "2000"})] * 8
    collector, run = make(stub), collection(seconds=3600)
    thread = threading.Thread(target=lambda: refused(collector, run))
    thread.start()
    wait_for(lambda: stub.calls, what="the first try", timeout=60)
    run.cancelled.set()
    collector.cancel()
    thread.join()


def test_tries_end_with_the_deadline(
    stub: Stub, make: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.fail["estimate"] = [Failure(503, "backendError", headers={"Retry-After": "60"})] * 50
    waits: list[float] = []
    monkeypatch.setattr(Collection, "sleep", lambda _, seconds: waits.append(seconds))
    run = collection()
    run.deadline, run.clock = 100, lambda: sum(waits)
    assert refused(make(stub), run).reason == "server_error"
    assert (waits, stub.calls) == ([60], ["estimate", "estimate"])


def test_no_server_is_unreachable(make: Callable[..., Collector]) -> None:
    error = refused(make(Stub(f"http://127.0.0.1:{free_port()}")), collection())
    assert error.reason == "unreachable"
    assert "Connection refused" in str(error)
